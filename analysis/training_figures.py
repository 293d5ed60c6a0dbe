"""How the trials of a sweep trained: curves, routers, learning rates, and their time beside the plan's."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from analysis.figures import said
from analysis.picture import LOOKS, STROKES, Picture, panels, sparse_ticks, styled
from analysis.table import CHOOSERS, CURVE, choosers, several_rates

HEALTH = {
    "router_largest_share": "largest expert's share (1: fair)",
    "router_dead": "starved experts",
    "router_entropy": "router entropy (1: even)",
}


def of_training(
    chosen: pd.DataFrame, frame: pd.DataFrame, points: pd.DataFrame, planned: Mapping[str, float]
) -> dict[str, Callable[[], Picture]]:
    """Each picture's name and what draws it; ValueError says what is lacking.

    chosen: trials at their learning rate; frame: all of them. points: (trial_id, metric, step, value) along the way.
    planned: trial_id -> seconds that the plan foretold.
    """
    return {
        "training curves": lambda: curves(chosen, points),
        "router health": lambda: health(chosen, points),
        "learning-rate basins": lambda: basins(frame, chosen),
        "planned and actual": lambda: planned_and_actual(frame, planned),
    }


@styled
def curves(chosen: pd.DataFrame, points: pd.DataFrame) -> Picture:
    """Loss against steps, a panel a task."""
    losses = points[(points["metric"] == CURVE) & points["trial_id"].isin(chosen.index)]
    if losses.empty:
        raise ValueError("no loss was written down along the way")
    tasks = list(chosen["task"].unique())
    figure, axes = panels(len(tasks), 6)
    picture = Picture("training", "Training loss of every trial at its configuration's chosen learning rate.", figure)
    for panel, task in zip(axes, tasks, strict=True):
        runs = chosen[chosen["task"] == task]
        widest = runs["N_total"].max()
        for trial_id, run in runs.iterrows():
            line = losses[losses["trial_id"] == trial_id]
            look = {"linestyle": STROKES[run["kind"]], "color": LOOKS[run["kind"]]["color"]}
            look |= {"linewidth": 0.6 + 1.4 * run["N_total"] / widest, "alpha": 0.7}
            picture.line(panel, line["step"], line["value"], run["kind"], said(run, CURVE), str(trial_id), **look)
        panel.set_title(task, loc="left")
        panel.set_xlabel("step")
        panel.set_ylabel("training loss (nats a token)")
        for kind, style in STROKES.items():
            panel.plot([], [], style, color=LOOKS[kind]["color"], label=f"{kind}; thicker is larger")
        panel.legend()
    return picture


@styled
def health(chosen: pd.DataFrame, points: pd.DataFrame) -> Picture:
    """What the routers of each trial did along the way, the worst of its layers."""
    routers = points[points["metric"].str.startswith("router_") & points["trial_id"].isin(chosen.index)]
    if routers.empty:
        raise ValueError("no MoE wrote down the state of its routers")
    routers = routers.assign(sign=routers["metric"].str.replace(r"_\d+$", "", regex=True))
    signs = [sign for sign in HEALTH if sign in set(routers["sign"])]
    figure, axes = panels(len(signs), 4.2)
    text = "The routers of every MoE at its chosen learning rate: the worst layer of each trial along its training."
    picture = Picture("routers", text, figure)
    for panel, sign in zip(axes, signs, strict=True):
        some = routers[routers["sign"] == sign]
        worst = some.groupby(["trial_id", "step"], sort=False)["value"].agg("min" if sign == "router_entropy" else "max")
        for trial_id, line in worst.groupby(level=0, sort=False):
            run = chosen.loc[trial_id]
            shade = plt.get_cmap("cividis")(0.85 - 0.8 * np.log2(run["n_experts"]) / np.log2(chosen["n_experts"].max() + 1))
            about = said(run, CURVE)
            look = {"color": shade, "linewidth": 1, "alpha": 0.8}
            picture.line(panel, line.index.get_level_values(1), line, f"E{run['n_experts']}", about, trial_id, **look)
        panel.set_xlabel("step; darker has more experts")
        panel.set_ylabel(HEALTH[sign])
    return picture


@styled
def basins(frame: pd.DataFrame, chosen: pd.DataFrame) -> Picture:
    """The loss that chooses, against the learning rate: a line a configuration, its choice filled."""
    tasks = [task for task, some in frame[frame["status"] == "done"].groupby("task") if several_rates(some)]
    if not tasks:
        raise ValueError("one learning rate was tried of each configuration")
    losses = choosers(frame)
    figure, axes = panels(len(tasks), 6)
    text = (
        "The loss that chooses, averaged over seeds, against the learning rate: a line a configuration, a large mark the "
        "rate chosen, at the lowest. A line that ends there has not been seen to turn."
    )
    picture = Picture("learning_rates", text, figure)
    for panel, task in zip(axes, tasks, strict=True):
        loss = losses[task]
        runs = frame[(frame["task"] == task) & (frame["status"] == "done") & frame[loss].notna()]
        for configuration, some in runs.groupby("configuration", sort=False):
            mean = some.groupby("lr")[loss].mean()
            first = some.iloc[0]
            look = LOOKS[first["kind"]]
            about = f"{first['kind']} {first['label']}"
            stroke = STROKES[first["kind"]]
            picture.line(panel, mean.index, mean, about, about, linestyle=stroke, alpha=0.6, linewidth=1, **look, markersize=3)
            rate = chosen.loc[chosen["configuration"] == configuration, "lr"]
            if len(rate):
                at = rate.iloc[0]
                mark = pd.DataFrame({"lr": [at], loss: [mean[at]], "about": f"{about}: chose {at:g}, loss {mean[at]:.4g}"})
                picture.points(panel, mark, "lr", loss, f"{about}, chosen", s=40, zorder=3, **look)
        for kind in sorted(set(runs["kind"]), reverse=True):
            panel.plot([], [], STROKES[kind], label=kind, **LOOKS[kind])
        panel.legend()
        panel.set_xscale("log")
        panel.set_title(task, loc="left")
        panel.set_xlabel("learning rate")
        panel.set_ylabel(f"{CHOOSERS[loss]} (nats a token)")
        panel.xaxis.set_minor_formatter(lambda v, _: "")
        panel.set_xticks(sorted(runs["lr"].unique()), [f"{lr:g}" for lr in sorted(runs["lr"].unique())])
    return picture


@styled
def planned_and_actual(frame: pd.DataFrame, planned: Mapping[str, float]) -> Picture:
    """Seconds that trials took beside those that the plan foretold."""
    timed = frame[frame["wall_s"].gt(0) & frame.index.isin(planned) & (frame["status"] == "done")]
    if timed.empty:
        raise ValueError("no plan foretold how long these trials take")
    figure, (panel,) = panels(1, 6, 4.2)
    timed = timed.assign(planned=[planned[i] for i in timed.index])
    timed["about"] = [f"{said(run, 'wall_s')}\nplanned {run['planned']:.3g} s" for _, run in timed.iterrows()]
    ratio = timed["wall_s"] / timed["planned"]
    text = (
        f"Seconds that each of {len(timed)} trials took beside those planned; on the line both are equal. "
        f"The median trial took {ratio.median():.2f} times its plan, nine in ten between {ratio.quantile(0.05):.2f} and "
        f"{ratio.quantile(0.95):.2f} times."
    )
    picture = Picture("plan", text, figure)
    for kind, look in LOOKS.items():
        picture.points(panel, timed[timed["kind"] == kind], "planned", "wall_s", kind, s=20, alpha=0.7, label=kind, **look)
    ends = np.array([timed[["planned", "wall_s"]].min().min(), timed[["planned", "wall_s"]].max().max()])
    picture.line(panel, ends, ends, "as planned", color="#555", linewidth=1)
    panel.set(xscale="log", yscale="log", xlabel="planned (s)", ylabel="took (s)")
    sparse_ticks(panel)
    sparse_ticks(panel, upright=True)
    panel.legend()
    return picture
