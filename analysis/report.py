"""A sweep's report: what was asked, what was found, on how many runs, what is missing, and how to do it again.

Written from the records alone, as one HTML file that opens offline, as Markdown with SVG and PNG, and as the table drawn.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from analysis.claims import Claim, Decision, decide
from analysis.compare import beside_control
from analysis.contrast import field_of
from analysis.figures import figures, quantity
from analysis.table import curves, load, with_best_lr
from analysis.threshold import readings, runs_of, subject
from parrots.atomic import atomic


@dataclass(frozen=True)
class Report:
    """What was written, and what it says."""

    html: Path
    decisions: list[Decision]
    cells: pd.DataFrame
    """A row a configuration: sizes, chosen learning rate, seeds, means."""


def write(name: str, title: str, claims: Sequence[Claim], trial_ids: Sequence[str], results: Path, command: str) -> Report:
    """Write the report of the trials with these ids into `results/reports/NAME`. ValueError if none has a record."""
    frame = load(results, trial_ids)
    if not (frame["status"] == "done").any():
        raise ValueError(f"{name}: no finished trial in {results}")
    chosen = with_best_lr(frame)
    decisions = [decide(claim, chosen) for claim in claims]
    cells = by_configuration(chosen, claims)
    folder = results / "reports" / name
    pictures = [
        {"name": n, "caption": text, "svg": save(figure, n, folder)}
        for n, text, figure in figures(chosen, curves(results, list(chosen.index)), decisions)
    ]
    view: dict[str, Any] = {
        "name": name,
        "title": title,
        "command": command,
        "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "decisions": [{"decision": d, "sensitivity": sensitivity(d, frame)} for d in decisions],
        "figures": pictures,
        "cells": {
            task: rows(some.drop(columns="task").dropna(axis=1, how="all")) for task, some in cells.groupby("task", sort=False)
        },
        "readings": [*capacities(chosen, claims), *thresholds(chosen, claims), *shifts(chosen)],
        "controls": [(c, rows(beside_control(runs_of(c, chosen), c.metric))) for c in claims if c.kind != "contrast"],
        "edges": list(edges(chosen, frame)),
        "groups": rows(chosen[chosen["workers"] > 1]),
        "lost": rows(frame[frame["status"].isin(["oom", "failed"])]),
        "diverged": rows(frame[frame["status"] == "diverged"]),
        "unrun": len(trial_ids) - len(frame),
        "trials": len(frame),
        "train_s": float(frame["train_s"].sum()),
        "hardware": list(frame["hardware"].unique()),
        "commits": [commit for commit in frame["commit"].unique() if commit],
        "versions": dict(frame["versions"].iloc[-1]),
    }
    save_table(frame, folder / "trials.csv")
    for template, file in (("report.md.jinja", "report.md"), ("report.html.jinja", "report.html")):
        with atomic(folder / file) as sink:
            sink.write(render(template, view).encode())
    drawn = {picture["name"] for picture in pictures}
    for stale in folder.iterdir():  # of claims that the sweep no longer makes
        if stale.suffix in (".svg", ".pdf", ".png") and stale.stem not in drawn:
            stale.unlink()
    return Report(folder / "report.html", decisions, cells)


def rows(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """A frame as a template likes it."""
    return frame.to_dict("records")


def by_configuration(chosen: pd.DataFrame, claims: Sequence[Claim]) -> pd.DataFrame:
    """A row a configuration: sizes, chosen learning rate, seeds, and each claimed metric's mean with its range over seeds."""
    table = []
    varied = {task: varying(runs) for task, runs in chosen.groupby("task", sort=False)}
    for _, runs in chosen.groupby("configuration", sort=False):
        first = runs.iloc[0]
        row = {k: first[k] for k in ("task", "label", "kind", "d_model", "d_ff", "n_experts", "N_total", "N_active", "lr")}
        row |= {field: field_of(json.loads(first["declared"])["task"], field) for field in varied[first["task"]]}
        row["seeds"] = len(runs)
        for metric in dict.fromkeys(c.measured for c in claims):
            if metric in runs and runs[metric].notna().any():
                row[metric] = runs[metric].mean()
                row[f"{metric} range"] = f"{number(runs[metric].min())} to {number(runs[metric].max())}"
        table.append(row)
    return pd.DataFrame(table)


def varying(runs: pd.DataFrame) -> list[str]:
    """The fields of their task in which these runs differ."""
    said = [json.loads(text)["task"] for text in runs["declared"].unique()]
    return [field for field in said[0] if len({json.dumps(one.get(field)) for one in said}) > 1]


def edges(chosen: pd.DataFrame, frame: pd.DataFrame) -> Iterator[str]:
    """A sentence for each task of which some configurations want a learning rate beyond those tried."""
    for task, runs in chosen.groupby("task", sort=False):
        tried = frame.loc[frame["task"] == task, "lr"]
        for end, rate in (("highest", tried.max()), ("lowest", tried.min())):
            at = runs.loc[runs["lr"] == rate, "configuration"].nunique()
            if at and tried.nunique() > 1:
                yield f"{task}: {at} of {runs['configuration'].nunique()} chose the {end} rate tried, {rate:g}."


def sensitivity(decision: Decision, frame: pd.DataFrame) -> list[tuple[str, str]]:
    """The verdict had the learning rate been fixed for all configurations, for each rate tried: (rule, verdict)."""
    runs = subject(decision.claim, frame)
    runs = runs[runs["status"] == "done"]
    rates = sorted(runs["lr"].unique())
    if len(rates) < 2:
        return []
    fixed = [(lr, decide(decision.claim, runs[runs["lr"] == lr])) for lr in rates]
    return [(f"lr = {lr:g} for all", f"{d.verdict}; {d.evidence}") for lr, d in fixed]


def thresholds(chosen: pd.DataFrame, claims: Sequence[Claim]) -> Iterator[dict[str, Any]]:
    """A table for each claim whose metric is read off an axis: what was read, and where it could not be."""
    for claim in {claim.metric: claim for claim in claims if claim.threshold}.values():
        assert claim.threshold
        read = readings(subject(claim, chosen), claim.threshold)
        if len(read):
            value = read["value"].where(read["censored"] == "", read["censored"])
            shown = read[["label", "N_total", "N_active", "seed"]].assign(
                **{claim.metric: value, "misses below": read["failed_below"]}
            )
            note = (
                f"{claim.threshold.axis} at which {claim.threshold.metric} reaches {claim.threshold.target:g} "
                f"({claim.threshold.reading}). One above or below all that were tried is left out of the fit. "
                "Misses below: smaller values tried that did not reach it."
            )
            yield {"title": f"{claim.task}: {claim.metric}, read off {claim.threshold.axis}", "rows": rows(shown), "note": note}


def capacities(chosen: pd.DataFrame, claims: Sequence[Claim]) -> Iterator[dict[str, Any]]:
    """What each model remembers by every measure that is claimed of a phone-book, side by side; the mean over seeds."""
    about = [claim for claim in claims if claim.task == "phonebook"]
    if len({claim.metric for claim in about}) < 2:
        return
    parts = []
    for claim in about:
        runs = runs_of(claim, chosen)
        if claim.metric not in runs:
            continue
        means = runs.groupby(["label", "N_total", "N_active"], sort=False)[claim.metric].mean()
        parts.append(means)
        if claim.metric == "memory_bits":
            for size in ("N_total", "N_active"):
                parts.append((means / means.index.get_level_values(size)).rename(f"bits per {size}"))
            parts.append(runs.groupby(["label", "N_total", "N_active"], sort=False).apply(interval).rename("95 % interval"))
            parts.append(runs.groupby(["label", "N_total", "N_active"], sort=False)["exposures"].mean())
    if parts:
        table = pd.concat({part.name: part for part in parts}, axis=1).reset_index().sort_values("N_total")
        note = (
            "Exposures: how often each entry of the book in which bits were counted was a training example. The interval is "
            "that of the bits over the book's entries, for these weights; it says nothing of other seeds."
        )
        yield {"title": "phonebook: capacity by each measure", "rows": rows(table), "note": note}


def interval(runs: pd.DataFrame) -> str:
    """The 95 % interval of the bits that these runs hold on average."""
    middle, half = runs["memory_bits"].mean(), 1.96 * np.sqrt((runs["memory_bits.stderr"] ** 2).sum()) / len(runs)
    return f"{number(middle - half)} to {number(middle + half)}"


def shifts(chosen: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Each trained model on what it was not tested on in its trial: score, and its distance from the trial's own test."""
    for task, runs in chosen.groupby("task", sort=False):
        for metric in [name for name in runs if "/" in name and "." not in name and runs[name].notna().any()]:
            own = metric.rpartition("/")[2]
            table = []
            for _, some in runs[runs[metric].notna()].groupby("configuration", sort=False):
                gap = (some[metric] - some[own]).mean()
                half = 1.96 * np.sqrt((some[f"{metric}.stderr"] ** 2 + some[f"{own}.stderr"] ** 2).sum()) / len(some)
                row = {"model": some["label"].iloc[0], "seeds": len(some), own: some[own].mean(), metric: some[metric].mean()}
                table.append(row | {"difference": gap, "95 % interval": f"{number(gap - half)} to {number(gap + half)}"})
            note = "The interval is that of the test examples, for these weights; it says nothing of other seeds."
            yield {"title": f"{task}: {metric}", "rows": table, "note": note}


def save(figure: Figure, name: str, folder: Path) -> str:
    """Write a figure as SVG, PDF and PNG; returns the SVG for inlining."""
    folder.mkdir(parents=True, exist_ok=True)
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    with atomic(folder / f"{name}.svg") as sink:
        sink.write(svg.encode())
    for kind in ("pdf", "png"):
        with atomic(folder / f"{name}.{kind}") as sink:
            figure.savefig(sink, format=kind, dpi=160)
    plt.close(figure)
    return svg[svg.index("<svg") :]


def save_table(frame: pd.DataFrame, path: Path) -> None:
    """Every number that is drawn or tabled, a row a trial."""
    with atomic(path) as sink:
        frame.drop(columns=["configuration", "declared", "versions"]).to_csv(sink)


def render(template: str, view: dict[str, Any]) -> str:
    """A template filled in; an undefined name is an error and everything from data is escaped in HTML."""
    environment = Environment(
        loader=PackageLoader("analysis", "."),
        autoescape=lambda name: name is not None and name.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "quantity": quantity}
    return environment.get_template(template).render(**view)


def number(value: Any) -> str:
    """A value as a table shows it: counts with separators, measures to three digits, text as it is."""
    if isinstance(value, float):
        if math.isnan(value):
            return "none"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int) or re.fullmatch(r"int\d+", type(value).__name__):
        return f"{value:,}"
    return str(value)
