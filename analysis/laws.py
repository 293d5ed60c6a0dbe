"""The laws of the field, each one value: a formula, its parameters with their bounds, its variables, its errors.

A new law is one more `Law` here. The formula is text in the language of `expressions.py`; derivatives, starts, intervals and
what cannot be told from a table follow from it. N, D, C: parameters, tokens, FLOPs; E experts; G granularity; S = 1 - k/E.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

Kind = Literal["positive", "free", "share"]
Errors = Literal["log", "log10", "binomial"]


@dataclass(frozen=True)
class Parameter:
    """One parameter: what it may be, and where the search for it begins."""

    kind: Kind
    low: float
    high: float
    start: tuple[float, float] = (0.0, 0.0)
    """Range of its first values; a linear one has none, since its value follows from the others'."""
    linear: bool = False


@dataclass(frozen=True)
class Variable:
    """One variable: the columns that may hold it, the first that is there being taken."""

    columns: tuple[str, ...]
    may_be_zero: bool = False


@dataclass(frozen=True, eq=False)
class Law:
    """A law that can be fitted. Two are the same if they are the same value in memory: each is declared once."""

    name: str
    formula: str
    response: Variable
    variables: Mapping[str, Variable]
    parameters: Mapping[str, Parameter]
    source: str
    errors: Errors = "log"
    """log: the response's logarithm less the formula's; log10: its decimal logarithm less the formula, which gives that one;
    binomial: a share of n trials, where n is known, beside the formula."""
    huber: float | None = 1e-3
    """Where errors begin to count linearly; None: squares throughout."""
    let: Mapping[str, str] = field(default_factory=dict)
    """Names that stand for longer expressions in the formula."""
    null: Mapping[str, float] = field(default_factory=dict)
    """Parameters whose value a simpler law gives: the fit tells whether its interval holds it."""
    first: "Law | None" = None
    """The law of the variable that this one goes through, fitted before it: two steps."""

    def __post_init__(self) -> None:
        for name in ("variables", "parameters", "let", "null"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))


def coefficient(high: float = 1e30) -> Parameter:
    """A factor above zero that the formula is linear in."""
    return Parameter("positive", 1e-12, high, linear=True)


def exponent(low: float = 0.0, high: float = 4.0, start: tuple[float, float] = (0.05, 0.9)) -> Parameter:
    """A power, or what else is looked for in a range."""
    return Parameter("free", low, high, start)


def free(linear: bool = True, start: tuple[float, float] = (0.0, 0.0)) -> Parameter:
    """A number of either sign."""
    return Parameter("free", -1e6, 1e6, start, linear)


def share(low: float, high: float) -> Parameter:
    """An accuracy that a curve tends to, begun between these."""
    return Parameter("share", 1e-9, 1 - 1e-9, (low, high))


TOTAL = Variable(("N", "N_total", "N_active"))
ACTIVE = Variable(("N", "N_active", "N_total"))
TOKENS = Variable(("D", "tokens"))
EXPERTS = Variable(("E", "n_experts"))
SPARSITY = Variable(("S",), may_be_zero=True)
LOSS = Variable(("loss",))
ACCURACY = Variable(("accuracy",), may_be_zero=True)
EFFECTIVE_EXPERTS = {"Ehat": "1 / (1 / (E - 1 + 1 / (1 / E_start - 1 / E_max)) + 1 / E_max)"}
SATURATION = {
    "E_start": Parameter("positive", 1.0, 30.0, (1.2, 4.0)),
    "E_max": Parameter("positive", 31.0, 1e6, (100.0, 1000.0)),
}

CHINCHILLA = Law(
    "chinchilla",
    "E + A * N**-alpha + B * D**-beta",
    LOSS,
    {"N": TOTAL, "D": TOKENS},
    {"A": coefficient(), "B": coefficient(), "E": coefficient(), "alpha": exponent(), "beta": exponent()},
    "Hoffmann 2022, approach 3",
)
CLARK = Law(
    "clark",
    "a * log10(N) + b * log10(Ehat) + c * log10(N) * log10(Ehat) + d",
    Variable(("loss", "loss_validation")),
    {
        "N": Variable((*ACTIVE.columns, "dense_parameter_count")),
        "E": Variable((*EXPERTS.columns, "num_experts")),
    },
    {"a": free(), "b": free(), "c": free(), "d": free(), **SATURATION},
    "Clark 2022: log10 of the loss; N is that of the dense model (the names last are those of the published curves)",
    errors="log10",
    huber=None,
    let=EFFECTIVE_EXPERTS,
)
KRAJEWSKI = Law(
    "krajewski",
    "c + (g * G**-gamma + a) * N**-alpha + b * D**-beta",
    LOSS,
    {"N": TOTAL, "D": TOKENS, "G": Variable(("G", "granularity"))},
    {
        **{name: coefficient() for name in ("a", "b", "c", "g")},
        **{"alpha": exponent(), "beta": exponent(), "gamma": exponent()},
    },
    "Krajewski 2024",
)
FRANTAR = Law(
    "frantar",
    "(a_S * (1 - S)**b_S + c_S) * N**-b_N + (a_D / D)**b_D + c",
    LOSS,
    {"N": TOTAL, "D": TOKENS, "S": SPARSITY},
    {
        **{name: coefficient() for name in ("a_S", "c_S", "c")},
        "a_D": Parameter("positive", 1e-3, 1e30, (1e3, 1e10)),
        **{"b_S": exponent(-4.0), "b_N": exponent(), "b_D": exponent()},
    },
    "Frantar 2023",
)
ABNAR = Law(
    "abnar",
    'a * N**-alpha + b * D**-beta + c * (1 - S)**-col("lambda") + d * (1 - S)**-delta * N**-gamma + e',
    LOSS,
    {"N": TOTAL, "D": TOKENS, "S": SPARSITY},
    {
        **{name: coefficient() for name in ("a", "b", "c", "d", "e")},
        **{"alpha": exponent(), "beta": exponent(), "gamma": exponent(start=(0.05, 0.4))},
        **{"lambda": exponent(-4.0, start=(-0.5, 0.5)), "delta": exponent(-4.0, start=(-0.5, 0.5))},
    },
    "Abnar 2025",
)
LUDZIEJEWSKI = Law(
    "ludziejewski",
    "A * Ehat**delta * N**(alpha + gamma * log(Ehat)) + B * Ehat**omega * D**(beta + zeta * log(Ehat)) + e",
    LOSS,
    {"N": ACTIVE, "D": TOKENS, "E": EXPERTS},
    {
        **{name: coefficient() for name in ("A", "B", "e")},
        **{"alpha": exponent(-4.0, 0.0, (-0.9, -0.05)), "beta": exponent(-4.0, 0.0, (-0.9, -0.05))},
        **{name: exponent(-4.0, start=(-0.5, 0.5)) for name in ("delta", "omega")},
        **{name: exponent(-1.0, 1.0, (-0.05, 0.05)) for name in ("gamma", "zeta")},
        **SATURATION,
    },
    "Ludziejewski 2025",
    let=EFFECTIVE_EXPERTS,
)
WIDTH_DEPTH = Law(
    "width-depth",
    "E + A * width**-alpha + B * depth**-beta + F * N**-gamma + G * D**-delta",
    LOSS,
    {"width": Variable(("width", "d_model")), "depth": Variable(("depth", "n_layers")), "N": TOTAL, "D": TOKENS},
    {
        **{name: coefficient() for name in ("A", "B", "F", "G", "E")},
        **{name: exponent() for name in ("alpha", "beta", "gamma", "delta")},
    },
    "McLeish 2025 (Gemstones)",
)
SIGMOID_IN_LOSS = Law(
    "two-step",
    "b + (a - b) / (1 + exp(-k * (task_loss - loss0)))",
    ACCURACY,
    {"task_loss": Variable(("task_loss", "loss"))},
    {
        "a": share(0.02, 0.4),
        "b": share(0.5, 0.98),
        "k": exponent(-100.0, -1e-3, (-8.0, -0.5)),
        "loss0": exponent(0.0, 30.0, (0.2, 4.0)),
    },
    "Bhagia 2024 (OLMo's ladder): the task's loss by chinchilla, then accuracy in that loss",
    errors="binomial",
    huber=None,
    first=replace(CHINCHILLA, name="chinchilla of the task's loss", response=Variable(("task_loss",))),
)
OBSERVATIONAL = Law(
    "observational",
    "1 / (1 + exp(-(theta * log(C) + nu)))",
    ACCURACY,
    {"C": Variable(("C", "flops"))},
    {"theta": free(False, (-1.0, 1.0)), "nu": free(False, (-40.0, 40.0))},
    "Ruan 2024: the logit of accuracy is linear in log C",
    errors="binomial",
    huber=None,
)
SIGMOID_IN_SIZE = Law(
    "accuracy-in-size",
    "lo + (hi - lo) / (1 + exp(-k * (log(N) - x0)))",
    ACCURACY,
    {"N": TOTAL},
    {
        "lo": share(0.02, 0.4),
        "hi": share(0.5, 0.98),
        "k": exponent(1e-3, 100.0, (0.3, 6.0)),
        "x0": exponent(-5.0, 40.0, (5.0, 22.0)),
    },
    "this project, figures 1, 4 and 6",
    errors="binomial",
    huber=None,
)
POWER_IN_SIZE = Law(
    "accuracy-in-size-power",
    "hi - A * N**-alpha",
    ACCURACY,
    {"N": TOTAL},
    {"hi": share(0.5, 0.98), "A": Parameter("positive", 1e-12, 1e30, (0.3, 100.0)), "alpha": exponent()},
    "this project, figures 1, 4 and 6",
    errors="binomial",
    huber=None,
)
LINEAR_IN_SIZE = Law(
    "accuracy-in-size-linear",
    "intercept + slope * log(N)",
    ACCURACY,
    {"N": TOTAL},
    {"intercept": free(False, (-1.0, 1.0)), "slope": free(False, (-0.1, 0.1))},
    "this project, figures 1, 4 and 6",
    errors="binomial",
    huber=None,
)
CAPACITY = Law(
    "capacity",
    "c * N**gamma",
    Variable(("entries", "bits", "entries_90")),
    {"N": TOTAL},
    {"c": coefficient(), "gamma": exponent(-4.0, start=(0.2, 1.5))},
    "figure 4a: entries known, or bits held; as many for each parameter if gamma is 1",
    huber=None,
    null={"gamma": 1.0},
)

LAWS = {
    law.name: law
    for law in (
        *(CHINCHILLA, CLARK, KRAJEWSKI, FRANTAR, ABNAR, LUDZIEJEWSKI, WIDTH_DEPTH, SIGMOID_IN_LOSS, OBSERVATIONAL),
        *(SIGMOID_IN_SIZE, POWER_IN_SIZE, LINEAR_IN_SIZE, CAPACITY),
    )
}
