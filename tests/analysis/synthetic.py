"""Tables made by each law from parameters that are known."""

import numpy as np
import pandas as pd

from analysis.laws import LAWS, Law
from analysis.regression import predicted

# published where LAWS.md has them, else of the size that the papers' have
TRUE = {
    "chinchilla": {"A": 482.01, "B": 2085.43, "E": 1.8172, "alpha": 0.3478, "beta": 0.3658},
    "clark": {"a": -0.082, "b": -0.108, "c": 0.009, "d": 1.104, "E_start": 1.847, "E_max": 314.478},
    "krajewski": {"a": 18.1, "alpha": 0.115, "b": 30.8, "beta": 0.147, "g": 2.1, "gamma": 0.58, "c": 0.47},
    "frantar": {"a_S": 5.0, "b_S": 0.4, "c_S": 12.0, "b_N": 0.25, "a_D": 4e7, "b_D": 0.3, "c": 0.9},
    "abnar": {
        **{"a": 16612.5, "b": 5455.67, "c": 0.4598, "d": 17.26, "e": 0.94, "alpha": 0.5962, "beta": 0.3954},
        **{"lambda": -0.1666, "delta": 0.1603, "gamma": 0.1595},
    },
    "ludziejewski": {
        **{"A": 35.9, "B": 36.0, "e": 1.36, "alpha": -0.15, "beta": -0.16, "gamma": -0.005, "zeta": 0.003},
        **{"delta": -0.08, "omega": 0.06, "E_start": 2.0, "E_max": 290.0},
    },
    "width-depth": {
        **{"A": 4.0, "B": 0.9, "F": 500.0, "G": 9e4, "E": 1.5},
        **{"alpha": 0.3, "beta": 0.4, "gamma": 0.4, "delta": 0.52},
    },
    "two-step": {"a": 0.25, "b": 0.9, "k": -2.0, "loss0": 2.8},
    "observational": {"theta": 0.3, "nu": -14.0},
    "accuracy-in-size": {"lo": 0.1, "hi": 0.95, "k": 1.2, "x0": 18.0},
    "accuracy-in-size-power": {"hi": 0.9, "A": 30.0, "alpha": 0.25},
    "accuracy-in-size-linear": {"intercept": -0.5, "slope": 0.06},
    "capacity": {"c": 0.3, "gamma": 0.9},
}


def design(runs: int, seed: int = 0) -> pd.DataFrame:
    """Runs of all sizes, tokens, experts and shapes, no two alike."""
    draw = np.random.default_rng(seed)
    N, D, E = 10 ** draw.uniform(7, 10, runs), 10 ** draw.uniform(9, 12, runs), 2.0 ** draw.integers(0, 10, runs)
    G, width, depth = 2.0 ** draw.integers(0, 7, runs), 2.0 ** draw.integers(6, 12, runs), draw.integers(2, 80, runs) * 1.0
    return pd.DataFrame({"N": N, "D": D, "E": E, "S": 1 - 1 / E, "C": 6 * N * D, "G": G, "width": width, "depth": depth})


def made_by(law: Law, values: dict[str, float], runs: int, seed: int = 0, trials: float = 1000.0) -> pd.DataFrame:
    """A design with the response that the law gives it, without noise."""
    frame = design(runs, seed)
    if law.first is not None:
        frame["task_loss"] = response(law.first, TRUE["chinchilla"], frame)
    name = law.response.columns[0]
    return frame.assign(**{name: response(law, values, frame), f"{name}.n": trials})


def response(law: Law, values: dict[str, float], frame: pd.DataFrame) -> np.ndarray:
    """What a law with these parameters says of these runs."""
    x = {name: frame[name].to_numpy(float) for name in law.variables}
    return predicted(law, np.array([[values[name] for name in law.parameters]]), x)[0]


assert set(TRUE) == set(LAWS)
