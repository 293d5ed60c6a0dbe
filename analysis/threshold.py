"""Quantities read off an axis of the grid: the largest book that a model knows, the width that a task needs."""

import json
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.claims import Claim, Threshold
from analysis.contrast import column, field_of

UNNAMED = "runs"
"""The task of runs in a table that names none."""


def runs_of(claim: Claim, chosen: pd.DataFrame) -> pd.DataFrame:
    """The runs that a claim is about; with a threshold, a row for each configuration and seed.

    What lies above or below all that were tried is written as that bound, with METRIC.side 1 or -1.
    """
    runs = subject(claim, chosen)
    if claim.threshold is None:
        return runs
    read = readings(runs, claim.threshold)
    value = {claim.metric: read["bound"], f"{claim.metric}.n": np.nan, f"{claim.metric}.side": read["side"]}
    return read.assign(**value)


def subject(claim: Claim, frame: pd.DataFrame) -> pd.DataFrame:
    """The trials of `frame` that a claim is about; a table that names no task is about any claim's."""
    runs = frame[frame["task"].isin([claim.task, UNNAMED])]
    for field, value in claim.where.items():
        runs = runs[column(runs, field) == value]
    for field, least in claim.at_least.items():
        runs = runs[column(runs, field) >= least]
    return runs


def readings(runs: pd.DataFrame, threshold: Threshold) -> pd.DataFrame:
    """A row a configuration (but for the axis and what goes along with it) and seed: its value on the axis.

    Columns beside those of `runs`: the fields of `Reading`. failed_below counts the smaller values that missed the target
    although a larger one reached it: for `largest` these are noise, and the largest stands, as in the paper.
    """
    if threshold.metric not in runs:
        return runs.iloc[:0].assign(**Reading(np.nan)._asdict())
    runs = runs[runs[threshold.metric].notna()]
    declared = runs["declared"].map(json.loads)
    at = declared.map(lambda one: field_of(one, threshold.axis)).astype(float)
    if threshold.among:
        runs, declared, at = (some[at.isin(threshold.among)] for some in (runs, declared, at))
    rest = declared.map(lambda one: json.dumps(without(one, {threshold.axis, "training.lr", "seed", *threshold.along})))
    table = []
    for (configuration, _), some in runs.assign(at=at, configuration=rest).groupby(["configuration", "seed"], sort=False):
        each = some.groupby("at").first().sort_index()
        found = read(each.index.to_numpy(), each[threshold.metric].to_numpy(float), threshold)
        table.append(each.iloc[-1].to_dict() | {"configuration": configuration} | found._asdict())
    return pd.DataFrame(table, columns=[*runs.columns, *Reading._fields])


class Reading(NamedTuple):
    """What was read off an axis."""

    value: float
    """nan if it lies below all that were tried, or is a crossing beyond them."""
    censored: str = ""
    failed_below: int = 0
    side: int = 0
    """1 if it lies above `bound`, -1 if below, 0 if it is `bound`."""
    bound: float = np.nan


def read(at: np.ndarray, score: np.ndarray, threshold: Threshold) -> Reading:
    """The value from scores along an ascending axis."""
    reached = score >= threshold.target
    above = Reading(np.nan, f"above {at[-1]:g}", 0, 1, float(at[-1]))
    below = Reading(np.nan, f"below {at[0]:g}", 0, -1, float(at[0]))
    if threshold.reading == "largest":
        if not reached.any():
            return below
        last = int(np.flatnonzero(reached)[-1])
        misses = int((~reached[:last]).sum())
        if last == len(at) - 1:
            return above._replace(value=float(at[last]), failed_below=misses)
        return Reading(float(at[last]), "", misses, 0, float(at[last]))
    if not reached.any():
        return above
    first = int(np.flatnonzero(reached)[0])
    if first == 0:  # reached at once, and maybe missed later
        return below._replace(failed_below=int((~reached).sum()))
    share = (threshold.target - score[first - 1]) / (score[first] - score[first - 1])
    value = float(np.exp(np.interp(share, [0, 1], np.log(at[first - 1 : first + 1]))))
    return Reading(value, "", int((~reached[first:]).sum()), 0, value)


def without(declared: dict[str, Any], names: set[str], prefix: str = "") -> dict[str, Any]:
    """A declaration but for the fields with these dotted names."""
    return {
        key: without(value, names, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in declared.items()
        if f"{prefix}{key}" not in names
    }
