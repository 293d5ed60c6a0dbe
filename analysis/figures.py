"""The pictures of what a sweep claims: a metric against either size and against perplexity, dense beside MoE."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from analysis.claims import Claim, Contrast
from analysis.compare import FEWEST, band, usable
from analysis.contrast import column
from analysis.picture import LOOKS, Picture, panels, quantity, sparse_ticks, styled
from analysis.table import CEILINGS
from analysis.threshold import runs_of
from analysis.verdicts import Decision

PLACES = ((6, -11, "left"), (-6, 5, "right"), (6, 5, "left"), (-6, -11, "right"), (9, -3, "left"), (-9, -3, "right"))
"""Where a mark's name may stand beside it, in points: the first that hides nothing."""
SIZES = {
    "N_total": "total parameters N_total",
    "N_active": "active parameters N_active",
    "perplexity": "perplexity of the test's tokens",
}
METRICS = {
    "memory_bits": "book held in the weights (bits)",
    "exact_match": "exact match (share of right answers)",
    "valid_path": "valid shortest path (share of answers)",
    "entries_90": "largest book known to 90 % (entries)",
    "entries_listed": "largest listed book known to 90 % (entries)",
    "critical_width": "critical width",
}


def said(run: pd.Series, metric: str) -> str:
    """What the mark of a trial says of it, in lines."""
    value, stderr, n = run[metric], run.get(f"{metric}.stderr", np.nan), run.get(f"{metric}.n", np.nan)
    spread = f" \u00b1 {stderr:.2g}" if pd.notna(stderr) else ""
    count = f" (n = {n:,.0f})" if pd.notna(n) else ""
    sizes = f"N_total {quantity(run['N_total'])}, N_active {quantity(run['N_active'])}"
    name = f"{run['kind']} {run['label']}, seed {run['seed']}" + (f", lr {run['lr']:g}" if pd.notna(run["lr"]) else "")
    trial = f"\ntrial {run.name}" if isinstance(run.name, str) else ""
    return f"{name}\n{METRICS.get(metric, metric)}: {value:.4g}{spread}{count}\n{sizes}{trial}"


def spoken(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The runs with what each mark says in a column `about`."""
    return runs.assign(about=[said(run, metric) for _, run in runs.iterrows()])


def averaged(runs: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """A row a configuration: the means of some columns, and what its mark says."""
    kept = {"label": "first", "kind": "first", "seed": "size"} | dict.fromkeys(columns, "mean")
    means = runs.groupby("configuration", sort=False).agg(kept)
    *_, y = columns
    about = [
        f"{one['kind']} {one['label']}: mean of {one['seed']}\n{METRICS.get(y, y)}: {one[y]:.4g}" for _, one in means.iterrows()
    ]
    return means.assign(about=about)


def of_claims(chosen: pd.DataFrame, decisions: list[Decision]) -> dict[str, Callable[[], Picture]]:
    """Each claim's picture and what draws it."""
    return {f"claim {one.claim.name}": lambda one=one: of_claim(chosen, one) for one in decisions}  # type: ignore[misc]


@styled
def of_claim(chosen: pd.DataFrame, decision: Decision) -> Picture:
    """The claim's metric against sizes. ValueError if no run has it."""
    runs = runs_of(decision.claim, chosen)
    shown = usable(runs, decision.claim.metric, decision.claim.form)
    if shown.empty:
        raise ValueError(f"no run has a value of {decision.claim.metric}" if len(runs) else "no run is about this")
    return against_sizes(shown, decision)


def caption(claim: Claim, runs: pd.DataFrame) -> str:
    """What a claim's figure shows."""
    what = METRICS.get(claim.metric, claim.metric)
    return (
        f"{claim.task}: {what} against {f'{varied}, ' if (varied := changed(claim)) else ''}total and active parameters "
        f"({counted(runs)})"
        f"{'' if claim.threshold else ' and perplexity'}. "
        "A small mark is a run, a large one the mean over seeds"
        f"{'; the line is the fit with its 95 % bootstrap band' if has_line(claim) else ''}."
    )


def has_line(claim: Claim) -> bool:
    """Whether a claim is about sizes. A contrast is about pairs, which may have one size: a line through them says nothing."""
    return claim.kind != "contrast"


def changed(claim: Claim) -> str:
    """The field in which the pairs of a contrast differ, where it is a number; empty for other claims."""
    if not isinstance(claim, Contrast) or isinstance(claim.value, str) or isinstance(claim.other, str):
        return ""
    return "" if claim.field in SIZES else claim.field


def counted(runs: pd.DataFrame) -> str:
    """The convention by which parameters are counted."""
    return "both without embedding and head" if "declared" in runs else "as the table counts them"


def against_sizes(runs: pd.DataFrame, decision: Decision) -> Picture:
    """The claim's metric against either size and against perplexity, side by side."""
    claim, found = decision.claim, decision.found
    runs = spoken(runs, claim.metric)
    # what is read off an axis has no perplexity of its own
    told = claim.threshold is None and "perplexity" in runs and runs["perplexity"].notna().all()
    sizes = [size for size in SIZES if size != "perplexity" or told]
    if varied := changed(claim):
        runs, sizes = runs.assign(**{varied: column(runs, varied).astype(float)}), [varied, *sizes]
    figure, axes = panels(len(sizes), 4, 4.2, sharey=True)
    picture = Picture(claim.name, caption(claim, runs), figure)
    for panel, size in zip(axes, sizes, strict=True):
        marks(picture, panel, runs, size, claim.metric)
        panel.set_xlabel(SIZES.get(size, size))
        panel.set_xscale("log" if size in SIZES else "linear")
        panel.margins(x=0.12)
        if claim.form == "power":
            panel.set_yscale("log")
        ceiling(picture, panel, runs, size, claim.metric)
        if has_line(claim) and size != "perplexity" and found and runs["configuration"].nunique() >= FEWEST:
            fitted(picture, panel, runs, claim, size)
        if found and found.errors and size in found.errors:
            panel.set_title(f"left-out error {found.errors[size]:.3f}", loc="left", fontsize=10)
        if size in SIZES:
            sparse_ticks(panel)
        else:
            panel.set_xticks(sorted(runs[size].dropna().unique()))
    if claim.form == "power":
        axes[0].yaxis.set_major_formatter(lambda v, _: quantity(v))
        axes[0].yaxis.set_minor_formatter(lambda v, _: quantity(v) if str(v).lstrip("0.")[:1] in "25" else "")
    axes[0].set_ylabel(METRICS.get(claim.metric, claim.metric))
    axes[0].legend(loc="best")
    figure.suptitle(decision.headline, x=0.01, ha="left", fontweight="bold")
    figure.canvas.draw()  # lays out, so that names find their room
    figure.set_layout_engine("none")
    for panel, size in zip(axes, sizes, strict=True):
        names(panel, runs, size, claim.metric)
    return picture


def marks(picture: Picture, panel: Axes, runs: pd.DataFrame, x: str, y: str) -> None:
    """Each run small, each configuration's mean large."""
    for kind, look in LOOKS.items():
        some = runs[runs["kind"] == kind]
        if len(some):
            means = averaged(some, [x, y])
            picture.points(panel, means, x, y, f"{kind}, mean", s=70, edgecolors="white", label=kind, zorder=3, **look)
            picture.points(panel, some, x, y, kind, s=14, alpha=0.45, linewidths=0, zorder=4, **look)


def ceiling(picture: Picture, panel: Axes, runs: pd.DataFrame, x: str, y: str) -> None:
    """A line at what a solver would score that takes any of several answers, where that was measured."""
    name = CEILINGS.get(y, "")
    if name in runs and np.isfinite(height := runs[name].mean()):
        ends = [runs[x].min() / 1.2, runs[x].max() * 1.2]
        about = f"{name}: {height:.3g}, of a solver that takes any of several answers"
        picture.line(panel, ends, [height] * 2, name, about, color="#999", linewidth=1.0, linestyle="--", zorder=0)


def names(panel: Axes, runs: pd.DataFrame, x: str, y: str) -> None:
    """Name each configuration's mark where there is room; the table has those for which there is none."""
    widths = runs["d_model"].nunique()
    means = runs.groupby("configuration", sort=False).agg({x: "mean", y: "mean", "label": "first", "kind": "first"})
    at = panel.transData.transform(means[[x, y]].to_numpy(float))
    taken = [Bbox.from_bounds(px - 6, py - 6, 12, 12) for px, py in at]
    for _, mean in means.iterrows():
        label = mean["label"] if widths > 1 else mean["label"].partition("-")[2] or mean["label"]
        for dx, dy, side in PLACES if mean["kind"] == "dense" else PLACES[1:]:  # the two kinds stay apart
            look = {"fontsize": 8, "color": LOOKS[mean["kind"]]["color"], "ha": side}
            text = panel.annotate(label, (mean[x], mean[y]), (dx, dy), textcoords="offset points", **look)
            text.set_in_layout(False)
            box = text.get_window_extent()
            inside = panel.bbox.x0 <= box.x0 and box.x1 <= panel.bbox.x1 + 12 and panel.bbox.y0 <= box.y0
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def fitted(picture: Picture, panel: Axes, runs: pd.DataFrame, claim: Claim, size: str) -> None:
    """The fit over the sizes tried, and its band."""
    x = np.geomspace(runs[size].min() / 1.2, runs[size].max() * 1.2, 60)
    lines = band(runs, claim.metric, claim.form, size, x)
    middle, low, high = 10**lines if claim.form == "power" else lines
    picture.line(panel, x, middle, "fit", color="#555", linewidth=1.2, zorder=1)
    picture.band(panel, x, low, high, "fit, 95 %", color="#999", alpha=0.2, zorder=0)
