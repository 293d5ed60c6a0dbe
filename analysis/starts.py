"""Where a search begins: the nonlinear parameters spread over their ranges, the linear ones solved for each of them.

Variable projection (Golub and Pereyra 1973): given the exponents, the coefficients are those of a linear problem, exact for
squared errors (relative ones, where errors are of the logarithm) and a good first value under Huber's.
"""

# S starts, P parameters, L linear ones, R runs

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls
from scipy.special import expit, logit
from scipy.stats import qmc

from analysis.formula import Compiled, linear_part
from analysis.laws import Law, Parameter

TO = {"positive": np.log, "free": lambda p: p, "share": logit}
FROM = {"positive": np.exp, "free": lambda u: u, "share": expit}


def coordinates(law: Law, values_MP: np.ndarray) -> np.ndarray:
    """Parameters as the coordinates in which they are moved."""
    with np.errstate(divide="ignore"):
        return np.stack([TO[p.kind](values_MP[..., i]) for i, p in enumerate(law.parameters.values())], -1)


def values(law: Law, u_MP: np.ndarray) -> np.ndarray:
    """Coordinates as the parameters that they stand for."""
    return np.stack([FROM[p.kind](u_MP[..., i]) for i, p in enumerate(law.parameters.values())], -1)


def bounds(law: Law) -> tuple[np.ndarray, np.ndarray]:
    """(P,) coordinates' lower and upper bounds."""
    low, high = (np.array([getattr(p, end) for p in law.parameters.values()]) for end in ("low", "high"))
    return coordinates(law, low), coordinates(law, high)


def spread(law: Law, compiled: Compiled, x: Sequence[np.ndarray], y_R: np.ndarray, starts: int) -> np.ndarray:
    """(S, P) coordinates of first values. y_R: the response on the scale on which the formula is linear."""
    searched = [i for i, p in enumerate(law.parameters.values()) if not p.linear]
    about = list(law.parameters.values())
    low, high = (np.array([_ends(about[i])[end] for i in searched]) for end in (0, 1))
    drawn = qmc.Sobol(max(len(searched), 1), seed=0).random(starts)[:, : len(searched)]
    u_SP = np.zeros((starts, len(about)))
    u_SP[:, searched] = low + drawn * (high - low)
    linear = [i for i, p in enumerate(about) if p.linear]
    if linear:
        parts = linear_part(law)
        weight_R = 1 / y_R if law.errors == "log" else np.ones_like(y_R)
        positive_L = np.array([about[i].kind == "positive" for i in linear])
        for start in u_SP:
            start[linear] = _coefficients(parts(*x, *values(law, start)), y_R, weight_R, positive_L)
        u_SP[:, linear] = np.stack([TO[about[i].kind](u_SP[:, i]) for i in linear], -1)
    return u_SP


def _ends(parameter: Parameter) -> tuple[float, float]:
    """Where its first coordinate lies between."""
    low, high = parameter.start
    return TO[parameter.kind](low), TO[parameter.kind](high)


def _coefficients(parts: Sequence[np.ndarray], y_R: np.ndarray, weight_R: np.ndarray, positive_L: np.ndarray) -> np.ndarray:
    """The linear parameters that fit best; a positive one makes up a hundredth at least, for none returns from zero."""
    *columns, rest = (np.broadcast_to(part, y_R.shape) * weight_R for part in parts)
    design, y_R = np.stack(columns, -1), y_R * weight_R - rest
    size_L = np.maximum(np.linalg.norm(design, axis=0), 1e-300)  # columns differ by powers of ten
    design = design / size_L
    both = np.hstack([design, -design[:, ~positive_L]])  # a free one is the difference of two that are not negative
    try:
        found = nnls(both, y_R)[0]
    except RuntimeError:  # it went round in circles, on columns that are nearly the same
        found = np.abs(np.linalg.lstsq(both, y_R, rcond=1e-10)[0])
    found, minus = found[: len(size_L)], found[len(size_L) :]
    found[~positive_L] -= minus
    return np.where(positive_L, np.maximum(found, 0.01 * np.linalg.norm(y_R)), found) / size_L
