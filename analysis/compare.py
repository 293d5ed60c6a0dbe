"""Which size foretells a metric: errors on left-out configurations, the bootstrap of their difference, the exchange rate.

The unit that is left out and resampled is the configuration with all of its seeds: seeds of one configuration share its
size, so a split between them would test nothing.
"""

# R runs, K configurations, M resamples, P parameters

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.stats import f as f_ratio
from scipy.stats import t as student

from analysis.claims import RATES
from analysis.fit import FITS, Points, censored, curve, linear, logit_linear, off, on_scale

GRID = np.linspace(*RATES, 151)
FEWEST = 3  # configurations with which a line can be left-one-out at all
UNKNOWN = 1000.0  # trials behind a share whose count nobody wrote down; the same for all, so that none weighs more
APART = 1.2  # N_active of two models of one kind and width: routers alone make it differ by less


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float
    draws_M: np.ndarray | None = field(default=None, repr=False, compare=False)
    """The resamples that it comes from; None for Student's interval."""
    freedom: float = np.inf
    """Degrees of Student's t, without resamples."""

    def beyond(self, bound: float, above: bool) -> float:
        """The one-sided p of "it does not lie above (or below) `bound`"; 0 for a bound at infinity on the other side."""
        if np.isinf(bound):
            return 0.0
        if self.draws_M is not None:
            against = (self.draws_M <= bound if above else self.draws_M >= bound).sum()
            return float((1 + against) / (1 + len(self.draws_M)))
        error = (self.high - self.low) / 2 / student.ppf(0.975, self.freedom)
        away = (self.value - bound) * (1 if above else -1)
        return float(student.sf(away / error, self.freedom)) if error else float(away <= 0)

    @property
    def narrow(self) -> tuple[float, float]:
        """Its 90 % interval, of which two one-sided tests at 5 % consist."""
        if self.draws_M is not None:
            low, high = np.percentile(self.draws_M, [5, 95])
            return float(low), float(high)
        half = (self.high - self.low) / 2 * student.ppf(0.95, self.freedom) / student.ppf(0.975, self.freedom)
        return self.value - half, self.value + half

    def __format__(self, spec: str) -> str:
        one = spec or ".3f"
        return f"{self.value:{one}} [{self.low:{one}}, {self.high:{one}}]"

    def __str__(self) -> str:
        return format(self)


@dataclass(frozen=True)
class Comparison:
    """`predictor` beside `rival`. Errors are root mean squares on left-out configurations, on the form's scale."""

    error: float
    rival_error: float
    difference: Estimate
    """rival_error - error: above zero, the predictor is better."""
    rate: Estimate
    """r in N_eff = N_active + r (N_total - N_active): the worth of an inactive parameter in active ones."""
    configurations: int
    runs: int
    profile: tuple[float, float]
    """The rates whose fit is not worse than a likelihood ratio allows at 95 %."""
    fewest: int
    """Configurations of the kind, dense or MoE, that has fewer; one that has a single one does not vary."""


def compare(frame: pd.DataFrame, metric: str, form: str, predictor: str, rival: str, resamples: int = 2000) -> Comparison:
    """Decide between two sizes on the runs of `frame`, which are at their chosen learning rate already.

    ValueError if fewer than three configurations have a value that the form can take.
    """
    frame = decidable(frame, metric, form)
    config_R, _ = pd.factorize(frame["configuration"])
    K = config_R.max(initial=-1) + 1
    if K < FEWEST:
        raise ValueError(f"{metric}: {K} configurations with a value, and leaving one out needs {FEWEST}")
    w_MR = weightings(frame, resamples)
    errors = {size: held_out_error(points(frame, metric, size), form, config_R, w_MR) for size in (predictor, rival)}
    difference_M = errors[rival] - errors[predictor]
    return Comparison(
        float(errors[predictor][0]),
        float(errors[rival][0]),
        estimate(difference_M),
        estimate(exchange_rate(frame, metric, form, w_MR[: resamples // 4])),
        int(K),
        len(frame),
        profile(frame, metric, form),
        int(frame.groupby("kind")["configuration"].nunique().reindex(["dense", "MoE"]).fillna(0).min()),
    )


def decidable(frame: pd.DataFrame, metric: str, form: str) -> pd.DataFrame:
    """The usable runs, if a fit can go through them.

    ValueError if all of them are only known to lie above or below what was tried, or if a share is none.
    """
    runs = usable(frame, metric, form)
    if form == "logistic" and len(runs) and (runs[metric] > 1).any():
        most = runs[metric].max()
        raise ValueError(f"{metric} {most:g}: a share is between 0 and 1; if this is in per cent, divide it by 100")
    side = f"{metric}.side"
    if side in runs and len(runs) and (runs[side] != 0).all():
        raise ValueError(f"{metric}: all {len(runs)} lie above or below everything that was tried; widen the axis")
    return runs


def usable(frame: pd.DataFrame, metric: str, form: str) -> pd.DataFrame:
    """The runs whose value the form can take: measured and, for a power of the size, above zero."""
    if metric not in frame:
        return frame.iloc[:0]
    return frame[frame[metric] > 0] if form == "power" else frame[frame[metric].notna()]


def points(frame: pd.DataFrame, metric: str, size: str) -> Points:
    """Size and metric of each run."""
    side = frame[f"{metric}.side"].to_numpy(float) if f"{metric}.side" in frame else None
    return Points(frame[size].to_numpy(float), frame[metric].to_numpy(float), behind(frame, metric), side)


def plane(frame: pd.DataFrame, metric: str, form: str, design_RP: np.ndarray, w_MR: np.ndarray) -> np.ndarray:
    """(M, P) the metric on the columns of a design, on the form's scale; values that are bounds count as such (Tobit)."""
    y_R, side = frame[metric].to_numpy(float), f"{metric}.side"
    if form == "logistic":
        return logit_linear(design_RP, y_R, behind(frame, metric), w_MR)
    if side in frame and frame[side].any():
        return censored(design_RP, on_scale(form, y_R), frame[side].to_numpy(float), w_MR)
    return linear(design_RP, on_scale(form, y_R), w_MR)


def behind(frame: pd.DataFrame, metric: str) -> np.ndarray:
    """(R,) how many trials each run's value is a share of; as many for all where that is not known of each."""
    n = frame.get(f"{metric}.n", pd.Series(np.nan, index=frame.index)).to_numpy(float)
    return n if (n > 0).all() else np.full(len(frame), UNKNOWN)


def weightings(frame: pd.DataFrame, resamples: int) -> np.ndarray:
    """(1 + M, R) the runs of `frame` as they are, then resampled among the dense models and among the MoE.

    A column `stratum` puts other strata in their place: with each configuration its own, seeds alone are resampled.
    """
    config_R, _ = pd.factorize(frame["configuration"])
    stratum_R, _ = pd.factorize(frame["stratum"] if "stratum" in frame else frame["kind"])
    return np.vstack([np.ones(len(frame)), _resampled(tuple(config_R), tuple(stratum_R), resamples)])


@lru_cache(maxsize=64)
def _resampled(config: tuple[int, ...], stratum: tuple[int, ...], resamples: int) -> np.ndarray:
    """`resample`, which several claims and pictures ask of the same design."""
    return resample(np.array(config, int), np.array(stratum, int), resamples)


def resample(config_R: np.ndarray, stratum_R: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """(M, R) how often each run stands in each resample: configurations are drawn with replacement, then runs within each.

    They are drawn within their stratum (dense or MoE), of which the design fixed how many there are: a resample without any
    MoE could not tell total from active parameters. One of fewer than three different configurations is drawn again, if
    there are as many.
    Strata by width too would often be of one configuration, which then never varies: of scores that follow no size at all
    they call 30 % decisive on quickstart's reasoning design, and these 2 %.
    """
    draw = np.random.default_rng(seed)
    runs_of = [np.flatnonzero(config_R == k) for k in range(config_R.max() + 1)]
    strata = [np.unique(config_R[stratum_R == stratum]) for stratum in np.unique(stratum_R)]
    fewest = min(FEWEST, len(runs_of))
    w_MR = np.zeros((resamples, len(config_R)))
    for w_R in w_MR:
        chosen = np.empty(0, int)
        while len(set(chosen)) < fewest:
            chosen = np.concatenate([draw.choice(some, len(some)) for some in strata])
        for k in chosen:
            np.add.at(w_R, draw.choice(runs_of[k], len(runs_of[k])), 1)
    return w_MR


def held_out_error(at: Points, form: str, config_R: np.ndarray, w_MR: np.ndarray) -> np.ndarray:
    """(M,) root mean square error of each configuration's runs under the line fitted to the others."""
    truth_R = on_scale(form, at.y_R)
    squares_M = np.zeros(len(w_MR))
    for k in range(config_R.max() + 1):
        out_R = config_R == k
        a_M, b_M = FITS[form](at, w_MR * ~out_R)
        side_R = at.side_R[out_R] if at.side_R is not None else None
        wrong = off(curve(form, a_M[:, None], b_M[:, None], at.x_R[out_R]), truth_R[out_R], side_R)
        squares_M += (w_MR[:, out_R] * wrong**2).sum(1)
    return np.sqrt(squares_M / w_MR.sum(1))


def exchange_rate(frame: pd.DataFrame, metric: str, form: str, w_MR: np.ndarray) -> np.ndarray:
    """(M,) the r of `GRID` whose N_eff the form fits best."""
    return GRID[np.argmin(misfit(frame, metric, form, w_MR), axis=0)]


def misfit(frame: pd.DataFrame, metric: str, form: str, w_MR: np.ndarray) -> np.ndarray:
    """(rates of GRID, M) the sum of squares that the line in N_eff leaves, for each rate."""
    truth_R = on_scale(form, frame[metric].to_numpy(float))
    squares = []
    for rate in GRID:
        effective = frame.assign(N_eff=frame["N_active"] + rate * (frame["N_total"] - frame["N_active"]))
        at = points(effective, metric, "N_eff")
        a_M, b_M = FITS[form](at, w_MR)
        squares.append((w_MR * off(curve(form, a_M[:, None], b_M[:, None], at.x_R), truth_R, at.side_R) ** 2).sum(1))
    return np.array(squares)


def profile(frame: pd.DataFrame, metric: str, form: str) -> tuple[float, float]:
    """The 95 % profile interval of r: rates at which the configurations' squares have not risen past what F allows.

    Every configuration counts once, whatever its seeds, for these share what their size does not explain; a, b and r are
    fitted. All of the range where there are no more configurations than these.
    """
    size_R = frame.groupby("configuration")["configuration"].transform("size").to_numpy(float)
    freedom = frame["configuration"].nunique() - 3
    if freedom < 1:
        return float(GRID[0]), float(GRID[-1])
    squares = misfit(frame, metric, form, 1 / size_R[None])[:, 0]
    kept = GRID[squares <= squares.min() * (1 + f_ratio.ppf(0.95, 1, freedom) / freedom) + 1e-15]
    return float(kept[0]), float(kept[-1])


def tied(frame: pd.DataFrame) -> str:
    """Why this grid cannot tell active parameters from width, or nothing.

    Models of one kind and width have to differ in N_active somewhere, by top_k, d_ff or the number of layers.
    """
    if "d_model" not in frame or frame["d_model"].isna().any():
        return ""
    spread = frame.groupby(["kind", "d_model"])["N_active"].agg(lambda n: n.max() / n.min())
    if spread.max() >= APART:
        return ""
    return (
        "This grid cannot tell N_active from width: models of one kind and width differ in N_active by "
        f"{spread.max() - 1:.0%} at most. Vary top_k, d_ff or n_layers at equal width."
    )


def estimate(values_M: np.ndarray) -> Estimate:
    """The first value, of the data as they are, with the middle 95 % of the others, of the resamples."""
    low, high = np.percentile(values_M[1:], [2.5, 97.5])
    return Estimate(float(values_M[0]), float(low), float(high), values_M[1:])


def beside_control(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Each MoE beside the dense model of its width and active size (d_ff = top_k times the experts'), if there is one.

    Columns: label, control, value, control_value, difference, low, high. The 95 % interval is Student's, with the spread
    between seeds pooled over all configurations; nan where no configuration has two seeds.
    """
    columns = ["label", "control", "value", "control_value", "difference", "low", "high"]
    if metric not in frame:
        return pd.DataFrame(columns=columns)
    frame = frame[frame[metric].notna()].astype(dict.fromkeys(("d_model", "n_layers", "d_ff", "top_k"), float))
    groups = frame.groupby("configuration", sort=False)[metric]
    means, counts = groups.mean(), groups.size()
    freedom = len(frame) - len(means)
    spread = np.sqrt(((frame[metric] - groups.transform("mean")) ** 2).sum() / freedom) if freedom else np.nan
    about = frame.groupby("configuration", sort=False).first()
    rows = []
    for key, moe in about[about["kind"] == "MoE"].iterrows():
        same = (about["kind"] == "dense") & (about["d_ff"] == moe["top_k"] * moe["d_ff"])
        for name in ("task", "d_model", "n_layers"):
            same &= about[name] == moe[name]
        for other in about.index[same]:
            half = student.ppf(0.975, max(freedom, 1)) * spread * np.sqrt(1 / counts[key] + 1 / counts[other])
            gap = means[key] - means[other]
            row = (moe["label"], about.loc[other, "label"], means[key], means[other], gap, gap - half, gap + half)
            rows.append(row)
    return pd.DataFrame(rows, columns=columns)


def band(frame: pd.DataFrame, metric: str, form: str, size: str, x: np.ndarray, resamples: int = 500) -> np.ndarray:
    """(3, len(x)) the fitted line through all runs with the bootstrap's 95 % band below and above it, on the form's scale."""
    frame = usable(frame, metric, form)
    w_MR = weightings(frame, resamples)
    a_M, b_M = FITS[form](points(frame, metric, size), w_MR)
    lines_MX = curve(form, a_M[:, None], b_M[:, None], x)
    return np.vstack([lines_MX[0], np.percentile(lines_MX[1:], [2.5, 97.5], axis=0)])
