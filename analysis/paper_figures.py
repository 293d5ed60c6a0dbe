"""Figures 1, 4, 5, 6 and 7 to 12 of "Mixture of Parrots" from any table of runs: the paper's layout, and ours beside it.

The paper joins the models of a kind by eye. Ours, in the row below or the panel beside figures 1, 4 and 6, draws the fit with
its band against the size that it is about, and says by how much MoE and dense models lie apart. ValueError says what a
table lacks.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.categories import CATEGORIES, MEASURES
from analysis.claims import Form
from analysis.compare import FEWEST, band, decidable
from analysis.contrast import offset
from analysis.figures import METRICS, SIZES, averaged, marks, spoken
from analysis.picture import LOOKS, STROKES, Picture, panels, sparse_ticks, styled
from analysis.runs import no_column
from analysis.threshold import UNNAMED

BOOKS = ("entries_90", "entries_listed", "entries")
PATHS = ("exact_match", "accuracy")


def of_paper(runs: pd.DataFrame) -> dict[str, Callable[[], Picture]]:
    """Each figure's name and what draws it from these runs; `runs` has been through `with_categories`."""
    return {
        "figure 1": lambda: categories(runs, "N_total", "figure1"),
        "figure 4a": lambda: figure4a(runs),
        "figure 4b": lambda: figure4b(runs),
        "figure 5": lambda: gaps(runs),
        "figure 6": lambda: categories(runs, "perplexity", "figure6"),
        **{
            f"figure {number}": lambda number=number, category=category, size=size: benchmarks(  # type: ignore[misc]
                runs, category, size, f"figure{number}"
            )
            for number, (size, category) in enumerate(
                ((size, category) for size in ("N_total", "perplexity") for category in CATEGORIES), 7
            )
        },
    }


@styled
def categories(runs: pd.DataFrame, size: str, name: str) -> Picture:
    """Figure 1 (size N_total) or 6 (perplexity): a panel a category; below, the fits and how far the kinds lie apart."""
    needs(runs, size)
    known = runs.attrs.get("benchmarks", {})
    shown = [one for one in CATEGORIES if one in runs and runs[one].notna().any()]
    if not shown:
        needs(runs, next(iter(CATEGORIES)))
    below = "N_active" if size == "N_total" else size
    text = (
        f"{name[:-1].capitalize()} {name[-1]}: the mean over each category's benchmarks against "
        f"{SIZES[size]} as the paper draws it (above), and against {SIZES[below]} with the fit and its 95 % band (below). "
        + " ".join(f"{one}: {len(known[one])} of {len(CATEGORIES[one])} benchmarks." for one in shown if known.get(one))
    )
    figure, axes = panels(2 * len(shown), 4.2, 3.4, most=len(shown))
    picture = Picture(name, text, figure)
    for panel, metric, letter in zip(axes, shown, "abc", strict=False):
        joined(picture, panel, runs, size, metric)
        panel.set_title(f"{name[-1]}{letter if len(shown) > 1 else ''}  {metric}", loc="left")
        panel.set_ylabel(MEASURES[metric])
    for panel, metric in zip(list(axes)[len(shown) :], shown, strict=True):
        ours(picture, panel, runs, below, metric, "logistic", size)
        panel.set_ylabel(MEASURES[metric])
    axes[0].legend(loc="best")
    return picture


def figure4a(runs: pd.DataFrame) -> Picture:
    """The largest phone-book known to 90 %, against total parameters; beside it against active ones with the fit."""
    metric = next((one for one in BOOKS if one in runs and runs[one].notna().any()), "")
    if not metric:
        needs(runs, BOOKS[0])
    return two(runs, metric, "power", "figure4a", "Figure 4a: the largest phone-book known to 90 %")


def figure4b(runs: pd.DataFrame) -> Picture:
    """Exact shortest paths, against total parameters; beside it against active ones with the fit."""
    graphs = runs[runs["task"].isin(["shortest_path", UNNAMED])]
    metric = next((one for one in PATHS if one in graphs and graphs[one].notna().any()), "")
    if not metric:
        raise ValueError("no run has exact_match or accuracy on shortest_path")
    return two(graphs, metric, "logistic", "figure4b", "Figure 4b: exact shortest paths")


@styled
def two(runs: pd.DataFrame, metric: str, form: Form, name: str, title: str) -> Picture:
    """The paper's layout and ours, side by side."""
    needs(runs, "N_total", "N_active", metric)
    figure, axes = panels(2, 5, 3.9, sharey=True)
    text = f"{title}, against total parameters as the paper draws it, and against active ones with the fit and its 95 % band."
    picture = Picture(name, text, figure)
    joined(picture, axes[0], runs, "N_total", metric)
    ours(picture, axes[1], runs, "N_active", metric, form, "N_total")
    axes[0].set_title("the paper's layout", loc="left")
    axes[0].set_ylabel(METRICS.get(metric, metric))
    if form == "power":
        axes[0].set_yscale("log")
        sparse_ticks(axes[0], upright=True)
    axes[0].legend(loc="best")
    return picture


@styled
def gaps(runs: pd.DataFrame) -> Picture:
    """Figure 5: score on examples of the training less score on the test, against total parameters."""
    needs(runs, "N_total")
    shown = [one for one in runs if str(one).endswith("_gap") and runs[one].notna().any()]
    if not shown:
        raise ValueError("no benchmark has a score on examples of the training beside that on the test (NAME_train, NAME_gap)")
    figure, axes = panels(len(shown), 4.6, 3.6)
    text = "Figure 5: score on examples of the training less score on the test, against total parameters."
    picture = Picture("figure5", text, figure)
    for panel, metric in zip(axes, shown, strict=True):
        joined(picture, panel, runs, "N_total", metric)
        panel.axhline(0, color="#555555", linewidth=1)
        panel.set_title(metric.removesuffix("_gap"), loc="left")
        panel.set_ylabel("training less test")
    axes[0].legend(loc="best")
    return picture


@styled
def benchmarks(runs: pd.DataFrame, category: str, size: str, name: str) -> Picture:
    """Figures 7 to 9 (size N_total) and 10 to 12 (perplexity): each benchmark of a category in a panel of its own."""
    needs(runs, size)
    known = runs.attrs.get("benchmarks", {}).get(category, {})
    if not known:
        raise ValueError(f"none of the benchmarks {', '.join(CATEGORIES[category])} has a column")
    figure, axes = panels(len(known), 4, 3.1, most=3)
    text = f"Figure {name.removeprefix('figure')}: {category}, each benchmark against {SIZES[size]}."
    picture = Picture(name, text, figure)
    for panel, (benchmark, column) in zip(axes, known.items(), strict=True):
        joined(picture, panel, runs, size, column)
        panel.set_title(benchmark, loc="left")
        panel.set_ylabel("F1" if category == "knowledge" else "accuracy")
    axes[0].legend(loc="best")
    return picture


def joined(picture: Picture, panel: Axes, runs: pd.DataFrame, x: str, y: str) -> None:
    """Marks, and a line through the means of each kind; the MoE of each width by themselves, as the paper joins them."""
    some = spoken(runs[runs[y].notna() & runs[x].notna()], y)
    for (kind, _), group in some.assign(width=some["d_model"].where(some["kind"] == "MoE", 0).fillna(0)).groupby(
        ["kind", "width"]
    ):
        means = averaged(group, [x, y]).sort_values(x)
        look = {"color": LOOKS[kind]["color"], "linestyle": STROKES[kind], "linewidth": 1, "alpha": 0.7}
        picture.line(panel, means[x], means[y], f"{kind}, joined", **look)
    marks(picture, panel, some, x, y)
    panel.set(xscale="log", xlabel=SIZES[x])
    panel.margins(x=0.1)
    sparse_ticks(panel)


def ours(picture: Picture, panel: Axes, runs: pd.DataFrame, x: str, y: str, form: Form, at: str) -> None:
    """Marks with the fit over `x` and its band; the title says how far MoE and dense lie apart at equal `at`."""
    some = spoken(decidable(runs[runs[y].notna() & runs[x].notna()], y, form), y)
    marks(picture, panel, some, x, y)
    panel.set(xscale="log", xlabel=SIZES[x])
    panel.margins(x=0.1)
    if some["configuration"].nunique() >= FEWEST and some[x].max() > some[x].min():
        grid = np.geomspace(some[x].min() / 1.1, some[x].max() * 1.1, 60)
        lines = band(some, y, form, x, grid)
        middle, low, high = 10**lines if form == "power" else lines
        picture.line(panel, grid, middle, "fit", color="#555555", linewidth=1.2, zorder=1)
        picture.band(panel, grid, low, high, "fit, 95 %", color="#999999", alpha=0.2, zorder=0)
    try:
        said = f"MoE less dense, equal {at}: {offset(some, y, form, at).distance:.3f}"
    except ValueError:  # one kind alone, or too few of them
        said = ""
    panel.set_title(said, loc="left", fontsize=8.5)
    sparse_ticks(panel)


def needs(runs: pd.DataFrame, *columns: str) -> None:
    """ValueError for a column that is not there or empty, with the nearest names."""
    for name in columns:
        if name not in runs:
            raise ValueError(no_column(name, runs[[c for c in runs if "." not in str(c)]]))
        if not runs[name].notna().any():
            raise ValueError(f"no run has a value of {name}")
