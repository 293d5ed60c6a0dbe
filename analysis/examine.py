"""The quantity of each kind of claim, from trials at their chosen learning rate."""

from dataclasses import dataclass
from functools import singledispatch
from typing import Literal

import pandas as pd

from analysis.claims import FEWEST, FEWEST_PAIRS, RATES, Claim, Contrast, Offset, Peak, Predicts, Rate, Slope
from analysis.compare import Comparison, Estimate, compare, tied
from analysis.contrast import Parallel, contrast, offset
from analysis.surface import peak, slope


@dataclass(frozen=True)
class Found:
    """What trials say of a claim's quantity."""

    interval: Estimate
    evidence: str
    """The numbers, in a sentence or two."""
    few: bool
    """Whether there is too little for more than a direction."""
    cells: int
    """Configurations or pairs that it stands on."""
    unit: Literal["configurations", "pairs"] = "configurations"
    errors: dict[str, float] | None = None
    """Left-out error by size, where the claim is about sizes."""
    confounded: str = ""
    """Why even a narrow interval would not bear the claim out."""


@singledispatch
def examine(claim: Claim, runs: pd.DataFrame) -> Found:
    """ValueError if the runs cannot tell the claim's quantity."""
    raise TypeError(f"no test for a claim of kind {claim.kind}")


@examine.register
def _(claim: Predicts, runs: pd.DataFrame) -> Found:
    found = compare(runs, claim.metric, claim.form, claim.predictor, claim.rival)
    evidence = (
        f"Left-out error {found.error:.3f} by {claim.predictor} and {found.rival_error:.3f} by {claim.rival} "
        f"({claim.scale}); difference {found.difference} on {found.configurations} configurations, {found.runs} runs. "
        f"{worth(found)}"
    )
    return Found(
        found.difference,
        evidence,
        few(found),
        found.configurations,
        errors={claim.predictor: found.error, claim.rival: found.rival_error},
        confounded=tied(runs) if claim.needs_width_apart else "",
    )


@examine.register
def _(claim: Rate, runs: pd.DataFrame) -> Found:
    found = compare(runs, claim.metric, claim.form, "N_active", "N_total")
    return Found(
        found.rate,
        f"{worth(found)} On {found.configurations} configurations, {found.runs} runs.",
        few(found),
        found.configurations,
        errors={"N_active": found.error, "N_total": found.rival_error},
        confounded=tied(runs) if claim.needs_width_apart else "",
    )


@examine.register
def _(claim: Offset, runs: pd.DataFrame) -> Found:
    found = offset(runs, claim.metric, claim.form, claim.at, claim.lead)
    evidence = f"At {claim.beside} the MoE lie {found.distance} {claim.scale} from the dense models, on {stands_on(found)}."
    return Found(found.distance, evidence, few(found), found.configurations)


@examine.register
def _(claim: Contrast, runs: pd.DataFrame) -> Found:
    found = contrast(runs, claim.metric, claim.form, claim.field, (claim.value, claim.other), claim.matched)
    bounds = f" Of {found.bounds} runs only a bound is known, which stands for the value." if found.bounds else ""
    evidence = (
        f"{claim.field} = {claim.value} less {claim.other}: {found.distance} {claim.scale}, over {found.pairs} pairs, "
        f"{found.runs} runs; means {found.mean:.3g} and {found.other_mean:.3g}.{bounds}"
    )
    return Found(found.distance, evidence, found.pairs < FEWEST_PAIRS, found.pairs, "pairs")


@examine.register
def _(claim: Slope, runs: pd.DataFrame) -> Found:
    found = slope(runs, claim.metric, claim.form, claim.along, claim.given)
    at = f" at equal {' and '.join(claim.given)}" if claim.given else ""
    evidence = f"A doubling of {claim.along}{at} changes it by {found.distance} {claim.scale}, on {stands_on(found)}."
    return Found(found.distance, evidence, few(found), found.configurations)


@examine.register
def _(claim: Peak, runs: pd.DataFrame) -> Found:
    found = peak(runs, claim.metric, claim.form, claim.along)
    middle, low, high = (10.0**end for end in (found.distance.value, found.distance.low, found.distance.high))
    evidence = f"It is highest at {claim.along} {middle:.3g} [{low:.3g}, {high:.3g}], on {stands_on(found)}."
    return Found(found.distance, evidence, few(found), found.configurations)


def few(found: Comparison | Parallel) -> bool:
    """Whether a verdict would stand on too little."""
    return found.configurations < FEWEST or found.fewest == 1


def stands_on(found: Parallel) -> str:
    """On how many cells."""
    return f"{found.configurations} configurations, {found.runs} runs"


def worth(found: Comparison) -> str:
    """The exchange rate in a sentence, and in turn how many inactive parameters make up for an active one."""
    low, high = found.profile
    sought = f"sought from {RATES[0]:g} to {RATES[1]:g}"
    inverse = ""
    if found.rate.value:
        inverse = f"; 1/r = {1 / found.rate.value:.2f} [{_inverse(high)}, {_inverse(low)}] inactive ones for an active one"
    return (
        f"An inactive parameter is worth r = {found.rate:.2f} active ones ({sought}; by the profile of the fit "
        f"{low:.2f} to {high:.2f}{inverse})."
    )


def _inverse(rate: float) -> str:
    return f"{1 / rate:.2f}" if rate else "no end"
