"""How far off a law's parameters may be: resampled configurations, profiles of the cost, and what the runs cannot tell."""

# M resamples, P parameters, R runs, K configurations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from analysis.errors import Binomial, Huber
from analysis.optimum import Optimum
from analysis.solve import minimize

DRAWN = 512  # resamples made at once
WEAK, BLIND, BEYOND = 30.0, 1e8, 1e15
"""Condition indexes: Belsley, Kuh and Welsch (1980) call 30 strong; past 1e8 rounding decides."""
SHARED = 0.3  # of the variance of a parameter: it takes part in a direction that makes this much
REACH = np.array([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 9.0])
"""Where a profile is looked at, in half-widths of the parabola's interval."""
Ends = tuple[float | None, float | None]


def bootstrap(best: Optimum, resamples: int, seed: int) -> tuple[np.ndarray, str]:
    """(M, P) coordinates fitted to resampled configurations, each search begun at the optimum of all; how they were drawn.

    With fewer than two configurations a parameter, draws with replacement often leave too few different ones to fit; then
    all stay and carry random weights instead (Rubin 1981; Xu et al. 2020, the fractional-random-weight bootstrap).
    """
    draw, K = np.random.default_rng(seed), best.at.configurations
    fractional = 2 * best.free > K
    found = []
    for begun in range(0, resamples, DRAWN):
        M = min(DRAWN, resamples - begun)
        w_MK = K * draw.dirichlet(np.ones(K), M) if fractional else times_drawn(draw, K, M, best.free)
        w_MR = w_MK[:, best.at.config_R] * best.at.w_R
        found.append(minimize(best.problem, np.tile(best.u_P, (M, 1)), w_MR, best.pinned_P)[0])
    return np.concatenate(found), "bootstrap with random weights" if fractional else "bootstrap"


def times_drawn(draw: np.random.Generator, K: int, M: int, fewest: int) -> np.ndarray:
    """(M, K) how often each configuration is drawn with replacement; at least `fewest` different ones in each."""
    w_MK = draw.multinomial(K, np.full(K, 1 / K), M).astype(float)
    while len(poor := np.flatnonzero((w_MK > 0).sum(1) < fewest)):
        w_MK[poor] = draw.multinomial(K, np.full(K, 1 / K), len(poor))
    return w_MK


@dataclass(frozen=True)
class Parabola:
    """The cost about its optimum: the covariance of the coordinates, and the cost that a likelihood ratio counts in."""

    covariance_PP: np.ndarray
    unit: float
    """Twice the rise of the cost in this unit is chi-squared of one degree of freedom, nearly."""
    freedom: float

    @property
    def critical(self) -> float:
        """How many standard errors the 95 % interval reaches."""
        return float(student.ppf(0.975, self.freedom))


def parabola(best: Optimum) -> Parabola:
    """Squares: the residual variance. Huber: Huber's (1981) E psi^2 / E psi', psi' from the residuals' density at zero.
    Binomial: 1, or the dispersion of Pearson's residuals if that is more or no n is known.
    """
    at, problem, free_P = best.at, best.problem, ~best.pinned_P
    g_RP = problem.gradients(best.u_P)[:, free_P]
    freedom = max(len(at.y_R) - best.free, 1)
    errors, residual_R = problem.errors, best.residuals()
    if isinstance(errors, Binomial):
        curved = errors.information(at.y_R + residual_R)
        pearson = float((at.w_R * curved * residual_R**2).sum() / freedom)
        unit = pearson if at.n_R is None else max(1.0, pearson)
    elif isinstance(errors, Huber) and np.isfinite(errors.delta):
        slope = near_zero(residual_R, errors.delta)
        psi_R = np.clip(residual_R, -errors.delta, errors.delta)
        unit, curved = float((at.w_R * psi_R**2).sum() / freedom) / slope, np.full(len(residual_R), slope)
    else:
        unit, curved = 2 * best.cost / freedom, np.ones(len(residual_R))
    information = (g_RP * (at.w_R * curved)[:, None]).T @ g_RP
    covariance = np.zeros((len(free_P), len(free_P)))
    covariance[np.ix_(free_P, free_P)] = unit * np.linalg.pinv(information, rcond=1e-14, hermitian=True)
    return Parabola(covariance, unit, freedom if not (isinstance(errors, Binomial) and unit == 1.0) else np.inf)


def near_zero(residual_R: np.ndarray, delta: float) -> float:
    """The mean of Huber's psi': the share of residuals within delta, from those within a bandwidth where that is wider."""
    spread = 1.4826 * np.median(np.abs(residual_R))
    width = max(delta, 1.06 * spread * len(residual_R) ** -0.2)
    return min(1.0, max(float((np.abs(residual_R) <= width).mean()), 1 / len(residual_R)) * delta / width)


def profile(best: Optimum) -> list[Ends]:
    """Each coordinate's 95 % interval: where the cost, the others fitted anew, has risen as a likelihood ratio allows.

    An end that is not reached within nine standard errors or before a bound is None: the runs do not close it.
    """
    bent, problem, P = parabola(best), best.problem, len(best.u_P)
    spread_P = np.sqrt(np.diag(bent.covariance_PP))
    profiled = np.flatnonzero(spread_P > 0)
    ends: list[Ends] = [(None, None)] * P
    steps_S = bent.critical * np.concatenate([-REACH[::-1], REACH])
    for p in profiled:
        u_SP = best.u_P + np.outer(steps_S, bent.covariance_PP[p] / spread_P[p])  # along the parabola's valley
        u_SP = np.clip(u_SP, problem.low_P, problem.high_P)
        _, cost_S = minimize(problem, u_SP, best.at.w_R[None], best.pinned_P | (np.arange(P) == p))
        rise_S = np.sqrt(np.maximum(2 * (cost_S - best.cost) / max(bent.unit, 1e-300), 0))
        below, above = slice(len(REACH) - 1, None, -1), slice(len(REACH), None)
        low, high = (_crossing(best.u_P[p], u_SP[way, p], rise_S[way], bent.critical) for way in (below, above))
        ends[p] = (low, high)
    return ends


def _crossing(centre: float, where: np.ndarray, rise: np.ndarray, critical: float) -> float | None:
    """Where the root of the rise, followed from the optimum outward, first meets the critical value."""
    where, rise = np.r_[centre, where], np.r_[0.0, rise]
    beyond = np.flatnonzero(rise >= critical)
    if not len(beyond):
        return None
    i = beyond[0]
    return float(where[i - 1] + (where[i] - where[i - 1]) * (critical - rise[i - 1]) / (rise[i] - rise[i - 1]))


@dataclass(frozen=True)
class Identifiability:
    """What the runs can tell about the parameters one by one."""

    condition: float
    """Largest over smallest singular value of the sensitivities, each parameter's scaled to length one."""
    together: tuple[tuple[str, ...], ...]
    """Sets of parameters that trade against each other: a flat direction, in which one makes up for the others."""
    untold: tuple[str, ...]
    """Parameters that the runs do not tell at all: any value fits as well, if others follow."""


def identifiability(best: Optimum) -> Identifiability:
    """Belsley's condition indexes of the sensitivities at the optimum, with the parameters that share each weak direction."""
    names = [name for name, pinned in zip(best.law.parameters, best.pinned_P, strict=True) if not pinned]
    weight_R, errors = best.at.w_R, best.problem.errors
    if isinstance(errors, Binomial):
        weight_R = weight_R * errors.information(best.at.y_R + best.residuals())
    g_RP = best.problem.gradients(best.u_P)[:, ~best.pinned_P] * np.sqrt(weight_R)[:, None]
    size_P = np.linalg.norm(g_RP, axis=0)
    felt_P = size_P > 1e-12 * size_P.max(initial=1e-300)
    untold = [name for name, felt in zip(names, felt_P, strict=True) if not felt]
    names = [name for name in names if name not in untold]
    _, s_K, v_KP = np.linalg.svd(g_RP[:, felt_P] / size_P[felt_P], full_matrices=False)
    index_K = s_K[0] / np.maximum(s_K, s_K[0] / BEYOND)
    part_KP = (v_KP * index_K[:, None]) ** 2
    part_KP /= part_KP.sum(0)
    together = []
    for k in np.argsort(-index_K):
        sharing = tuple(name for name, part in zip(names, part_KP[k], strict=True) if part > SHARED)
        if index_K[k] > BLIND:
            untold += [name for name in sharing if name not in untold]
        if index_K[k] > WEAK and len(sharing) > 1:
            together.append(sharing)
    return Identifiability(float("inf") if not felt_P.all() else float(index_K.max()), tuple(together), tuple(untold))


def percentiles(values_MP: np.ndarray) -> np.ndarray:
    """(2, P) the middle 95 %."""
    return np.percentile(values_MP, [2.5, 97.5], axis=0)
