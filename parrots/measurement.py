"""A number that was measured: never without its standard error and the count it stands on."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Measurement:
    """One value of one metric at one training step."""

    metric: str
    step: int
    value: float
    stderr: float
    """Standard error over the n things averaged: examples or steps. It says nothing of other seeds."""
    n: int


def mean(metric: str, step: int, values: np.ndarray) -> Measurement:
    """The mean of `values` (any shape, at least one) and its standard error; nan for a single value."""
    n = values.size
    stderr = float(values.std(ddof=1, dtype=np.float64)) / math.sqrt(n) if n > 1 else math.nan
    return Measurement(metric, step, float(values.mean(dtype=np.float64)), stderr, n)


def proportion(metric: str, step: int, right: np.ndarray) -> Measurement:
    """The share of True in `right` with its binomial standard error."""
    p = float(right.mean())
    return Measurement(metric, step, p, math.sqrt(p * (1 - p) / right.size), right.size)
