"""Which axis predicts a metric: every size that runs have, held against configurations left out and the largest ones.

`compare.py` decides between two sizes, by a test that a claim names. This lays all of them side by side, for reading.
"""

# R runs, K configurations, M resamples

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import expit

from analysis.compare import FEWEST, Estimate, behind, compare, decidable, estimate, tied, weightings
from analysis.contrast import offset
from analysis.examine import worth
from analysis.fit import FITS, Points, curve, linear, logit_linear, off, on_scale
from analysis.runs import no_column

PREDICTORS: dict[str, tuple[tuple[str, ...], ...]] = {  # name -> its columns, each the first that is there
    "N_total": (("N_total",),),
    "N_active": (("N_active",),),
    "N_active and N_total": (("N_active",), ("N_total",)),
    "perplexity": (("perplexity",),),
    "width": (("d_model",),),
    "FLOPs": (("flops", "C"),),
    "tokens a parameter": (("tokens_per_parameter",),),
}
EQUAL = ("N_total", "N_active", "perplexity")
"""At which MoE are set beside dense models."""
RESAMPLES = 200
LARGE = 0.25  # the share of configurations, the largest, that an extrapolation is asked for
VARIED = 1.05  # a predictor whose largest value is less than this times its smallest is said not to vary


@dataclass(frozen=True)
class Axes:
    """All that could be said of one metric."""

    ranking: pd.DataFrame
    """A row a predictor, the best first: left_out, extrapolated, AICc and BIC above the least, behind (an `Estimate`)."""
    absent: dict[str, str]
    """Predictors that could not be tried, with the reason."""
    rate: Estimate | None
    """The worth of an inactive parameter in active ones; None where no run has any."""
    profile: tuple[float, float]
    worth: str
    """Both in a sentence, or why they are not known."""
    tied: str
    """Why active parameters are not told from width here, or nothing."""
    offsets: dict[str, Estimate]
    """MoE less dense at equal size."""
    apart: dict[str, str]
    """Sizes at which they could not be set beside each other, with the reason."""
    configurations: int
    runs: int
    ordered_by: str
    """By what the largest are the largest."""


@dataclass(frozen=True)
class Candidate:
    """A predictor with its values."""

    name: str
    x_PR: np.ndarray = field(repr=False)

    def predict(self, form: str, y_R: np.ndarray, n_R: np.ndarray, side_R: np.ndarray | None, w_MR: np.ndarray) -> np.ndarray:
        """(M, R) the metric of every run, on the form's scale, from a fit under each weighting."""
        if len(self.x_PR) == 1:
            a_M, b_M = FITS[form](Points(self.x_PR[0], y_R, n_R, side_R), w_MR)
            return curve(form, a_M[:, None], b_M[:, None], self.x_PR[0])
        u_PR = np.log10(self.x_PR)
        design_RP = np.vstack([np.ones(len(y_R)), u_PR - u_PR.mean(1, keepdims=True)]).T
        if form == "logistic":
            return expit(logit_linear(design_RP, y_R, n_R, w_MR) @ design_RP.T)
        return linear(design_RP, on_scale(form, y_R), w_MR) @ design_RP.T


def axes(frame: pd.DataFrame, metric: str, form: str) -> Axes:
    """Everything that is known of which size predicts `metric`, on runs at their chosen learning rate.

    ValueError if fewer than three configurations have a value.
    """
    frame = decidable(frame, metric, form)
    K = frame["configuration"].nunique()
    if K < FEWEST:
        raise ValueError(f"{metric}: {K} configurations with a value, and leaving one out needs {FEWEST}")
    tried, absent = candidates(frame)
    if not tried:
        raise ValueError(f"{metric}: nothing that could predict it varies: {'; '.join(absent.values())}")
    ordered_by, large_R = largest(frame)
    side_R = frame[f"{metric}.side"].to_numpy(float) if f"{metric}.side" in frame else None
    y_R, n_R = frame[metric].to_numpy(float), behind(frame, metric)
    config_R, w_MR = pd.factorize(frame["configuration"])[0], weightings(frame, RESAMPLES)
    once_R = 1 / np.bincount(config_R)[config_R]
    truth_R, rows = on_scale(form, y_R), []
    for one in tried:
        wrong_MR = np.zeros_like(w_MR)
        for k in range(K):
            out_R = config_R == k
            wrong_MR[:, out_R] = off(one.predict(form, y_R, n_R, side_R, w_MR * ~out_R), truth_R, side_R)[:, out_R]
        beyond_R = off(one.predict(form, y_R, n_R, side_R, (~large_R * 1.0)[None]), truth_R, side_R)[0]
        within_R = off(one.predict(form, y_R, n_R, side_R, once_R[None]), truth_R, side_R)[0]
        error_M = np.sqrt((w_MR * wrong_MR**2).sum(1) / w_MR.sum(1))
        known = np.unique(config_R[~large_R]).size > len(one.x_PR) + 1
        extrapolated = float(np.sqrt((beyond_R[large_R] ** 2).mean())) if known else math.nan
        aicc, bic = criteria(float((once_R * within_R**2).sum()), K, len(one.x_PR) + 2)
        rows.append({"predictor": one.name, "error_M": error_M, "extrapolated": extrapolated, "AICc": aicc, "BIC": bic})
    ranking = pd.DataFrame(rows)
    ranking["left_out"] = [error_M[0] for error_M in ranking["error_M"]]
    ranking = ranking.sort_values("left_out", kind="stable").reset_index(drop=True)
    ranking["behind"] = [estimate(error_M - ranking["error_M"][0]) for error_M in ranking["error_M"]]
    for name in ("AICc", "BIC"):
        ranking[name] -= ranking[name].min()
    offsets, apart = beside_dense(frame, metric, form)
    return Axes(
        ranking.drop(columns="error_M"),
        absent,
        *exchange(frame, metric, form),
        tied(frame),
        offsets,
        apart,
        K,
        len(frame),
        ordered_by,
    )


def candidates(frame: pd.DataFrame) -> tuple[list[Candidate], dict[str, str]]:
    """The predictors that these runs vary, and why the others are not among them."""
    tried: list[Candidate] = []
    absent: dict[str, str] = {}
    for name, columns in PREDICTORS.items():
        taken = [next((one for one in some if one in frame), "") for some in columns]
        if not all(taken):
            lacking = next(some[0] for some, one in zip(columns, taken, strict=True) if not one)
            absent[name] = no_column(lacking, frame)
            continue
        x_PR = frame[taken].to_numpy(float).T
        if not (np.isfinite(x_PR) & (x_PR > 0)).all():
            absent[name] = f"{' or '.join(taken)} is not a number above zero in every run"
        elif (x_PR.max(1) < VARIED * x_PR.min(1)).any():
            absent[name] = "the runs do not vary it"
        elif len(x_PR) > 1 and np.ptp(x_PR[0] / x_PR[1]) < 1e-9:
            absent[name] = f"{' and '.join(taken)} are the same in every run"
        elif same := next((one.name for one in tried if len(x_PR) == len(one.x_PR) == 1 and _alike(x_PR[0], one.x_PR[0])), ""):
            absent[name] = f"it goes with {same} in every run"
        else:
            tried.append(Candidate(name, x_PR))
    return tried, absent


def _alike(x_R: np.ndarray, other_R: np.ndarray) -> bool:
    """Whether lines in the logarithm of either say the same."""
    return abs(float(np.corrcoef(np.log(x_R), np.log(other_R))[0, 1])) > 1 - 1e-9


def largest(frame: pd.DataFrame) -> tuple[str, np.ndarray]:
    """By what runs are small or large, and which are of the largest quarter of the configurations."""
    for name in ("flops", "C", "N_total"):
        if name in frame and frame[name].notna().all() and frame[name].max() > VARIED * frame[name].min():
            break
    size_K = frame.groupby("configuration")[name].max().sort_values(kind="stable")
    large = size_K.index[-max(1, round(LARGE * len(size_K))) :]
    return name, frame["configuration"].isin(large).to_numpy()


def criteria(squares: float, K: int, parameters: int) -> tuple[float, float]:
    """AICc and BIC of normal errors of unknown variance, a configuration counting once; nan for too few of them."""
    if K - parameters - 1 <= 0:
        return math.nan, math.nan
    fit = K * math.log(max(squares / K, 1e-300))
    aicc = fit + 2 * parameters + 2 * parameters * (parameters + 1) / (K - parameters - 1)
    return aicc, fit + parameters * math.log(K)


def exchange(frame: pd.DataFrame, metric: str, form: str) -> tuple[Estimate | None, tuple[float, float], str]:
    """The worth of an inactive parameter, its profile interval, and both in a sentence, or why they are not known."""
    if (frame["N_total"] <= 1.01 * frame["N_active"]).all():
        return (
            None,
            (math.nan, math.nan),
            "All parameters are active in every run: nothing tells what an inactive one is worth.",
        )
    found = compare(frame, metric, form, "N_total", "N_active", resamples=RESAMPLES)
    return found.rate, found.profile, worth(found)


def beside_dense(frame: pd.DataFrame, metric: str, form: str) -> tuple[dict[str, Estimate], dict[str, str]]:
    """How far the MoE lie from dense models at equal size, for each of `EQUAL`; and where that cannot be told, why."""
    found, lacking = {}, {}
    for at in EQUAL:
        try:
            found[at] = offset(frame, metric, form, at).distance
        except ValueError as error:
            lacking[at] = str(error)
    return found, lacking
