"""Straight lines after a link, fitted for many weightings of the same points at once: what resampling needs.

power: log10 y = a + b log10 x by least squares; linear: y itself. logistic: logit p = a + b log10 x by maximum binomial
likelihood.
"""

# R points, M weightings

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_ndtr, logit

ITERATIONS = 30  # of Newton's method; it has converged to 1e-9 in fewer than 10 on data that are not separable
TOBIT = 60  # of expectation and maximization; with a third of the values hidden it has converged to 1e-4 in 40


@dataclass(frozen=True)
class Points:
    """Sizes, measured values and, where the value is a share of n right answers, n."""

    x_R: np.ndarray
    y_R: np.ndarray
    n_R: np.ndarray
    side_R: np.ndarray | None = None
    """1 where the value is only known to lie above y, -1 below; None where all are known."""


def power(points: Points, w_MR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intercepts and slopes (M,) of log10 y on log10 x; a slope that the points cannot tell is 0."""
    return _straight(points, np.log10(points.y_R), w_MR)


def straight(points: Points, w_MR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intercepts and slopes (M,) of y on log10 x."""
    return _straight(points, points.y_R, w_MR)


def _straight(points: Points, v_R: np.ndarray, w_MR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u_R = np.log10(points.x_R)
    if points.side_R is None or not points.side_R.any():
        return _line(u_R, v_R, w_MR)
    middle = u_R.mean()
    a_M, b_M = censored(np.column_stack([np.ones(len(u_R)), u_R - middle]), v_R, points.side_R, w_MR).T
    return a_M - b_M * middle, b_M


def _line(u_R: np.ndarray, v_R: np.ndarray, w_MR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    w_M = w_MR.sum(-1)
    u_M, v_M = (w_MR * u_R).sum(-1) / w_M, (w_MR * v_R).sum(-1) / w_M
    du, dv = u_R - u_M[..., None], v_R - v_M[..., None]
    spread_M = (w_MR * du * du).sum(-1)
    told = spread_M > 1e-12 * w_M
    slope_M = np.where(told, (w_MR * du * dv).sum(-1) / np.where(told, spread_M, 1), 0.0)
    return v_M - slope_M * u_M, slope_M


def logistic(points: Points, w_MR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intercepts and slopes (M,) of logit p on log10 x; steps are damped, so separable points end steep but finite."""
    u_R = np.log10(points.x_R)
    p_R = (points.y_R * points.n_R + 0.5) / (points.n_R + 1)
    a_M, b_M = _line(u_R, logit(p_R), w_MR)
    for _ in range(ITERATIONS):
        eta = np.clip(a_M[..., None] + b_M[..., None] * u_R, -30, 30)
        fitted = expit(eta)
        information = np.maximum(fitted * (1 - fitted), 1e-6)
        step_a, step_b = _line(u_R, (p_R - fitted) / information, w_MR * points.n_R * information)
        a_M, b_M = a_M + np.clip(step_a, -20, 20), b_M + np.clip(step_b, -5, 5)
    return a_M, b_M


def linear(design_RP: np.ndarray, y_R: np.ndarray, w_MR: np.ndarray) -> np.ndarray:
    """(M, P) weighted least squares of y on the columns of a design; the least of those that fit alike."""
    weighted_MPR = w_MR[:, None, :] * design_RP.T
    gram_MPP = weighted_MPR @ design_RP
    return np.einsum("MPQ,MQ->MP", np.linalg.pinv(gram_MPP, rcond=1e-10, hermitian=True), weighted_MPR @ y_R)


def censored(design_RP: np.ndarray, y_R: np.ndarray, side_R: np.ndarray, w_MR: np.ndarray) -> np.ndarray:
    """(M, P) Tobit: y on the columns of a design by maximum likelihood, where some y are only bounds (Tobin 1958).

    side_R: 1 where the value lies above y, -1 where it lies below, 0 where it is y. Normal errors of one unknown variance,
    by expectation and maximization; weightings without a known value keep what the bounds themselves say.
    """
    weighted_MPR = w_MR[:, None, :] * design_RP.T
    solve_MPR = np.linalg.pinv(weighted_MPR @ design_RP, rcond=1e-10, hermitian=True) @ weighted_MPR
    b_MP = solve_MPR @ y_R
    total_M = np.maximum(w_MR.sum(1), 1e-12)
    sigma_M = np.sqrt((w_MR * (y_R - b_MP @ design_RP.T) ** 2).sum(1) / total_M) + 1e-3
    for _ in range(TOBIT):
        mean_MR, sigma_M1 = b_MP @ design_RP.T, sigma_M[:, None]
        z_MR = np.where(side_R == 0, 0.0, side_R * (y_R - mean_MR) / sigma_M1)
        hazard_MR = np.exp(-0.5 * z_MR**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(-z_MR))
        filled_MR = np.where(side_R == 0, y_R, mean_MR + side_R * sigma_M1 * hazard_MR)
        hidden_MR = np.where(side_R == 0, 0.0, sigma_M1**2 * np.clip(1 + z_MR * hazard_MR - hazard_MR**2, 0, 1))
        b_MP = np.einsum("MPR,MR->MP", solve_MPR, filled_MR)
        squares_MR = (filled_MR - b_MP @ design_RP.T) ** 2 + hidden_MR
        sigma_M = np.sqrt((w_MR * squares_MR).sum(1) / total_M) + 1e-6
    return b_MP


def off(predicted: np.ndarray, y_R: np.ndarray, side_R: np.ndarray | None) -> np.ndarray:
    """Predicted less measured; nothing where the prediction keeps to its side of a bound."""
    wrong = predicted - y_R
    if side_R is None:
        return wrong
    kept = ((side_R > 0) & (wrong > 0)) | ((side_R < 0) & (wrong < 0))
    return np.where(kept, 0.0, wrong)


def logit_linear(design_RP: np.ndarray, p_R: np.ndarray, n_R: np.ndarray, w_MR: np.ndarray) -> np.ndarray:
    """(M, P) logit of a share on the columns of a design, by maximum binomial likelihood with damped steps."""
    p_R = (p_R * n_R + 0.5) / (n_R + 1)
    b_MP = linear(design_RP, logit(p_R), w_MR)
    for _ in range(ITERATIONS):
        fitted_MR = expit(np.clip(b_MP @ design_RP.T, -30, 30))
        information_MR = np.maximum(fitted_MR * (1 - fitted_MR), 1e-6)
        weighted_MPR = (w_MR * n_R * information_MR)[:, None, :] * design_RP.T
        slope_MP = np.einsum("MPR,MR->MP", weighted_MPR, (p_R - fitted_MR) / information_MR)
        step_MP = np.einsum("MPQ,MQ->MP", np.linalg.pinv(weighted_MPR @ design_RP, rcond=1e-10, hermitian=True), slope_MP)
        b_MP = b_MP + np.clip(step_MP, -5, 5)
    return b_MP


FITS = {"power": power, "logistic": logistic, "linear": straight}


def on_scale(form: str, y: np.ndarray) -> np.ndarray:
    """Measured values on the scale on which errors are counted: log10 for power, themselves otherwise."""
    return np.log10(y) if form == "power" else y


def curve(form: str, a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The fitted value at x, on the scale of `on_scale`."""
    line = a + b * np.log10(x)
    return expit(line) if form == "logistic" else line
