"""A law fitted to a table of runs: the optimum, intervals, held-out errors, and what the runs cannot tell.

Costs are SUMMED over runs, as in the recipe that Epoch AI replicated Chinchilla with; an average would end a search early.
"""

# M resamples, P parameters, R runs

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.formula import FROM_SCALE, compiled
from analysis.held_out import HeldOut, held_out
from analysis.intervals import Ends, Identifiability, bootstrap, identifiability, percentiles, profile
from analysis.laws import Law
from analysis.optimum import Optimum, optimum
from analysis.points import Points, points
from analysis.starts import coordinates, values

Method = Literal["bootstrap", "profile", "none"]


@dataclass(frozen=True)
class Fit:
    """A law with its numbers."""

    law: Law
    points: Points = field(repr=False)
    values: Mapping[str, float]
    intervals: Mapping[str, Ends]
    """95 %; an end is None where nothing closes it."""
    method: str
    objective: float
    by_lbfgs: float
    searches_agree: bool
    rmse: float
    """Of the fitted runs, on the scale of the errors."""
    identifiability: Identifiability
    at_bound: Mapping[str, float]
    """Parameters that end at a bound: 1 in the fit itself, or in which share of the resamples."""
    held_out: HeldOut
    fixed: Mapping[str, float]
    resampled: np.ndarray | None = field(repr=False)
    """(M, P) the parameters of each resample."""
    first: "Fit | None"
    """The fit of the law that this one goes through."""

    def predict(self, x: Mapping[str, np.ndarray]) -> np.ndarray:
        """(R,) the response at these variables, in its own unit; what it goes through is predicted if it is not among them."""
        if self.first is not None:
            between = next(iter(self.law.variables))
            x = x if between in x else {**x, between: self.first.predict(x)}
        return predicted(self.law, np.array([list(self.values.values())]), x)[0]


def predicted(law: Law, values_MP: np.ndarray, x: Mapping[str, np.ndarray]) -> np.ndarray:
    """(M, R) responses under each set of parameters, in the response's own unit."""
    made = compiled(law)
    with np.errstate(all="ignore"):
        scale = made.value(*made.columns(x), *coordinates(law, values_MP).T[:, :, None])
    return FROM_SCALE[law.errors](np.broadcast_to(scale, (len(values_MP), len(next(iter(x.values()))))))


def fit(
    frame: pd.DataFrame,
    law: Law,
    *,
    intervals: Method = "bootstrap",
    resamples: int = 1000,
    starts: int = 64,
    seed: int = 0,
    drop_highest: int = 0,
    cluster: str = "",
    weight: str = "none",
    fixed: Mapping[str, float] | None = None,
) -> Fit:
    """Fit `law` to the runs of `frame` (see `analysis.load`); ValueError if they are too few or lack a column.

    resamples: of whole configurations, which `cluster` tells apart (see `points`). fixed: parameters held at a value.
    """
    fixed = fixed or {}
    options: dict[str, Any] = {"intervals": intervals, "resamples": resamples, "starts": starts, "seed": seed}
    chosen: dict[str, Any] = {"drop_highest": drop_highest, "cluster": cluster, "weight": weight}
    first = None if law.first is None else fit(frame, law.first, **options, **chosen)
    best = optimum(law, points(frame, law, **chosen, held=len(fixed)), starts, fixed)
    told = identifiability(best)
    method, ends, resampled = _intervals(best, intervals, resamples, seed)
    return Fit(
        law=law,
        points=best.at,
        values=dict(zip(law.parameters, map(float, values(law, best.u_P)), strict=True)),
        intervals={name: (None, None) if name in told.untold else end for name, end in zip(law.parameters, ends, strict=True)},
        method=method,
        objective=best.cost,
        by_lbfgs=best.by_lbfgs,
        searches_agree=best.searches_agree,
        rmse=float(np.sqrt((best.residuals()[best.at.side_R == 0] ** 2).mean())),
        identifiability=told,
        at_bound=_at_bound(best, resampled),
        held_out=held_out(best),
        fixed=fixed,
        resampled=None if resampled is None else values(law, resampled),
        first=first,
    )


def _intervals(best: Optimum, method: Method, resamples: int, seed: int) -> tuple[str, list[Ends], np.ndarray | None]:
    """How the intervals were made, their ends, and the resampled coordinates."""
    if method == "none":
        return "none", [(None, None)] * len(best.u_P), None
    if method == "profile":
        return (
            "profile of the cost",
            [(_value(best.law, p, low), _value(best.law, p, high)) for p, (low, high) in enumerate(profile(best))],
            None,
        )
    resampled, how = bootstrap(best, resamples, seed)
    low_P, high_P = percentiles(values(best.law, resampled))
    ends: list[Ends] = [
        (None, None) if pinned else (float(low), float(high))
        for low, high, pinned in zip(low_P, high_P, best.pinned_P, strict=True)
    ]
    return f"{how}, {resamples:,} resamples of {best.at.configurations} configurations", ends, resampled


def _value(law: Law, p: int, u: float | None) -> float | None:
    """One parameter from its coordinate."""
    return None if u is None else float(values(law, np.full(len(law.parameters), u))[p])


def _at_bound(best: Optimum, resampled: np.ndarray | None) -> dict[str, float]:
    """Parameters that end at a bound, and in which share of the fits."""
    all_MP = best.u_P[None] if resampled is None else np.vstack([best.u_P, resampled])
    low_P, high_P = best.problem.low_P, best.problem.high_P
    room_P = 1e-6 * (high_P - low_P)
    hit_MP = ((all_MP <= low_P + room_P) | (all_MP >= high_P - room_P)) & ~best.pinned_P
    shares = np.where(hit_MP[0], 1.0, hit_MP.mean(0))
    return {name: float(one) for name, one in zip(best.law.parameters, shares, strict=True) if one > 0}
