"""How a metric changes along one quantity at equal others, and where along it the metric is highest."""

# R runs, M resamples, P parameters

import numpy as np
import pandas as pd
from scipy.special import expit

from analysis.compare import decidable, estimate, plane, weightings
from analysis.contrast import Parallel, column

OUT_OF_REACH = 3.0  # decades beyond what was tried, where a curve without a top is said to have it


def slope(
    frame: pd.DataFrame, metric: str, form: str, along: str, given: tuple[str, ...] = (), resamples: int = 2000
) -> Parallel:
    """The change of the metric for each doubling of `along` at equal `given`; of a share, the mean over the runs.

    ValueError if the runs do not vary it beside the others, or are no more configurations than the plane has parameters.
    """
    frame = decidable(frame, metric, form)
    size_PR = np.array([_logarithm(frame, name) for name in (along, *given)])
    _enough(frame, metric, len(size_PR) + 1)
    size_PR = size_PR - size_PR.mean(1, keepdims=True)
    rest_PR = np.vstack([np.ones(len(frame)), size_PR[1:]])
    left_R = size_PR[0] - rest_PR.T @ np.linalg.lstsq(rest_PR.T, size_PR[0], rcond=None)[0]
    if left_R.std() < 1e-3:
        raise ValueError(f"{metric}: the runs do not vary {along}{' at equal ' + ' and '.join(given) if given else ''}")
    design_RP = np.vstack([rest_PR[:1], size_PR]).T
    w_MR = weightings(frame, resamples)
    b_MP = plane(frame, metric, form, design_RP, w_MR)
    slope_M = b_MP[:, 1]
    if form == "logistic":
        p_MR = expit(np.clip(b_MP @ design_RP.T, -30, 30))
        slope_M = slope_M * (w_MR * p_MR * (1 - p_MR)).sum(1) / w_MR.sum(1)
    return _found(frame, slope_M * np.log10(2))


def peak(frame: pd.DataFrame, metric: str, form: str, along: str, resamples: int = 2000) -> Parallel:
    """log10 of where along `along` the metric is highest: the top of a parabola in its logarithm.

    ValueError for fewer than four different values of it.
    """
    frame = decidable(frame, metric, form)
    size_R = _logarithm(frame, along)
    _enough(frame, metric, 3)
    if len(np.unique(size_R.round(3))) < 4:
        raise ValueError(f"{metric}: a top along {along} takes four different values of it")
    middle = size_R.mean()
    design_RP = np.vander(size_R - middle, 3, increasing=True)
    b_MP = plane(frame, metric, form, design_RP, weightings(frame, resamples))
    low, high = size_R.min() - OUT_OF_REACH, size_R.max() + OUT_OF_REACH
    with np.errstate(all="ignore"):
        top_M = np.clip(middle - b_MP[:, 1] / (2 * b_MP[:, 2]), low, high)
    return _found(frame, np.where(b_MP[:, 2] < 0, top_M, np.where(b_MP[:, 1] > 0, high, low)))


def _logarithm(frame: pd.DataFrame, name: str) -> np.ndarray:
    size_R = np.log10(column(frame, name).to_numpy(float))
    if not np.isfinite(size_R).all():
        raise ValueError(f"{name} is not a number above zero in every run")
    return size_R


def _enough(frame: pd.DataFrame, metric: str, parameters: int) -> None:
    if (K := frame["configuration"].nunique()) <= parameters:
        raise ValueError(f"{metric}: {K} configurations with a value, and this needs {parameters + 1}")


def _found(frame: pd.DataFrame, values_M: np.ndarray) -> Parallel:
    kinds = frame.groupby("kind")["configuration"].nunique()
    return Parallel(estimate(values_M), int(kinds.sum()), len(frame), int(kinds.min()))
