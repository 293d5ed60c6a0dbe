"""What a sweep sets out to decide, declared before there is data, and what the data say of it.

Every claim says that a quantity lies in a region: its 95 % interval inside supports the claim, outside contradicts it,
anything else leaves it undecided. A region with two ends is an equivalence and is tested from both (TOST, 5 %), which is to
say by its 90 % interval. The claims of one sweep are a family: what stands alone has to stand after Holm's correction too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from parrots.frozen import Frozen

if TYPE_CHECKING:  # a sweep declares claims, and must not wait for pandas to do so
    import pandas as pd

    from analysis.compare import Comparison, Estimate

Axis = Literal["N_total", "N_active"]
Form = Literal["power", "logistic"]
Verdict = Literal["supported", "contradicted", "undecided", "direction only"]
Positive = Annotated[float, Field(gt=0)]

RATES = (0.0, 3.0)  # between which the worth of an inactive parameter is sought
FEWEST = 5  # configurations; with fewer there is a direction and no verdict
FEWEST_PAIRS = 3
FAMILY = 0.05  # the chance, by Holm (1979), that any of a family's verdicts is wrong
RULE = "All of its {inside} % interval {region}: supported; none of its 95 % interval: contradicted; else undecided"


class Threshold(Frozen):
    """A quantity read off an axis of the grid: the `reading` value of `axis` at which `metric` reaches `target`.

    largest: of those tried, as the paper reads a book's size. crossing: where straight lines in the logarithm of the axis
    first meet the target, as for the width that a task needs.
    """

    axis: str
    """A field of the trial, such as task.n_entries."""
    metric: str
    target: Annotated[float, Field(gt=0, lt=1)]
    among: tuple[float, ...] = ()
    """Values of the axis that are looked at; by default all that were tried."""
    reading: Literal["largest", "crossing"] = "largest"
    along: tuple[str, ...] = ("training.steps", "task.n_test", "task.n_train")
    """Fields that change with the axis, and so do not tell configurations apart."""


class Claim(Frozen):
    """A statement about `metric` on `task`."""

    kind: str
    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    statement: str
    task: str
    metric: str
    """What `task` measures, or, with a threshold, the name of what is read off."""
    form: Form
    """power: log metric is linear in log size. logistic: the log-odds of a share of right answers are."""
    threshold: Threshold | None = None
    where: dict[str, str | int | float] = Field(default_factory=dict)
    """The trials that the claim is about, by the values of some of their fields; by default all of the task."""

    @property
    def measured(self) -> str:
        """The metric that the trials have to leave."""
        return self.threshold.metric if self.threshold else self.metric

    @property
    def region(self) -> tuple[float, float]:
        """Between which values the quantity lies if the claim is right."""
        raise NotImplementedError

    @property
    def test(self) -> str:
        """How it is decided, in sentences; fixed with the claim."""
        raise NotImplementedError

    @property
    def _rule(self) -> str:
        low, high = self.region
        said = (
            f"above {low:g}" if high == math.inf else f"below {high:g}" if low == -math.inf else f"within {low:g} and {high:g}"
        )
        return RULE.format(region=said, inside=90 if math.isfinite(low) and math.isfinite(high) else 95)

    @property
    def _scale(self) -> str:
        return "in log10" if self.form == "power" else "in accuracy"

    def examine(self, runs: pd.DataFrame) -> Found:
        """The quantity from trials at their chosen learning rate. ValueError if they cannot tell it."""
        raise NotImplementedError


class Predicts(Claim):
    """`predictor` foretells the metric better than `rival` does."""

    kind: Literal["predicts"] = "predicts"
    predictor: Axis
    rival: Axis

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.predictor == self.rival:
            raise ValueError(f"rival={self.rival!r}: the same as predictor")
        return self

    @property
    def region(self) -> tuple[float, float]:
        return 0.0, math.inf

    @property
    def test(self) -> str:
        line = "log metric in log size" if self.form == "power" else "log-odds in log size, binomial"
        return (
            f"{self.predictor} foretells {self.metric} on {self.task} better than {self.rival}. A line ({line}) is fitted to "
            "all configurations but one and asked for that one; the root mean square error of the rival less that of the "
            f"predictor is resampled, 2,000 times: {RESAMPLED} {self._rule}; {DIRECTION}"
        )

    def examine(self, runs: pd.DataFrame) -> Found:
        from analysis.compare import compare

        found = compare(runs, self.metric, self.form, self.predictor, self.rival)
        evidence = (
            f"Left-out error {found.error:.3f} by {self.predictor} and {found.rival_error:.3f} by {self.rival} "
            f"({self._scale}); difference {found.difference} on {found.configurations} configurations, {found.runs} runs. "
            f"{worth(found)}"
        )
        few = found.configurations < FEWEST or found.fewest == 1
        return Found(
            found.difference,
            evidence,
            few,
            found.configurations,
            errors={self.predictor: found.error, self.rival: found.rival_error},
        )


class Rate(Claim):
    """The worth of an inactive parameter in active ones, r in N_eff = N_active + r (N_total - N_active), is in a range."""

    kind: Literal["rate"] = "rate"
    least: Annotated[float, Field(ge=RATES[0])] = RATES[0]
    most: Annotated[float, Field(le=RATES[1])] = RATES[1]

    @property
    def region(self) -> tuple[float, float]:
        low = self.least if self.least > RATES[0] else -math.inf
        return low, self.most if self.most < RATES[1] else math.inf

    @property
    def test(self) -> str:
        return (
            f"r is the worth of an inactive parameter in active ones: {self.metric} on {self.task} is fitted best by "
            f"N_active + r (N_total - N_active), with r from {RATES[0]:g} to {RATES[1]:g}; resampled, 500 times: {RESAMPLED} "
            f"{self._rule}; {DIRECTION}"
        )

    def examine(self, runs: pd.DataFrame) -> Found:
        from analysis.compare import compare

        found = compare(runs, self.metric, self.form, "N_active", "N_total")
        evidence = f"{worth(found)} On {found.configurations} configurations, {found.runs} runs."
        few = found.configurations < FEWEST or found.fewest == 1
        return Found(
            found.rate, evidence, few, found.configurations, errors={"N_active": found.error, "N_total": found.rival_error}
        )


class Offset(Claim):
    """How far MoE lie from dense models of equal `at`: within `margin` of them, or above or below by more than it."""

    kind: Literal["offset"] = "offset"
    at: str
    """A size (N_total, N_active), a loss (test_loss) or a numeric field of the trial (task.n_vertices)."""
    side: Literal["equal", "above", "below"]
    margin: Annotated[float, Field(ge=0)]
    """In log10 of the metric for a power, in accuracy for a logistic."""

    @property
    def region(self) -> tuple[float, float]:
        return beside(self.side, self.margin)

    @property
    def test(self) -> str:
        return (
            f"The MoE's {self.metric} on {self.task} less the dense models' at equal {self.at}, {self._scale}: two parallel "
            f"lines are fitted, and their distance is resampled, 2,000 times: {RESAMPLED} {self._rule}; {DIRECTION}"
        )

    def examine(self, runs: pd.DataFrame) -> Found:
        from analysis.contrast import offset

        found = offset(runs, self.metric, self.form, self.at)
        evidence = (
            f"At equal {self.at} the MoE lie {found.distance} {self._scale} from the dense models, on "
            f"{found.configurations} configurations, {found.runs} runs."
        )
        few = found.configurations < FEWEST or found.fewest == 1
        return Found(found.distance, evidence, few, found.configurations)


class Contrast(Claim):
    """The metric where `field` is `value` less where it is `other`, between trials that agree in `matched`."""

    kind: Literal["contrast"] = "contrast"
    field: str
    """A field of the trial, such as model.ffn.router."""
    value: str | int | float
    other: str | int | float
    matched: tuple[str, ...]
    """Fields in which a pair agrees."""
    side: Literal["equal", "above", "below"]
    margin: Annotated[float, Field(ge=0)]

    @property
    def region(self) -> tuple[float, float]:
        return beside(self.side, self.margin)

    @property
    def test(self) -> str:
        return (
            f"{self.metric} on {self.task} with {self.field} = {self.value} less with {self.other}, {self._scale}, over pairs "
            f"that agree in {', '.join(self.matched)}; Student's interval over the pairs. {self._rule}; fewer than "
            f"{FEWEST_PAIRS} pairs: a direction only."
        )

    def examine(self, runs: pd.DataFrame) -> Found:
        from analysis.contrast import contrast

        found = contrast(runs, self.metric, self.form, self.field, (self.value, self.other), self.matched)
        evidence = (
            f"{self.field} = {self.value} less {self.other}: {found.distance} {self._scale}, over {found.pairs} pairs, "
            f"{found.runs} runs; means {found.mean:.3g} and {found.other_mean:.3g}."
        )
        return Found(found.distance, evidence, found.pairs < FEWEST_PAIRS, found.pairs, "pairs")


AnyClaim = Annotated[Predicts | Rate | Offset | Contrast, Field(discriminator="kind")]

RESAMPLED = "configurations with replacement among the dense ones and among the MoE, then seeds within each."
DIRECTION = f"fewer than {FEWEST} configurations, or a single dense one or MoE: a direction only."


def beside(side: str, margin: float) -> tuple[float, float]:
    """The region of a difference that is within a margin of nothing, or above or below by more than it."""
    return {"equal": (-margin, margin), "above": (margin, math.inf), "below": (-math.inf, -margin)}[side]


def worth(found: Comparison) -> str:
    """The exchange rate in a sentence."""
    return f"An inactive parameter is worth {found.rate:.2f} active ones (sought from {RATES[0]:g} to {RATES[1]:g})."


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


@dataclass(frozen=True)
class Decision:
    """A claim held against the data."""

    claim: Claim
    verdict: Verdict
    found: Found | None
    evidence: str
    """The numbers behind the verdict, or why there are none."""
    more: str = ""
    """What would decide it, where it is undecided."""
    family: str = ""
    """What the correction for several claims says of it."""

    @property
    def headline(self) -> str:
        """`memory follows total parameters: supported`, and where a mere direction points."""
        points = ""
        if self.found and self.verdict == "direction only":
            low, high = self.claim.region
            points = " (towards it)" if low < self.found.interval.value < high else " (against it)"
        return f"{self.claim.statement}: {self.verdict}{points}"


def decide(claim: Claim, chosen: pd.DataFrame) -> Decision:
    """The verdict on `claim` alone from trials at their chosen learning rate."""
    from analysis.power import lacking, more
    from analysis.threshold import runs_of

    try:
        runs = runs_of(claim, chosen)
        found = claim.examine(runs)
    except ValueError as error:
        return Decision(claim, "undecided", None, str(error))
    if found.few:
        return Decision(claim, "direction only", found, found.evidence, lacking(found))
    said = verdict(claim, found.interval)
    return Decision(claim, said, found, found.evidence, more(claim, found, runs) if said == "undecided" else "")


def family(claims: Sequence[Claim], chosen: pd.DataFrame) -> list[Decision]:
    """The verdicts on a sweep's claims together; one that holds alone but not by Holm's rule is undecided."""
    decisions = [decide(claim, chosen) for claim in claims]
    tested = [i for i, one in enumerate(decisions) if one.found and one.verdict != "direction only"]
    alone = [p_value(decisions[i].claim, decisions[i].found.interval) for i in tested]  # type: ignore[union-attr]
    for i, p, adjusted in zip(tested, alone, holm(alone), strict=True):
        said = f"p = {p:.2g} alone and {adjusted:.2g} among {len(tested)} claims (Holm)."
        before = decisions[i]
        if adjusted >= FAMILY and before.verdict != "undecided":
            evidence = f"{before.evidence} Alone it would be {before.verdict}; among {len(tested)} claims it is not: {said}"
            decisions[i] = replace(before, verdict="undecided", evidence=evidence, family=said)
        else:
            decisions[i] = replace(before, family=said)
    return decisions


def verdict(claim: Claim, interval: Estimate) -> Verdict:
    """Where an interval lies by the claim's region."""
    low, high = claim.region
    if _supports(claim, interval) < FAMILY:
        return "supported"
    return "contradicted" if interval.high < low or interval.low > high else "undecided"


def p_value(claim: Claim, interval: Estimate) -> float:
    """The p of the decision nearest at hand: that the quantity lies in the region (TOST where it has two ends), or outside."""
    low, high = claim.region
    outside = [interval.beyond(low, False)] if math.isfinite(low) else []
    outside += [interval.beyond(high, True)] if math.isfinite(high) else []
    return min(1.0, _supports(claim, interval), 2 * min(outside))


def _supports(claim: Claim, interval: Estimate) -> float:
    low, high = claim.region
    ends = max(interval.beyond(low, True), interval.beyond(high, False))
    return ends if math.isfinite(low) and math.isfinite(high) else 2 * ends


def holm(alone: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: the smallest times their number, and so on, never falling."""
    adjusted, highest = [0.0] * len(alone), 0.0
    for rank, i in enumerate(sorted(range(len(alone)), key=alone.__getitem__)):
        highest = max(highest, min(1.0, (len(alone) - rank) * alone[i]))
        adjusted[i] = highest
    return adjusted
