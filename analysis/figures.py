"""The pictures of a report. Dense and MoE differ in shape and in colour, and the colours differ to every kind of eye."""

from collections.abc import Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from analysis.claims import Claim, Decision
from analysis.compare import FEWEST, band, usable
from analysis.threshold import runs_of

# Okabe and Ito (2008); circles and squares besides
LOOKS: dict[str, dict[str, Any]] = {"dense": {"color": "#0072B2", "marker": "o"}, "MoE": {"color": "#D55E00", "marker": "s"}}
PLACES = ((6, -11, "left"), (-6, 5, "right"), (6, 5, "left"), (-6, -11, "right"), (9, -3, "left"), (-9, -3, "right"))
"""Where a mark's name may stand beside it, in points: the first that hides nothing."""
SIZES = {
    "N_total": "total parameters N_total",
    "N_active": "active parameters N_active",
    "test_loss": "test loss (nats a token)",
}
METRICS = {
    "memory_bits": "book held in the weights (bits)",
    "exact_match": "exact match (share of right answers)",
    "valid_path": "valid shortest path (share of answers)",
    "entries_90": "largest book known to 90 % (entries)",
    "entries_listed": "largest listed book known to 90 % (entries)",
    "critical_width": "critical width",
}
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "parrots",
    "figure.constrained_layout.use": True,
}


def figures(chosen: pd.DataFrame, losses: pd.DataFrame, decisions: list[Decision]) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and figure, for each claim and for the training curves."""
    with plt.rc_context(STYLE):
        for decision in decisions:
            runs = runs_of(decision.claim, chosen)
            if len(usable(runs, decision.claim.metric, decision.claim.form)):
                yield decision.claim.name, caption(decision.claim), against_sizes(runs, decision)
        if len(losses):
            yield (
                "training",
                "Training loss of every trial at its configuration's chosen learning rate.",
                training(chosen, losses),
            )


def caption(claim: Claim) -> str:
    """What a claim's figure shows."""
    what = METRICS.get(claim.metric, claim.metric)
    return (
        f"{claim.task}: {what} against total and active parameters (both without embedding and head)"
        f"{'' if claim.threshold else ' and loss'}. "
        "A small mark is a run, a large one the mean over seeds; the line is the fit with its 95 % bootstrap band."
    )


def against_sizes(runs: pd.DataFrame, decision: Decision) -> Figure:
    """The claim's metric against either size and against loss, side by side."""
    claim, found = decision.claim, decision.found
    runs = usable(runs, claim.metric, claim.form)
    # what is read off an axis has no loss of its own
    sizes = [size for size in SIZES if size != "test_loss" or (claim.threshold is None and runs[size].notna().all())]
    figure, panels = plt.subplots(1, len(sizes), figsize=(4 * len(sizes), 4.2), sharey=True)
    for panel, size in zip(panels, sizes, strict=True):
        marks(panel, runs, size, claim.metric)
        panel.set_xlabel(SIZES[size])
        panel.set_xscale("log")
        panel.margins(x=0.12)
        if claim.form == "power":
            panel.set_yscale("log")
        if size != "test_loss" and runs["configuration"].nunique() >= FEWEST:
            fitted(panel, runs, claim, size)
        if found and found.errors and size in found.errors:
            panel.set_title(f"left-out error {found.errors[size]:.3f}", loc="left", fontsize=10)
        sparse_ticks(panel)
    if claim.form == "power":
        panels[0].yaxis.set_major_formatter(lambda v, _: quantity(v))
        panels[0].yaxis.set_minor_formatter(lambda v, _: quantity(v) if str(v).lstrip("0.")[:1] in "25" else "")
    panels[0].set_ylabel(METRICS.get(claim.metric, claim.metric))
    panels[0].legend(loc="best")
    figure.suptitle(decision.headline, x=0.01, ha="left", fontweight="bold")
    figure.canvas.draw()  # lays out, so that names find their room
    figure.set_layout_engine("none")
    for panel, size in zip(panels, sizes, strict=True):
        names(panel, runs, size, claim.metric)
    return figure


def marks(panel: Axes, runs: pd.DataFrame, x: str, y: str) -> None:
    """Each run small, each configuration's mean large."""
    for kind, look in LOOKS.items():
        some = runs[runs["kind"] == kind]
        means = some.groupby("configuration", sort=False).agg({x: "mean", y: "mean", "label": "first"})
        panel.scatter(some[x], some[y], s=14, alpha=0.45, linewidths=0, **look)
        panel.scatter(means[x], means[y], s=70, edgecolors="white", label=kind, zorder=3, **look)


def names(panel: Axes, runs: pd.DataFrame, x: str, y: str) -> None:
    """Name each configuration's mark where there is room; the table has those for which there is none."""
    widths = runs["d_model"].nunique()
    means = runs.groupby("configuration", sort=False).agg({x: "mean", y: "mean", "label": "first", "kind": "first"})
    at = panel.transData.transform(means[[x, y]].to_numpy(float))
    taken = [Bbox.from_bounds(px - 6, py - 6, 12, 12) for px, py in at]
    for _, mean in means.iterrows():
        label = mean["label"] if widths > 1 else mean["label"].partition("-")[2]
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


def fitted(panel: Axes, runs: pd.DataFrame, claim: Claim, size: str) -> None:
    """The fit over the sizes tried, and its band."""
    x = np.geomspace(runs[size].min() / 1.2, runs[size].max() * 1.2, 60)
    lines = band(runs, claim.metric, claim.form, size, x)
    middle, low, high = 10**lines if claim.form == "power" else lines
    panel.plot(x, middle, color="#555", linewidth=1.2, zorder=1)
    panel.fill_between(x, low, high, color="#999", alpha=0.2, linewidth=0, zorder=0)


def sparse_ticks(panel: Axes) -> None:
    """Ticks that a narrow panel can hold: numbers as people say them."""
    low, high = panel.get_xlim()
    if high / low < 30:
        span = [m * 10.0**e for e in range(-4, 13) for m in (1, 2, 5)]
        panel.set_xticks([v for v in span if low <= v <= high])
    panel.xaxis.set_major_formatter(lambda v, _: quantity(v))
    panel.xaxis.set_minor_formatter(lambda v, _: "")


def quantity(v: float) -> str:
    """12000 as 12k, 3.4e6 as 3.4M, 0.05 as 0.05."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if v >= unit:
            return f"{v / unit:.3g}{name}"
    return f"{v:.3g}"


def training(chosen: pd.DataFrame, losses: pd.DataFrame) -> Figure:
    """Loss against steps, a panel a task."""
    tasks = list(chosen["task"].unique())
    figure, panels = plt.subplots(1, len(tasks), figsize=(6 * len(tasks), 3.6), squeeze=False)
    for panel, task in zip(panels[0], tasks, strict=True):
        runs = chosen[chosen["task"] == task]
        widest = runs["N_total"].max()
        for trial_id, run in runs.iterrows():
            line = losses[losses["trial_id"] == trial_id]
            style = "-" if run["kind"] == "dense" else "--"
            width = 0.6 + 1.4 * run["N_total"] / widest
            panel.plot(line["step"], line["value"], style, linewidth=width, alpha=0.7, color=LOOKS[run["kind"]]["color"])
        panel.set_title(task, loc="left")
        panel.set_xlabel("step")
        panel.set_ylabel("training loss (nats a token)")
        for kind, style in (("dense", "-"), ("MoE", "--")):
            panel.plot([], [], style, color=LOOKS[kind]["color"], label=f"{kind}; thicker is larger")
        panel.legend()
    return figure
