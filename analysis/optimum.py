"""The best parameters of a law: Newton's searches from many starts beside L-BFGS's, and values that are only bounds."""

# S starts, P parameters, R runs

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize as scipy_minimize

from analysis.errors import Binomial, Errors, Huber, Tobit
from analysis.formula import FROM_SCALE, compiled
from analysis.laws import Law
from analysis.points import Points
from analysis.solve import Problem, minimize
from analysis.starts import bounds, coordinates, spread

AGREE = 1e-6  # of the cost: two searches that differ by less found the same optimum
TOBIT_ROUNDS = 30
LBFGS = {"maxiter": 2000, "maxfun": 2500, "ftol": 1e-15, "gtol": 1e-12}


@dataclass(frozen=True)
class Optimum:
    """Where the summed cost of a law is least."""

    law: Law
    at: Points
    problem: Problem
    u_P: np.ndarray
    """The parameters' coordinates."""
    pinned_P: np.ndarray
    """Which of them were held."""
    cost: float
    by_lbfgs: float
    """The cost that scipy's L-BFGS reaches from an eighth of the starts and from beside the optimum."""

    @property
    def free(self) -> int:
        """How many parameters were fitted."""
        return int((~self.pinned_P).sum())

    @property
    def searches_agree(self) -> bool:
        """Whether Newton's and L-BFGS's searches found the same optimum."""
        return abs(self.by_lbfgs - self.cost) <= AGREE * abs(self.cost) + 1e-12

    def residuals(self, u_P: np.ndarray | None = None) -> np.ndarray:
        """(R,) predicted less measured on the scale of the errors, at the optimum or elsewhere."""
        return self.problem.predicted((self.u_P if u_P is None else u_P)[None])[0] - self.at.y_R


def optimum(law: Law, at: Points, starts: int, fixed: Mapping[str, float]) -> Optimum:
    """The best of damped Newton searches from `starts` places; `fixed` parameters are held. ValueError if there is none."""
    pinned_P, held_P = _pinned(law, fixed)
    problem = problem_of(law, at)
    u_SP = np.where(pinned_P, held_P, spread(law, problem.compiled, problem.x, FROM_SCALE[law.errors](at.y_R), starts))
    u_SP = np.clip(u_SP, problem.low_P, problem.high_P)
    u_P, cost = _best(*minimize(problem, u_SP, at.w_R[None], pinned_P))
    if (at.side_R != 0).any():
        problem, u_P, cost = _tobit(problem, law, at, u_P, pinned_P)
    beside_P = np.clip(u_P + 0.05 * ~pinned_P, problem.low_P, problem.high_P)
    other_P, other = lbfgs(problem, np.vstack([beside_P[None], u_SP[: starts // 8]]), at.w_R, pinned_P)
    if other < cost * (1 - AGREE) - 1e-12:
        u_P, cost = _best(*minimize(problem, other_P[None], at.w_R[None], pinned_P))
    return Optimum(law, at, problem, u_P, pinned_P, cost, other)


def problem_of(law: Law, at: Points, errors: Errors | None = None) -> Problem:
    """A law beside its runs, with the errors that it declares if none are given."""
    if errors is None and law.errors == "binomial":
        errors = Binomial(at.y_R, at.n_R if at.n_R is not None else np.ones(len(at.y_R)))
    made = compiled(law)
    return Problem(made, made.columns(at.x), errors or Huber(at.y_R, law.huber or np.inf), *bounds(law))


def _pinned(law: Law, fixed: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Which parameters are held, and all of their coordinates where they would be."""
    for name, value in fixed.items():
        if name not in law.parameters:
            raise ValueError(f"{law.name} has no parameter {name!r}; it has {', '.join(law.parameters)}")
        low, high = law.parameters[name].low, law.parameters[name].high
        if not low <= value <= high:
            raise ValueError(f"{name} = {value:g}: {law.name} has it from {low:g} to {high:g}")
    held = np.array([fixed.get(name, about.low) for name, about in law.parameters.items()])
    return np.array([name in fixed for name in law.parameters]), coordinates(law, held)


def _best(u_SP: np.ndarray, cost_S: np.ndarray) -> tuple[np.ndarray, float]:
    best = int(np.argmin(cost_S))
    if not np.isfinite(cost_S[best]):
        raise ValueError("from no start has the law a value on these runs; look for columns in other units than the law's")
    return u_SP[best], float(cost_S[best])


def _tobit(problem: Problem, law: Law, at: Points, u_P: np.ndarray, pinned_P: np.ndarray) -> tuple[Problem, np.ndarray, float]:
    """The optimum with censored values, the errors' standard deviation estimated in turn with the parameters."""
    if law.errors == "binomial":
        raise ValueError(f"{law.name} is fitted to shares, which are not censored")
    seen = at.side_R == 0
    residual_R = problem.predicted(u_P[None])[0] - at.y_R
    sigma = max(float(np.sqrt((residual_R[seen] ** 2).mean())), 1e-6)
    for _ in range(TOBIT_ROUNDS):
        errors = Tobit(at.y_R, at.side_R, sigma)
        problem = replace(problem, errors=errors)
        u_P, cost = _best(*minimize(problem, u_P[None], at.w_R[None], pinned_P))
        before, sigma = sigma, max(errors.spread(problem.predicted(u_P[None])[0]), 1e-6)
        if abs(sigma - before) < 1e-6 * sigma:
            break
    return problem, u_P, cost


def lbfgs(problem: Problem, starts_SP: np.ndarray, w_R: np.ndarray, pinned_P: np.ndarray) -> tuple[np.ndarray, float]:
    """The best of scipy's L-BFGS searches from these starts, and its cost."""
    limits = list(zip(problem.low_P[~pinned_P], problem.high_P[~pinned_P], strict=True))

    def whole(some: np.ndarray, start: np.ndarray) -> np.ndarray:
        u_P = start.copy()
        u_P[~pinned_P] = some
        return u_P

    def cost(some: np.ndarray, start: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope_P = problem.descent(whole(some, start), w_R)
        return (value, slope_P[~pinned_P]) if np.isfinite(value) else (1e300, np.zeros(len(some)))

    best_P, best = starts_SP[0], np.inf
    for start in starts_SP:
        done = scipy_minimize(cost, start[~pinned_P], args=(start,), jac=True, method="L-BFGS-B", bounds=limits, options=LBFGS)
        if done.fun < best:
            best_P, best = whole(done.x, start), float(done.fun)
    return best_P, best
