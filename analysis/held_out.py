"""How wrong a fitted law is on runs that it was not fitted to: whole configurations left out, and large ones from small."""

# F fits, R runs, K configurations, P parameters

from dataclasses import dataclass

import numpy as np

from analysis.optimum import Optimum
from analysis.points import Points
from analysis.solve import minimize

FOLDS = 10
SMALLER = 0.8  # the share of configurations, the smaller ones, that an extrapolation is fitted to


@dataclass(frozen=True)
class HeldOut:
    """Root mean squared errors on the scale of the law's errors; None where too few configurations were left to fit."""

    folds: float | None
    """Of configurations left out a tenth at a time."""
    extrapolated: float | None
    """Of the largest fifth of the configurations, from the fit to the others."""
    ordered_by: str


def held_out(best: Optimum) -> HeldOut:
    """Both errors of a law; each fit begins at the optimum of all runs."""
    at = best.at
    fold_K = np.random.default_rng(0).permutation(at.configurations) % min(FOLDS, at.configurations)
    name, large_R = _largest(at)
    out_FR = np.vstack([fold_K[at.config_R] == np.arange(fold_K.max() + 1)[:, None], large_R])
    u_FP, _ = minimize(best.problem, np.tile(best.u_P, (len(out_FR), 1)), at.w_R * ~out_FR, best.pinned_P)
    enough = [len(np.unique(at.config_R[~out_R])) > best.free for out_R in out_FR]
    squares = [best.residuals(u_P)[out_R & (at.side_R == 0)] ** 2 for u_P, out_R in zip(u_FP, out_FR, strict=True)]
    return HeldOut(_root(np.concatenate(squares[:-1]), all(enough[:-1])), _root(squares[-1], enough[-1]), name)


def _largest(at: Points) -> tuple[str, np.ndarray]:
    """By what runs are small or large (N times D, or else the first variable), and which are of the largest configurations."""
    if {"N", "D"} <= set(at.x):
        name, size_R = "N * D", at.x["N"] * at.x["D"]
    else:
        name, size_R = next(iter(at.x.items()))
    size_K = np.full(at.configurations, -np.inf)
    np.maximum.at(size_K, at.config_R, size_R)
    return name, size_K[at.config_R] > np.quantile(size_K, SMALLER)


def _root(squares: np.ndarray, enough: bool) -> float | None:
    return float(np.sqrt(squares.mean())) if enough and len(squares) else None
