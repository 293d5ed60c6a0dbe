"""Quantities read off an axis of the grid: the largest book that a model knows, the width that a task needs."""

import json
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims import Claim, Threshold
from analysis.contrast import column, field_of


def runs_of(claim: Claim, chosen: pd.DataFrame) -> pd.DataFrame:
    """The runs that a claim is about; with a threshold, a row for each configuration and seed from which it can be read."""
    runs = subject(claim, chosen)
    if claim.threshold is None:
        return runs
    read = readings(runs, claim.threshold)
    return read[read["censored"] == ""].assign(**{claim.metric: lambda frame: frame["value"], f"{claim.metric}.n": np.nan})


def subject(claim: Claim, frame: pd.DataFrame) -> pd.DataFrame:
    """The trials of `frame` that a claim is about."""
    runs = frame[frame["task"] == claim.task]
    for field, value in claim.where.items():
        runs = runs[column(runs, field) == value]
    return runs


def readings(runs: pd.DataFrame, threshold: Threshold) -> pd.DataFrame:
    """A row a configuration (but for the axis and what goes along with it) and seed: its value on the axis.

    Columns beside those of `runs`: value; censored, `` or `above N` (reached at the largest tried), `below N` (nowhere);
    failed_below, how many smaller values missed the target although a larger one reached it: for `largest` these are
    noise, and the largest stands, as in the paper.
    """
    if threshold.metric not in runs:
        return runs.iloc[:0].assign(value=np.nan, censored="", failed_below=0)
    runs = runs[runs[threshold.metric].notna()]
    declared = runs["declared"].map(json.loads)
    at = declared.map(lambda one: field_of(one, threshold.axis)).astype(float)
    if threshold.among:
        runs, declared, at = (some[at.isin(threshold.among)] for some in (runs, declared, at))
    rest = declared.map(lambda one: json.dumps(without(one, {threshold.axis, "training.lr", "seed", *threshold.along})))
    table = []
    for (configuration, _), some in runs.assign(at=at, configuration=rest).groupby(["configuration", "seed"], sort=False):
        each = some.groupby("at").first().sort_index()
        value, censored, failed_below = read(each.index.to_numpy(), each[threshold.metric].to_numpy(float), threshold)
        row = each.iloc[-1].to_dict() | {"configuration": configuration}
        table.append(row | {"value": value, "censored": censored, "failed_below": failed_below})
    return pd.DataFrame(table, columns=[*runs.columns, "value", "censored", "failed_below"])


def read(at: np.ndarray, score: np.ndarray, threshold: Threshold) -> tuple[float, str, int]:
    """Value, censoring and misses below it, from scores along an ascending axis."""
    reached = score >= threshold.target
    if threshold.reading == "largest":
        if not reached.any():
            return np.nan, f"below {at[0]:g}", 0
        last = int(np.flatnonzero(reached)[-1])
        misses = int((~reached[:last]).sum())
        return at[last], f"above {at[last]:g}" if last == len(at) - 1 else "", misses
    if reached.all() or not reached.any():
        return np.nan, f"below {at[0]:g}" if reached.all() else f"above {at[-1]:g}", 0
    first = int(np.flatnonzero(reached)[0])
    if first == 0:  # reached at once, missed later
        return np.nan, f"below {at[0]:g}", int((~reached).sum())
    share = (threshold.target - score[first - 1]) / (score[first] - score[first - 1])
    return float(np.exp(np.interp(share, [0, 1], np.log(at[first - 1 : first + 1])))), "", int((~reached[first:]).sum())


def without(declared: dict[str, Any], names: set[str], prefix: str = "") -> dict[str, Any]:
    """A declaration but for the fields with these dotted names."""
    return {
        key: without(value, names, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in declared.items()
        if f"{prefix}{key}" not in names
    }
