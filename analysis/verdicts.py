"""Claims held against the data: verdicts, one alone and a family together, and what more would decide the undecided."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from analysis.claims import Claim
from analysis.compare import Estimate
from analysis.examine import Found, examine
from analysis.power import lacking, more
from analysis.threshold import runs_of

Verdict = Literal["supported", "contradicted", "undecided", "direction only"]

FAMILY = 0.05  # the chance, by Holm (1979), that any of a family's verdicts is wrong


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
    try:
        runs = runs_of(claim, chosen)
        found = examine(claim, runs)
    except ValueError as error:
        return Decision(claim, "undecided", None, str(error))
    if found.few:
        return Decision(claim, "direction only", found, found.evidence, lacking(found))
    said = verdict(claim, found.interval)
    if said == "supported" and found.confounded:
        return Decision(claim, "undecided", found, f"{found.evidence} {found.confounded}")
    return Decision(claim, said, found, found.evidence, more(claim, found, runs) if said == "undecided" else "")


def family(claims: Sequence[Claim], chosen: pd.DataFrame, done: pd.DataFrame | None = None) -> list[Decision]:
    """The verdicts on a sweep's claims together; one that holds alone but not by Holm's rule is undecided.

    done: the runs at every learning rate, for claims about these.
    """
    decisions = [decide(claim, done if claim.every_rate and done is not None else chosen) for claim in claims]
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
