"""Many fits of one law at once: damped Newton steps for every start, resample or pinned parameter together.

The sum of costs is minimised over all parameters with exact second derivatives. The damping matrix is that of iteratively
reweighted least squares (the Gauss-Newton step under Huber's weights), so a step far from the optimum is such a step and a
step near it is Newton's. Parameters at a bound that the slope pushes against stand still.
"""

# M fits, P parameters, R runs

from dataclasses import dataclass

import numpy as np

from analysis.errors import Errors
from analysis.formula import Compiled

STEPS = 400
CHUNK = 2**15  # numbers in an array of (M, R): those of a step stay in the cache
STILL = 1e-15  # of the cost: a step that is expected to gain less ends the search


@dataclass(frozen=True)
class Problem:
    """A law beside its data."""

    compiled: Compiled
    x: list[np.ndarray]
    """The variables' columns, as `Compiled.columns` gives them."""
    errors: Errors
    low_P: np.ndarray
    high_P: np.ndarray

    def predicted(self, u_MP: np.ndarray) -> np.ndarray:
        """(M, R) predictions on the scale of the errors."""
        with np.errstate(all="ignore"):
            value = self.compiled.value(*self.x, *u_MP.T[:, :, None])
        return np.broadcast_to(value, (len(u_MP), len(self.x[0])))

    def cost(self, u_MP: np.ndarray, w_MR: np.ndarray) -> np.ndarray:
        """(M,) sums of weighted costs; infinite where the law has no value."""
        with np.errstate(all="ignore"):
            return _finite((w_MR * self.errors.value(self.predicted(u_MP))).sum(1))

    def gradients(self, u_P: np.ndarray) -> np.ndarray:
        """(R, P) how each prediction moves with each coordinate."""
        with np.errstate(all="ignore"):
            _, *slopes = self.compiled.slopes(*self.x, *u_P)
        return np.stack([np.broadcast_to(one, len(self.x[0])) for one in slopes], -1)

    def descent(self, u_P: np.ndarray, w_R: np.ndarray) -> tuple[float, np.ndarray]:
        """Cost and slope (P,) of one fit, for searches that want no more."""
        with np.errstate(all="ignore"):
            value, *slopes = self.compiled.slopes(*self.x, *u_P)
            costs = self.errors.costs(np.broadcast_to(value, len(w_R)))
            each = w_R * costs.slope
            return float(_finite((w_R * costs.value).sum(keepdims=True))[0]), np.array([(each * one).sum() for one in slopes])

    def expand(self, u_MP: np.ndarray, w_MR: np.ndarray) -> tuple[np.ndarray, ...]:
        """Cost (M,), slope (M, P), Hessian (M, P, P), and the Hessian of the reweighted squares (M, P, P)."""
        M, P = u_MP.shape
        with np.errstate(all="ignore"):
            value, *derivatives = self.compiled.call(*self.x, *u_MP.T[:, :, None])
            costs = self.errors.costs(np.broadcast_to(value, w_MR.shape))
            g_MPR = np.empty((M, P, w_MR.shape[1]))
            for p in range(P):
                g_MPR[:, p] = derivatives[p]
            g_MRP = g_MPR.swapaxes(1, 2)
            slope_MR = w_MR * costs.slope
            slope_MP = (g_MPR @ slope_MR[:, :, None])[:, :, 0]
            hessian = (g_MPR * (w_MR * costs.curvature)[:, None, :]) @ g_MRP
            above = (g_MPR * (w_MR * costs.above)[:, None, :]) @ g_MRP
            for (i, j), second in zip(self.compiled.pairs, derivatives[P:], strict=True):
                bent = (slope_MR * second).sum(1)
                hessian[:, i, j] += bent
                if i != j:
                    hessian[:, j, i] += bent
            return _finite((w_MR * costs.value).sum(1)), slope_MP, hessian, above


def _finite(cost_M: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(cost_M), cost_M, np.inf)


def minimize(
    problem: Problem, u_MP: np.ndarray, w_MR: np.ndarray, pinned_MP: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(M, P) optima and (M,) their costs, from these starts under these weights; `pinned` parameters stay at their start."""
    M, P = u_MP.shape
    w_MR = np.broadcast_to(w_MR, (M, w_MR.shape[-1]))
    pinned_MP = np.zeros((M, P), bool) if pinned_MP is None else np.broadcast_to(pinned_MP, (M, P))
    size = max(1, CHUNK // w_MR.shape[1])
    done = [_descend(problem, u_MP[i : i + size], w_MR[i : i + size], pinned_MP[i : i + size]) for i in range(0, M, size)]
    return np.concatenate([u for u, _ in done]), np.concatenate([cost for _, cost in done])


def _descend(problem: Problem, u_MP: np.ndarray, w_MR: np.ndarray, pinned_MP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u_MP = np.clip(u_MP, problem.low_P, problem.high_P).astype(float)
    at = list(problem.expand(u_MP, w_MR))
    damping_M = np.full(len(u_MP), 1e-2)
    cost_M = at[0].copy()
    going = np.flatnonzero(np.isfinite(cost_M))
    at = [part[going] for part in at]
    for _ in range(STEPS):
        if not len(going):
            break
        cost, slope, hessian, above = at
        here = u_MP[going]
        step, gain = _step(problem, here, slope, hessian, above, damping_M[going], pinned_MP[going])
        there = np.clip(here + step, problem.low_P, problem.high_P)
        tried = problem.expand(there, w_MR[going])
        better = tried[0] < cost
        u_MP[going[better]] = there[better]
        cost_M[going] = np.where(better, tried[0], cost)
        at = [np.where(better.reshape(-1, *[1] * (old.ndim - 1)), new, old) for old, new in zip(at, tried, strict=True)]
        damping_M[going] = np.where(better, damping_M[going] / 5, damping_M[going] * 4)
        damping_M[going] = np.maximum(damping_M[going], 1e-12)
        ended = (np.abs(gain) <= STILL * cost + 1e-300) | (damping_M[going] > 1e10)
        going, at = going[~ended], [part[~ended] for part in at]
    return u_MP, cost_M


def _step(
    problem: Problem,
    u: np.ndarray,
    slope: np.ndarray,
    hessian: np.ndarray,
    above: np.ndarray,
    damping: np.ndarray,
    pinned: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The damped Newton step of each fit, and the gain that its slope promises."""
    P = u.shape[1]
    still = pinned | ((u <= problem.low_P) & (slope > 0)) | ((u >= problem.high_P) & (slope < 0))
    slope = np.where(still, 0.0, slope)
    matrix = hessian + damping[:, None, None] * above
    diagonal = np.einsum("mpp->mp", above)
    ridge = 1e-14 * diagonal + 1e-300 + 1e-14 * diagonal.max(1, keepdims=True)
    matrix[:, range(P), range(P)] += ridge
    both = still[:, :, None] | still[:, None, :]
    matrix = np.where(both, 0.0, matrix)
    matrix[:, range(P), range(P)] += still * 1.0
    try:
        step = -np.linalg.solve(matrix, slope[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        step = -(np.linalg.pinv(matrix) @ slope[:, :, None])[:, :, 0]
    return step, (slope * step).sum(1)
