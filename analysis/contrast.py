"""How far one kind of model lies from another: parallel lines at equal size, and pairs that differ in one field."""

# R runs, M resamples, P parameters

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import t as student

from analysis.compare import Estimate, decidable, estimate, plane, weightings
from analysis.fit import on_scale
from analysis.runs import no_column


@dataclass(frozen=True)
class Parallel:
    """The distance between two parallel lines, MoE less dense, on the form's scale."""

    distance: Estimate
    configurations: int
    runs: int
    fewest: int
    """Configurations of the kind that has fewer."""


def offset(frame: pd.DataFrame, metric: str, form: str, at: str, lead: float = 1.0, resamples: int = 2000) -> Parallel:
    """The MoE's metric less the dense models' at equal `at`; for a share, averaged over the MoE's own sizes.

    lead: how many times the MoE's `at` that of the dense models beside them is.

    ValueError unless there are runs of both kinds and more configurations than the lines have parameters.
    """
    frame = decidable(frame, metric, form)
    kinds = frame.groupby("kind")["configuration"].nunique().reindex(["dense", "MoE"]).fillna(0)
    if kinds.min() < 1 or kinds.sum() < 4:
        raise ValueError(
            f"{metric}: {kinds['dense']:.0f} dense and {kinds['MoE']:.0f} MoE configurations; lines need both, and four"
        )
    size_R = np.log10(column(frame, at).to_numpy(float))
    if not np.isfinite(size_R).all():
        raise ValueError(f"{metric}: {at} is not a number above zero in every run")
    moe_R = (frame["kind"] == "MoE").to_numpy(float)
    size_R = size_R + np.log10(lead) * moe_R
    design_RP = np.column_stack([np.ones(len(frame)), size_R - size_R.mean(), moe_R])
    w_MR = weightings(frame, resamples)
    b_MP = plane(frame, metric, form, design_RP, w_MR)
    distance_M = b_MP[:, 2]
    if form == "logistic":
        eta_MR = b_MP[:, :2] @ design_RP[:, :2].T
        gap_MR = expit(eta_MR + b_MP[:, 2:]) - expit(eta_MR)
        distance_M = (w_MR * moe_R * gap_MR).sum(1) / (w_MR * moe_R).sum(1)
    return Parallel(estimate(distance_M), int(kinds.sum()), len(frame), int(kinds.min()))


@dataclass(frozen=True)
class Pairs:
    """The mean difference over pairs, on the form's scale."""

    distance: Estimate
    pairs: int
    runs: int
    mean: float
    other_mean: float
    bounds: int
    """Runs of which only a bound is known, which stands for the value."""


def contrast(
    frame: pd.DataFrame, metric: str, form: str, field: str, values: tuple[Any, Any], matched: tuple[str, ...]
) -> Pairs:
    """The metric where `field` is the first value less where it is the second, over pairs that agree in `matched`.

    Runs that agree in all of it are averaged first. ValueError if there are fewer than two pairs.
    """
    frame = decidable(frame, metric, form)
    level = column(frame, field)
    frame = frame.assign(level=level, y=on_scale(form, frame[metric].to_numpy(float)))
    frame = frame[frame["level"].isin(values)]
    known = {name: column(frame, name) for name in matched}
    for name, values_R in known.items():
        if values_R.isna().all():
            raise ValueError(no_column(name, frame))
    frame = frame.assign(pair=[repr(agreed) for agreed in zip(*known.values(), strict=True)])  # where both have none they agree
    table = frame.groupby(["pair", "level"])["y"].mean().unstack().reindex(columns=list(values)).dropna()
    if len(table) < 2:
        raise ValueError(
            f"{metric}: {len(table)} pairs with {field} = {values[0]} and {values[1]} that agree in {', '.join(matched)}"
        )
    frame = frame[frame["pair"].isin(table.index)]
    gaps = (table[values[0]] - table[values[1]]).to_numpy()
    half = student.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))
    mean, other_mean = (float(frame.loc[frame["level"] == value, metric].mean()) for value in values)
    distance = Estimate(gaps.mean(), gaps.mean() - half, gaps.mean() + half, freedom=len(gaps) - 1)
    side = f"{metric}.side"
    bounds = int((frame[side] != 0).sum()) if side in frame else 0
    return Pairs(distance, len(gaps), len(frame), mean, other_mean, bounds)


def column(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column of the frame, or a field of each run's declaration by its dotted name; absent fields are None."""
    if name in frame:
        return frame[name]
    if "declared" not in frame:
        raise ValueError(no_column(name, frame))
    return frame["declared"].map(lambda text: field_of(json.loads(text), name))


def field_of(declared: Any, name: str) -> Any:
    """The value at a dotted name, or None."""
    for part in name.split("."):
        declared = declared.get(part) if isinstance(declared, dict) else None
    return declared
