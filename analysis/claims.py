"""What a sweep sets out to decide, declared before there is data; `verdicts.py` holds it against them.

Every claim says that a quantity lies in a region: its 95 % interval inside supports the claim, outside contradicts it,
anything else leaves it undecided. A region with two ends is an equivalence and is tested from both (TOST, 5 %), which is to
say by its 90 % interval. The claims of one sweep are a family: what stands alone has to stand after Holm's correction too.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from parrots.frozen import Frozen

Axis = Literal["N_total", "N_active"]
Form = Literal["power", "logistic", "linear"]
Side = Literal["equal", "above", "below"]
Positive = Annotated[float, Field(gt=0)]
Margin = Annotated[float, Field(ge=0)]

COLUMNS: tuple[str, ...] = (
    "task",
    "seed",
    "kind",
    "label",
    "N_total",
    "N_active",
    "d_model",
    "n_layers",
    "d_ff",
    "n_experts",
    "top_k",
    "lr",
)
COLUMNS += ("exposures", "tokens", "flops", "workers")
"""What claims may name of any run beside the fields of its trial."""
RATES = (0.0, 3.0)  # between which the worth of an inactive parameter is sought
FEWEST = 5  # configurations; with fewer there is a direction and no verdict
FEWEST_PAIRS = 3
RULE = "All of its {inside} % interval {region}: supported; none of its 95 % interval: contradicted; else undecided"
SCALES = {"power": "in log10", "logistic": "in accuracy", "linear": "in its own unit"}


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
    """What is linear in log size: power, the metric's logarithm; logistic, the log-odds of a share; linear, itself."""
    threshold: Threshold | None = None
    where: dict[str, str | int | float] = Field(default_factory=dict)
    """The trials that the claim is about, by the values of some of their fields; by default all of the task."""
    at_least: dict[str, float] = Field(default_factory=dict)
    """And by the least that some of their fields may be: {"N_total": 1e8}."""
    every_rate: bool = False
    """Whether it is about all learning rates, and not about each configuration at its chosen one."""

    @property
    def measured(self) -> str:
        """The metric that the trials have to leave."""
        return self.threshold.metric if self.threshold else self.metric

    @property
    def fields(self) -> tuple[str, ...]:
        """What it names of the trials that it is about: their fields, or COLUMNS."""
        return (*self.where, *self.at_least, *([self.threshold.axis] if self.threshold else []))

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
    def scale(self) -> str:
        """The unit of differences in the metric."""
        return SCALES[self.form]


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
        line = {"power": "log metric", "logistic": "log-odds, binomial,", "linear": "the metric"}[self.form] + " in log size"
        return (
            f"{self.predictor} foretells {self.metric} on {self.task} better than {self.rival}. A line ({line}) is fitted to "
            "all configurations but one and asked for that one; the root mean square error of the rival less that of the "
            f"predictor is resampled, 2,000 times: {RESAMPLED} {self._rule}; {DIRECTION}"
            f"{TIED if self.needs_width_apart else ''}"
        )

    @property
    def needs_width_apart(self) -> bool:
        """Whether what bears the claim out may not follow width as well."""
        return self.predictor == "N_active"


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
            f"{self._rule}; {DIRECTION}{TIED if self.needs_width_apart else ''}"
        )

    @property
    def needs_width_apart(self) -> bool:
        """Whether what bears the claim out may not follow width as well."""
        return self.most < RATES[1]


class Offset(Claim):
    """How far MoE lie from dense models of equal `at`: within `margin` of them, or above or below by more than it."""

    kind: Literal["offset"] = "offset"
    at: str
    """A size (N_total, N_active), perplexity, a loss (test_loss) or a numeric field of the trial (task.n_vertices)."""
    side: Side
    margin: Margin
    """In log10 of the metric for a power, in accuracy for a logistic."""
    lead: Positive = 1.0
    """How many times the MoE's `at` that of the dense models is: 10 sets an MoE beside a dense model ten times its size."""

    @property
    def fields(self) -> tuple[str, ...]:
        return (*super().fields, *trial_fields(self.at))

    @property
    def region(self) -> tuple[float, float]:
        return beside(self.side, self.margin)

    @property
    def test(self) -> str:
        return (
            f"The MoE's {self.metric} on {self.task} less the dense models' at {self.beside}, {self.scale}: two parallel "
            f"lines are fitted, and their distance is resampled, 2,000 times: {RESAMPLED} {self._rule}; {DIRECTION}"
        )

    @property
    def beside(self) -> str:
        """Which dense model stands beside an MoE."""
        return f"equal {self.at}" if self.lead == 1 else f"{self.lead:g} times the {self.at}"


class Contrast(Claim):
    """The metric where `field` is `value` less where it is `other`, between trials that agree in `matched`."""

    kind: Literal["contrast"] = "contrast"
    field: str
    """A field of the trial, such as model.ffn.router."""
    value: str | int | float
    other: str | int | float
    matched: tuple[str, ...]
    """Fields in which a pair agrees."""
    side: Side
    margin: Margin

    @property
    def fields(self) -> tuple[str, ...]:
        return (*super().fields, self.field, *self.matched)

    @property
    def region(self) -> tuple[float, float]:
        return beside(self.side, self.margin)

    @property
    def test(self) -> str:
        return (
            f"{self.metric} on {self.task} with {self.field} = {self.value} less with {self.other}, {self.scale}, over pairs "
            f"that agree in {', '.join(self.matched)}; Student's interval over the pairs. {self._rule}; fewer than "
            f"{FEWEST_PAIRS} pairs: a direction only."
        )


class Slope(Claim):
    """By how much the metric changes for each doubling of `along`, at equal `given`."""

    kind: Literal["slope"] = "slope"
    along: str
    """A size, tokens_per_parameter, or another number that runs have."""
    given: tuple[str, ...] = ()
    side: Side
    margin: Margin
    """For a doubling: in log10 of the metric for a power, in accuracy for a logistic."""

    @property
    def fields(self) -> tuple[str, ...]:
        return (*super().fields, *trial_fields(self.along, *self.given))

    @property
    def region(self) -> tuple[float, float]:
        return beside(self.side, self.margin)

    @property
    def test(self) -> str:
        return (
            f"The change of {self.metric} on {self.task} for each doubling of {self.along}"
            f"{' at equal ' + ' and '.join(self.given) if self.given else ''}, {self.scale}: the coefficient of a plane in "
            f"their logarithms, resampled, 2,000 times: {RESAMPLED} {self._rule}; {DIRECTION}"
        )


class Peak(Claim):
    """The metric first rises and then falls along `along`, and is highest between `least` and `most`."""

    kind: Literal["peak"] = "peak"
    along: str
    least: Positive
    most: Positive

    @property
    def fields(self) -> tuple[str, ...]:
        return (*super().fields, *trial_fields(self.along))

    @property
    def region(self) -> tuple[float, float]:
        return math.log10(self.least), math.log10(self.most)

    @property
    def test(self) -> str:
        return (
            f"Where {self.metric} on {self.task} is highest along {self.along}, in log10: the top of a parabola in its "
            "logarithm, resampled, 2,000 times, one that opens upwards having its top out of reach at its higher end: "
            f"{RESAMPLED} {self._rule}; {DIRECTION}"
        )


AnyClaim = Annotated[Predicts | Rate | Offset | Contrast | Slope | Peak, Field(discriminator="kind")]

RESAMPLED = "configurations with replacement among the dense ones and among the MoE, then seeds within each."
DIRECTION = f"fewer than {FEWEST} configurations, or a single dense one or MoE: a direction only."
TIED = " Undecided too where models of one kind and width hardly differ in N_active, since width then foretells as well."


def trial_fields(*names: str) -> tuple[str, ...]:
    """Those of these names that are fields of a trial, and neither a size nor a metric."""
    return tuple(name for name in names if name.startswith(("model.", "task.", "training.")))


def beside(side: Side, margin: float) -> tuple[float, float]:
    """The region of a difference that is within a margin of nothing, or above or below by more than it."""
    return {"equal": (-margin, margin), "above": (margin, math.inf), "below": (-math.inf, -margin)}[side]
