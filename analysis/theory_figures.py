"""The pictures of the theory's report, one function a table or two; every number drawn is in a CSV file beside them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from analysis.picture import LOOKS, STYLE, Picture, quantity

# Okabe and Ito (2008), with a mark and a stroke each
SERIES: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    {"color": "#009E73", "marker": "^", "linestyle": "-."},
    {"color": "#CC79A7", "marker": "D", "linestyle": ":"},
)
BOUND: dict[str, Any] = {"color": "#444", "linewidth": 1.2}


def figures(tables: dict[str, pd.DataFrame]) -> Iterator[Picture]:
    """The pictures, in the order of the report."""
    with plt.rc_context(STYLE):
        yield paths(tables["thresholds"], tables["bottleneck"])
        yield matched(tables["matched"])
        yield spread(tables["spread"])
        yield experts(tables["experts"])
        yield loads(tables["loads"])
        yield bits(tables["bits"])
        yield counted(tables["labelings"], tables["growth"])


def paths(thresholds: pd.DataFrame, bottleneck: pd.DataFrame) -> Picture:
    """Theorems 3.3 and 3.2."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    left.plot(thresholds["threshold"], thresholds["wrong"], markersize=6, **SERIES[0])
    left.axvspan(1, 2, color="#009E73", alpha=0.12, linewidth=0)
    left.text(1.5, 0.5, "between one\nand two", ha="center", color="#00664b")
    left.set_xlabel("threshold of the read-out, in neighbourhoods")
    left.set_ylabel("share of graphs answered wrongly")
    left.set_title("3.3: the transformer of width |V|", loc="left", fontsize=10)
    for look, (name, some) in zip(SERIES, bottleneck.groupby("embedding", sort=False), strict=False):
        right.plot(some["width"], some["wrong"], markersize=6, label=name, **look)
        narrow = some[some["width x bits"] < some["vertices between"]]
        right.scatter(narrow["width"], narrow["wrong"], s=70, facecolors="white", zorder=3, **outline(look))
    right.scatter([], [], s=70, facecolors="white", edgecolors="#444", label="width x bits below |V| - 2")
    right.set_xlabel("width")
    right.set_ylabel("least share wrong, any read-out")
    right.set_title(
        f"3.2: what no number of experts repairs, |V| - 2 = {bottleneck['vertices between'].iloc[0]}", loc="left", fontsize=10
    )
    right.legend(fontsize=8)
    text = (
        "Left: wrong answers of theorem 3.3's transformer over every subset of the edges of s and d, as its threshold moves. "
        "Right: the share that the best function of the attention's sum still answers wrongly, by width of the embedding; open "
        "marks are those too narrow for theorem 3.2, none of which may reach 0."
    )
    return Picture("paths", text, figure)


def outline(look: dict[str, Any]) -> dict[str, str]:
    """A series' look for a mark that is not filled."""
    return {"edgecolors": look["color"], "marker": look["marker"]}


def matched(table: pd.DataFrame) -> Picture:
    """Corollary 3.4."""
    figure, panel = plt.subplots(figsize=(7.5, 4.2))
    for look, (vertices, some) in zip(SERIES, table.groupby("V"), strict=False):
        line = {key: look[key] for key in ("color", "linestyle")}
        x, y = some["experts"] / some["log_squared"], some["width"] / some["needed"]
        panel.plot(x, y, label=f"|V| = {vertices:,}", **line)
        panel.scatter(x.iloc[:1], y.iloc[:1], s=50, color=look["color"], marker=look["marker"], zorder=3)
    panel.axhline(1, **BOUND)
    panel.axvline(1, linestyle=":", **BOUND)
    panel.text(1.1, 18, "K = (log₂ N)²", fontsize=9)
    panel.fill_between(panel.get_xlim(), 0.05, 1, color="#D55E00", alpha=0.08, linewidth=0)
    panel.set(xscale="log", yscale="log", ylim=(0.1, 40), xlim=(table["experts"] / table["log_squared"]).agg(["min", "max"]))
    panel.set_xlabel("experts K / (log₂ N)²")
    panel.set_ylabel("width at equal parameters /\nwidth that 3.2 asks")
    panel.text(panel.get_xlim()[0] * 1.3, 0.5, "narrower than theorem 3.2 allows", color="#8f3e00", fontsize=9)
    panel.legend(fontsize=9, loc="upper right")
    text = (
        "Corollary 3.4: width of the MoE that has as many parameters as theorem 3.3's dense layer, over |V| / log₂ N. The mark "
        "that begins a line is the dense layer. Arithmetic on counts of the layers as built, constants taken as 1; nothing is "
        "trained."
    )
    return Picture("matched", text, figure)


def spread(table: pd.DataFrame) -> Picture:
    """Lemmas C.6 to C.8, and the width of C.9."""
    figure, panels = plt.subplots(1, 3, figsize=(12.5, 4))
    line = table.groupby("per_log").first()
    norms, inner, faults = panels
    for column, bound, look in (("largest_norm", "norm_high", SERIES[0]), ("smallest_norm", "norm_low", SERIES[1])):
        norms.scatter(
            table["per_log"], table[column], s=16, color=look["color"], marker=look["marker"], label=column.replace("_", " ")
        )
        norms.plot(line.index, line[bound], linestyle=look["linestyle"], color=look["color"])
    norms.set_title("C.6, C.7: squared norms", loc="left", fontsize=10)
    norms.set_ylabel("|x|² / σ²m; lines: bounds")
    norms.set_ylim(0, min(6, norms.get_ylim()[1]))
    inner.scatter(table["per_log"], table["largest_inner"], s=16, color=SERIES[0]["color"], label="largest of all pairs")
    inner.plot(line.index, line["inner_bound"], color=SERIES[0]["color"])
    inner.axhline(0.25, linestyle=":", **BOUND)
    inner.text(table["per_log"].min(), 0.27, "1/4", fontsize=9)
    inner.set_ylim(0, 2)
    inner.set_title("C.8: inner products", loc="left", fontsize=10)
    inner.set_ylabel("|⟨x, x'⟩| / σ²m; line: bound")
    for column, name, look in (("leaks", "neurons that let another through", SERIES[1]), ("wrong", "wrong labels", SERIES[0])):
        mean = table.groupby("per_log")[column].mean()
        faults.plot(mean.index, mean, label=name, **look)
    faults.set_yscale("symlog", linthresh=1)
    faults.set_ylim(0, None)
    faults.axvline(32, linestyle=":", **BOUND)
    faults.text(32.5, faults.get_ylim()[1] * 0.02, "32", fontsize=9)
    faults.set_title(f"C.9's network, n = {table['n'].iloc[0]:,}", loc="left", fontsize=10)
    faults.set_ylabel("count, mean over draws")
    for panel in panels:
        panel.set_xlabel("width m / ln n")
        panel.legend(fontsize=8)
    text = (
        "Norms and inner products of Gaussian vectors beside bounds that each may exceed with probability 1 % (Laurent and "
        "Massart; Chernoff), and what the ReLU network makes of them: how many neurons answer to another vector than their "
        "own, and how many labels are wrong. A mark is a draw; the last panel has means over draws."
    )
    return Picture("spread", text, figure)


def experts(table: pd.DataFrame) -> Picture:
    """Theorems C.11 and 3.5."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4))
    n, width = int(table["n"].iloc[0]), int(table["width"].iloc[0])
    K = np.geomspace(table["experts"].min(), table["experts"].max(), 100)
    for panel, size, bound, name in (
        (panels[0], "active", width * (n / K + K), "mn/K + mK"),
        (panels[1], "total", width * (n + K), "mn + mK"),
    ):
        panel.plot(K, bound, linestyle="--", label=name, **BOUND)
        panel.plot(table["experts"], table[size], label="MoE, as built", color=LOOKS["MoE"]["color"], marker="s")
        panel.axhline(n * (width + 2), color=LOOKS["dense"]["color"], label="dense, as built")
        panel.axvline(n**0.5, linestyle=":", **BOUND)
        panel.set(xscale="log", yscale="log", xlabel="experts K", ylabel=f"{size} parameters, without attention")
        panel.xaxis.set_major_formatter(lambda v, _: quantity(v))
        panel.yaxis.set_major_formatter(lambda v, _: quantity(v))
        panel.yaxis.set_minor_formatter(lambda v, _: quantity(v) if f"{v:.0e}"[0] in "25" else "")
        panel.text(n**0.5 * 1.08, 0.9, "K = √n", fontsize=9, transform=panel.get_xaxis_transform())
        panel.legend(fontsize=9)
    text = (
        f"Theorem 3.5: parameters of the random-routed MoE that labels n = {n:,} sequences of width {width}, counted from its "
        "tensors. Every expert is as wide as the one with the largest load."
    )
    return Picture("experts", text, figure)


def loads(table: pd.DataFrame) -> Picture:
    """The largest load of an expert."""
    widths = list(table["width"].unique())
    figure, panels = plt.subplots(1, len(widths), figsize=(11, 4), sharey=True, squeeze=False)
    for panel, width in zip(panels[0], widths, strict=True):
        here = table[table["width"] == width]
        line = here.groupby("experts").first()
        panel.plot(line.index, line["hoeffding"], label="Hoeffding's bound, 99 %", **BOUND)
        panel.plot(line.index, line["even"], linestyle=":", label="n / K", **BOUND)
        for look, (name, some) in zip(SERIES, here.groupby("router", sort=False), strict=False):
            broken = some["largest"] > some["hoeffding"]
            panel.scatter(
                some["experts"], some["largest"], s=28, label=f"{name} router", color=look["color"], marker=look["marker"]
            )
            panel.scatter(some["experts"][broken], some["largest"][broken], s=110, facecolors="none", edgecolors="#CC3311")
        panel.scatter([], [], s=110, facecolors="none", edgecolors="#CC3311", label="above the bound")
        panel.set(xscale="log", yscale="log", xlabel="experts K", xticks=line.index)
        panel.xaxis.set_minor_formatter(lambda v, _: "")
        panel.set_title(f"m = {width}, n = {here['n'].iloc[0]:,}", loc="left", fontsize=10)
        panel.xaxis.set_major_formatter(lambda v, _: quantity(v))
        panel.yaxis.set_major_formatter(lambda v, _: quantity(v))
    panels[0][0].set_ylabel("sequences at the fullest expert")
    panels[0][0].legend(fontsize=8)
    text = (
        "The largest load of an expert behind a random router, a mark a draw. The bound would hold if each expert had the same "
        "chance; given the router they do not have it."
    )
    return Picture("loads", text, figure)


def bits(table: pd.DataFrame) -> Picture:
    """The fewest bits."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for panel, (name, network) in zip(panels, table.groupby("network", sort=False), strict=True):
        for look, (per_log, some) in zip(SERIES, network.groupby("per_log"), strict=False):
            panel.plot(some["bits"], some["wrong"], label=f"m = {per_log} ln n", **look)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
        panel.set_yscale("symlog", linthresh=1)
        panel.set_ylim(-0.2, 3 * table["wrong"].max() + 1)
        theorem = np.log2(network["n"].iloc[0] * network["width"].max())
        panel.axvline(theorem, linestyle=":", **BOUND)
        panel.text(theorem * 0.95, 0.4, "log₂ nm", fontsize=9, ha="right")
        panel.set_title(f"{name}, n = {network['n'].iloc[0]:,}", loc="left", fontsize=10)
        panel.set_xlabel("bits a weight (32: as built)")
    panels[0].set_ylabel("wrong labels")
    panels[0].legend(fontsize=9)
    text = (
        "Weights and biases rounded to a few bits: wrong labels of n, dense and behind the random router, at several widths. "
        "Dotted: our reading of the theorem's bits."
    )
    return Picture("bits", text, figure)


def counted(labelings: pd.DataFrame, growth: pd.DataFrame) -> Picture:
    """Theorem 3.6."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for look, ((weights, each), some) in zip(SERIES, labelings.groupby(["weights", "bits"]), strict=False):
        most = weights * each
        left.plot(
            some["points"], np.log2(some["reached"]), markersize=4, label=f"W = {weights}, c = {each} (cW = {most})", **look
        )
        left.axhline(most, color=look["color"], linestyle=":", linewidth=1)
    points = labelings["points"].agg(["min", "max"])
    left.plot(points, points, label="all: n", **BOUND)
    left.set(xlabel="points n", xticks=range(0, points["max"] + 1, 3), ylabel="log₂ of the labelings reached", ylim=(0, None))
    left.set_title("every network of a few bits", loc="left", fontsize=10)
    left.legend(fontsize=8)
    lines(right, growth)
    text = (
        "Theorem 3.6, n ≤ cW. Left: labelings of n points in the plane that ReLU networks of W weights with c bits each reach, "
        "all networks tried; dotted: cW, which none can pass. Right: parameters of what was built beside the fewest that any "
        "dense model of c bits a weight can have."
    )
    return Picture("counted", text, figure)


def lines(panel: Axes, growth: pd.DataFrame) -> None:
    """Parameters against n."""
    looks: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("dense, as built", "dense", {"color": LOOKS["dense"]["color"], "marker": "o"}),
        ("MoE total, K = √n", "total", {"color": LOOKS["MoE"]["color"], "marker": "s", "linestyle": "--"}),
        ("MoE active, K = √n", "active", {"color": LOOKS["MoE"]["color"], "marker": "s"}),
    )
    for name, column, look in looks:
        panel.plot(growth["n"], growth[column], label=name, **look)
    for bits_each, style in ((1, "-"), (32, ":")):
        panel.plot(growth["n"], growth["n"] / bits_each, linestyle=style, label=f"n / c, c = {bits_each}", **BOUND)
    highest = 60 * growth["total"].max()  # room for the legend
    panel.set(xscale="log", yscale="log", ylim=(None, highest), xlabel="sequences n", ylabel="parameters, without attention")
    panel.xaxis.set_major_formatter(lambda v, _: quantity(v))
    panel.yaxis.set_major_formatter(lambda v, _: quantity(v))
    panel.xaxis.set_minor_formatter(lambda v, _: "")
    panel.set_title("networks that hold n labels", loc="left", fontsize=10)
    panel.legend(fontsize=8)
