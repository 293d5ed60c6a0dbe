"""A fitted law said in JSON, without a NaN, and drawn."""

import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.formula import FROM_SCALE, TO_SCALE
from analysis.picture import STYLE, plain
from analysis.regression import Fit, predicted
from parrots.atomic import atomic

LINES = 5  # curves drawn, at quantiles of the second variable
SCALES = {"log": "ln {}", "log10": "log10 {}", "binomial": "{}"}


def said(fit: Fit) -> dict[str, Any]:
    """The fit as plain numbers and text; what is not known is None."""
    told, held_out = fit.identifiability, fit.held_out
    out: dict[str, Any] = {
        "form": fit.law.name,
        "formula": fit.law.formula,
        "source": fit.law.source,
        "columns": dict(fit.points.columns),
        "n": len(fit.points.y_R),
        "configurations": fit.points.configurations,
        "left_out": dict(fit.points.left_out),
        "censored": int((fit.points.side_R != 0).sum()),
        "parameters": {name: number(value) for name, value in fit.values.items()},
        "fixed": dict(fit.fixed),
        "intervals": {name: [number(end) for end in ends] for name, ends in fit.intervals.items()},
        "interval_method": fit.method,
        "objective": number(fit.objective),
        "objective_lbfgs": number(fit.by_lbfgs),
        "searches_agree": fit.searches_agree,
        "errors": f"{fit.law.errors}, Huber delta {fit.law.huber:g}, summed" if fit.law.huber else f"{fit.law.errors}, summed",
        "error_scale": scale(fit),
        "rmse": number(fit.rmse),
        "held_out": {
            "rmse_folds": number(held_out.folds),
            "rmse_extrapolated": number(held_out.extrapolated),
            "extrapolated_by": held_out.ordered_by,
        },
        "identifiability": {
            "condition": number(told.condition),
            "together": [list(names) for names in told.together],
            "untold": list(told.untold),
            "at_bound": {name: number(share) for name, share in fit.at_bound.items()},
        },
    }
    if fit.law.null:
        out["null"] = {name: {"value": value, "inside": inside(fit, name)} for name, value in fit.law.null.items()}
    if fit.first is not None:
        out["first"] = said(fit.first)
    return out


def number(value: float | None) -> float | None:
    """A finite number, or None."""
    return None if value is None or not math.isfinite(value) else float(value)


def scale(fit: Fit) -> str:
    """What the errors are of."""
    return SCALES[fit.law.errors].format(fit.points.columns[fit.law.response.columns[0]])


def inside(fit: Fit, name: str) -> bool | None:
    """Whether a parameter's interval holds the value of the simpler law; None where the interval is open."""
    low, high = fit.intervals[name]
    return None if low is None or high is None else low <= fit.law.null[name] <= high


def runs(fit: Fit) -> pd.DataFrame:
    """The fitted runs: variables, response, fitted value, residual on the scale of the errors."""
    at, law = fit.points, fit.law
    fitted = fit.predict(at.x)
    response = law.response.columns[0]
    frame = pd.DataFrame({**at.x, response: FROM_SCALE[law.errors](at.y_R), f"fitted_{response}": fitted}, index=at.index)
    return frame.assign(residual=at.y_R - TO_SCALE[law.errors](fitted))


def draw(fit: Fit) -> Figure:
    """Left the law through the runs, right the residuals that it leaves."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
        frame = runs(fit)
        _curves(left, fit, frame)
        right.axhline(0, color="#444444", linewidth=1)
        right.plot(
            frame[f"fitted_{fit.law.response.columns[0]}"], frame["residual"], "o", markersize=4, alpha=0.6, color="#0072B2"
        )
        right.set_xlabel(f"fitted {fit.points.columns[fit.law.response.columns[0]]}")
        right.set_ylabel(f"residual ({scale(fit)})")
        right.set_title(f"rmse {fit.rmse:.3g} on {len(frame)} runs", loc="left", fontsize=10)
        return figure


def _curves(axes: Axes, fit: Fit, frame: pd.DataFrame) -> None:
    """Runs and fitted curves over the first variable, one curve for each of some values of the second."""
    name, *others = fit.law.variables
    response = fit.law.response.columns[0]
    grid = np.geomspace(frame[name].min(), frame[name].max(), 200)
    colours = plt.get_cmap("viridis")
    if not others:
        axes.plot(frame[name], frame[response], "o", markersize=4, color="#0072B2")
        if fit.resampled is not None:
            low, high = np.percentile(predicted(fit.law, fit.resampled, {name: grid}), [2.5, 97.5], axis=0)
            axes.fill_between(grid, low, high, color="#0072B2", alpha=0.15, linewidth=0, label="95 % of resamples")
        axes.plot(grid, fit.predict({name: grid}), color="#D55E00")
    else:
        second = frame[others[0]]
        shade = (second.rank(pct=True)).to_numpy()
        axes.scatter(frame[name], frame[response], s=16, c=shade, cmap=colours, vmin=0, vmax=1)
        for share in np.linspace(0.05, 0.95, LINES):
            x = {
                one: np.full(len(grid), float(frame[one].quantile(share if one == others[0] else 0.5, interpolation="nearest")))
                for one in others
            }
            colour = colours(float((second <= x[others[0]][0]).mean()))
            axes.plot(grid, fit.predict({name: grid, **x}), color=colour, label=f"{others[0]} = {x[others[0]][0]:.3g}")
        axes.legend(fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel(f"{name} ({fit.points.columns[name]})" if fit.points.columns[name] != name else name)
    axes.set_ylabel(fit.points.columns[response])
    axes.set_title(f"{fit.law.name}: {fit.law.formula}", loc="left", fontsize=9)


def write(fit: Fit, folder: Path) -> list[Path]:
    """The picture as SVG, PDF and PNG, and the runs as CSV, into a folder; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    figure, made = draw(fit), []
    plain(figure)
    for ending in ("svg", "pdf", "png"):
        path = folder / f"{fit.law.name}.{ending}"
        with atomic(path) as part:
            figure.savefig(part, format=ending, dpi=200, metadata={"Date": None} if ending == "svg" else None)
        made.append(path)
    plt.close(figure)
    path = folder / f"{fit.law.name}.csv"
    with atomic(path) as part:
        runs(fit).to_csv(part, index_label="run")
    return [*made, path]
