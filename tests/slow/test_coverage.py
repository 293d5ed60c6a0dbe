"""How often nominal 95 % intervals hold the truth: 500 simulated tables for each of three laws. Ten minutes a core.

`python -m tests.slow.test_coverage` prints the table anew. Bootstraps of 200 resamples; profiles are exact but for their
interpolation. An end that is open holds whatever lies beyond.
"""

import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from analysis.laws import LAWS
from analysis.regression import Fit, fit

from ..analysis.synthetic import TRUE, made_by

SIMULATIONS, RESAMPLES = 500, 200


def lognormal(spread: float) -> Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]:
    """Losses with independent errors of this size in their logarithm."""
    return lambda frame, draw: frame.assign(loss=frame["loss"] * np.exp(draw.normal(0, spread, len(frame))))


def binomial(frame: pd.DataFrame, draw: np.random.Generator) -> pd.DataFrame:
    """Accuracies on as many questions as they say."""
    n = frame["accuracy.n"].astype(int)
    return frame.assign(accuracy=draw.binomial(n, frame["accuracy"]) / n)


DESIGNS = {
    "chinchilla": (60, lognormal(0.005)),
    "clark": (60, lognormal(0.007)),
    "accuracy-in-size": (40, binomial),
}
COVERED: dict[tuple[str, str], dict[str, float]] = {  # 2026-11-25, 500 simulations each: a standard error of .01
    ("chinchilla", "profile"): {"A": 0.92, "B": 0.91, "E": 0.936, "alpha": 0.924, "beta": 0.912},
    ("chinchilla", "bootstrap"): {"A": 0.972, "B": 0.972, "E": 0.95, "alpha": 0.968, "beta": 0.974},
    ("clark", "profile"): {"a": 0.954, "b": 0.956, "c": 0.96, "d": 0.952, "E_start": 0.95, "E_max": 0.954},
    ("clark", "bootstrap"): {"a": 0.936, "b": 0.948, "c": 0.948, "d": 0.934, "E_start": 0.956, "E_max": 0.94},
    ("accuracy-in-size", "profile"): {"lo": 0.946, "hi": 0.966, "k": 0.96, "x0": 0.95},
    ("accuracy-in-size", "bootstrap"): {"lo": 0.908, "hi": 0.934, "k": 0.936, "x0": 0.924},
}


def simulated(name: str, method: str, simulations: int = SIMULATIONS) -> dict[str, float]:
    """For each parameter the share of simulated tables whose interval holds it."""
    law, (runs, noise) = LAWS[name], DESIGNS[name]
    exact = made_by(law, TRUE[name], runs, trials=500)
    held = dict.fromkeys(law.parameters, 0)
    for seed in range(simulations):
        found = fit(noise(exact, np.random.default_rng(seed)), law, intervals=method, resamples=RESAMPLES, starts=8, seed=seed)
        for parameter in held:
            held[parameter] += holds(found, parameter, TRUE[name][parameter])
    return {parameter: count / simulations for parameter, count in held.items()}


def holds(found: Fit, parameter: str, truth: float) -> bool:
    low, high = found.intervals[parameter]
    return (low is None or low <= truth) and (high is None or truth <= high)


@pytest.mark.parametrize(("name", "method"), COVERED)
def test_intervals_hold_the_truth_as_often_as_was_written_down(name, method):
    assert simulated(name, method) == pytest.approx(COVERED[name, method], abs=0.015)


if __name__ == "__main__":
    for name in DESIGNS:
        for method in ("profile", "bootstrap"):
            print((name, method), simulated(name, method, int(sys.argv[1]) if sys.argv[1:] else SIMULATIONS), flush=True)
