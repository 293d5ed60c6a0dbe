"""Pictures beside those of the claims: sparsity, tokens a parameter, the gap to training data, each evaluation.

Each is drawn from any table of runs with the columns that it names; ValueError says what is lacking.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from analysis.claims import Claim
from analysis.figures import METRICS, SIZES, averaged, marks, spoken
from analysis.picture import LOOKS, STROKES, Picture, panels, quantity, sparse_ticks, styled
from analysis.threshold import subject

TRAINED_ON = "trained-on/"
SCORES = ("exact_match", "valid_path", "accuracy", "f1")
"""Metrics of which a model has one for each benchmark."""


def of_sizes(chosen: pd.DataFrame, claims: Sequence[Claim]) -> dict[str, Callable[[], Picture]]:
    """Each picture's name and what draws it, of each claim's metric once."""
    makers: dict[str, Callable[[], Picture]] = {}
    for claim in claims:
        runs = subject(claim, chosen)
        if claim.threshold or claim.metric not in runs:
            continue
        runs = runs[runs[claim.metric].notna()]
        what, name = f"{claim.task}, {claim.metric}", f"{claim.task}_{claim.metric.replace('/', '_')}"
        for title, draw in (("sparsity", sparsity), ("tokens a parameter", tokens)):
            makers[f"{title} ({what})"] = lambda draw=draw, runs=runs, claim=claim, name=name: draw(  # type: ignore[misc]
                runs, claim.metric, name
            )
    for task, runs in chosen.groupby("task", sort=False):
        makers[f"gap to training data ({task})"] = lambda runs=runs, task=task: gap(runs, str(task))  # type: ignore[misc]
        makers[f"other evaluations ({task})"] = lambda runs=runs, task=task: evaluations(runs, str(task))  # type: ignore[misc]
    return makers


@styled
def sparsity(runs: pd.DataFrame, metric: str, name: str) -> Picture:
    """The metric over sparsity 1 - k/E and width of the MoE."""
    sparse = runs[runs["kind"] == "MoE"]
    sparse = sparse.assign(S=(1 - sparse["top_k"] / sparse["n_experts"]).round(4), width=sparse["d_model"])
    if sparse["S"].nunique() < 2 or sparse["width"].nunique() < 2:
        have = f"{sparse['S'].nunique()} and {sparse['width'].nunique()}"
        raise ValueError(f"a heat map takes two sparsities and two widths of MoE; there are {have}")
    table = sparse.pivot_table(index="width", columns="S", values=metric, aggfunc="mean").sort_index(ascending=False)
    figure, (panel,) = panels(1, 2 + 1.1 * len(table.columns), 1.6 + 0.7 * len(table.index))
    what = METRICS.get(metric, metric)
    text = f"{what} of the MoE by sparsity and width, the mean over seeds and whatever else varies."
    picture = Picture(f"{name}_sparsity", text, figure)
    image = picture.cells(panel, table.sort_index(), what)
    figure.colorbar(image, ax=panel, label=what, format=lambda v, _: quantity(v))
    panel.set(xlabel="sparsity 1 - k/E", ylabel="width d_model")
    return picture


@styled
def tokens(runs: pd.DataFrame, metric: str, name: str) -> Picture:
    """The metric against tokens a total parameter, models of equal width joined."""
    if "tokens" not in runs or runs["tokens"].isna().any():
        raise ValueError("the runs do not say on how many tokens they were trained (tokens, or D)")
    runs = spoken(runs, metric).assign(tpp=runs["tokens"] / runs["N_total"])
    if runs["tpp"].max() < 1.5 * runs["tpp"].min() or runs["configuration"].nunique() < 3:
        raise ValueError("tokens a parameter hardly differ between the runs")
    figure, (panel,) = panels(1, 6.5, 4)
    what = METRICS.get(metric, metric)
    text = f"{what} against tokens seen per total parameter; lines join the means of one kind and width."
    picture = Picture(f"{name}_tokens", text, figure)
    for (kind, width), some in runs.groupby(["kind", "d_model"], sort=True, dropna=False):
        means = averaged(some, ["tpp", metric]).sort_values("tpp")
        look = {"color": LOOKS[kind]["color"], "linestyle": STROKES[kind], "linewidth": 1, "alpha": 0.7}
        picture.line(panel, means["tpp"], means[metric], f"{kind}, d = {width:g}", **look)
    marks(picture, panel, runs, "tpp", metric)
    panel.set(xscale="log", xlabel="tokens a total parameter", ylabel=what)
    sparse_ticks(panel)
    panel.legend()
    return picture


@styled
def gap(runs: pd.DataFrame, task: str) -> Picture:
    """How much better a model does on what it was trained on, as figure 5 draws it."""
    asked = [name for name in runs if name.startswith(TRAINED_ON) and "." not in name]
    asked = [name for name in asked if name.removeprefix(TRAINED_ON) in {*SCORES} & {*runs} and runs[name].notna().any()]
    if not asked:
        raise ValueError(f"no model was asked {TRAINED_ON}METRIC")
    figure, axes = panels(len(asked), 5.2)
    text = f"{task}: score on examples of the training less score on the test, against total parameters (figure 5's layout)."
    picture = Picture(f"{task}_gap", text, figure)
    for panel, name in zip(axes, asked, strict=True):
        own = name.removeprefix(TRAINED_ON)
        some = spoken(runs.assign(gap=runs[name] - runs[own]).dropna(subset="gap"), "gap")
        marks(picture, panel, some, "N_total", "gap")
        panel.axhline(0, color="#555", linewidth=1)
        panel.set(xscale="log", xlabel=SIZES["N_total"], ylabel=f"{own}: training less test")
        sparse_ticks(panel)
        panel.legend()
    return picture


@styled
def evaluations(runs: pd.DataFrame, task: str) -> Picture:
    """Every evaluation against total parameters, and against perplexity, as figures 7 to 12 have their benchmarks."""
    asked = [n for n in runs if "/" in n and "." not in n and not n.startswith(TRAINED_ON) and runs[n].notna().any()]
    asked = [n for n in asked if n.rpartition("/")[2] in SCORES]
    if len(asked) < 2:
        raise ValueError(f"{len(asked)} evaluations beside the trials' own test; it takes two")
    sizes = [size for size in ("N_total", "perplexity") if size in runs]
    shown = [(name, size) for size in sizes for name in asked]
    figure, axes = panels(len(shown), 4, 3.2, most=3)
    against = " and against ".join(SIZES[size] for size in sizes)
    text = f"{task}: each evaluation against {against} (the layout of figures 7 to 12)."
    picture = Picture(f"{task}_benchmarks", text, figure)
    for panel, (name, size) in zip(axes, shown, strict=True):
        some = spoken(runs[runs[name].notna()], name)
        marks(picture, panel, some[np.isfinite(some[size])], size, name)
        panel.set_title(name, loc="left")
        panel.set(xscale="log", xlabel=SIZES[size], ylabel=name.rpartition("/")[2])
        sparse_ticks(panel)
    axes[0].legend()
    return picture
