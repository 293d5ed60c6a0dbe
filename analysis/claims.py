"""What a sweep sets out to decide, declared before there is data, and what the data say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from parrots.frozen import Frozen

if TYPE_CHECKING:  # a sweep declares claims, and must not wait for pandas to do so
    import pandas as pd

    from analysis.compare import Comparison

Axis = Literal["N_total", "N_active"]
Form = Literal["power", "logistic"]
Verdict = Literal["supported", "contradicted", "undecided", "direction only"]

RATES = (0.0, 3.0)  # between which the worth of an inactive parameter is sought
FEWEST = 5  # configurations; with fewer there is a direction and no verdict


class Claim(Frozen):
    """`predictor` foretells `metric` on `task` better than `rival` does.

    The test, fixed with the claim: a line is fitted to all configurations but one and asked for that one; the error of the
    rival less that of the predictor has a bootstrap interval over configurations and seeds. All above zero supports the
    claim, all below contradicts it, anything else leaves it undecided; with fewer than five configurations, or a single
    dense one or MoE, there is a direction only.
    """

    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    statement: str
    task: str
    metric: str
    form: Form
    """power: log metric is linear in log size. logistic: the log-odds of a share of right answers are."""
    predictor: Axis
    rival: Axis

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.predictor == self.rival:
            raise ValueError(f"rival={self.rival!r}: the same as predictor")
        return self

    @property
    def test(self) -> str:
        """How it is decided, as a report says it."""
        line = "log metric in log size" if self.form == "power" else "log-odds in log size, binomial"
        return (
            f"A line ({line}) is fitted to all configurations but one and asked for that one; the difference of the two root "
            "mean square errors is resampled, 2,000 times: configurations with replacement among the dense ones and among the "
            "MoE, then seeds within each. All of its 95 % interval above zero: supported; below: contradicted; else undecided; "
            "fewer than five configurations, or a single dense one or MoE: a direction only."
        )


@dataclass(frozen=True)
class Decision:
    """A claim held against the data."""

    claim: Claim
    verdict: Verdict
    comparison: Comparison | None
    reason: str = ""
    """Why there is no comparison."""

    @property
    def headline(self) -> str:
        """`memory follows total parameters: supported`, and where a mere direction points."""
        points = ""
        if self.comparison and self.verdict == "direction only":
            points = " (towards it)" if self.comparison.difference.value > 0 else " (against it)"
        return f"{self.claim.statement}: {self.verdict}{points}"

    @property
    def evidence(self) -> str:
        """The numbers behind the verdict, in a sentence or two."""
        found = self.comparison
        if found is None:
            return self.reason
        claim, gap, rate = self.claim, found.difference, found.rate
        unit = "in log10" if claim.form == "power" else "in accuracy"
        return (
            f"Left-out error {found.error:.3f} by {claim.predictor} and {found.rival_error:.3f} by {claim.rival} ({unit}); "
            f"difference {gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}] on {found.configurations} configurations, "
            f"{found.runs} runs. An inactive parameter is worth {rate.value:.2f} [{rate.low:.2f}, {rate.high:.2f}] active ones "
            f"(sought from {RATES[0]:g} to {RATES[1]:g})."
        )


def decide(claim: Claim, chosen: pd.DataFrame) -> Decision:
    """The verdict on `claim` from trials at their chosen learning rate."""
    from analysis.compare import compare

    runs = chosen[chosen["task"] == claim.task]
    try:
        found = compare(runs, claim.metric, claim.form, claim.predictor, claim.rival)
    except ValueError as error:
        return Decision(claim, "undecided", None, str(error))
    if found.configurations < FEWEST or found.fewest == 1:
        return Decision(claim, "direction only", found)
    if found.difference.low > 0:
        return Decision(claim, "supported", found)
    return Decision(claim, "contradicted" if found.difference.high < 0 else "undecided", found)
