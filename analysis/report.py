"""A report of sweeps, or of any table of runs: what was found, on how many runs, what is missing, how to do it again.

Written from the records (or the table) alone, as one HTML file that opens offline, as Markdown with SVG and PNG, and as
tables: every trial in trials.csv, every number drawn in numbers.csv and numbers.parquet.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.categories import with_categories
from analysis.claims import Claim
from analysis.compare import beside_control
from analysis.described import with_derived
from analysis.figures import counted, of_claims
from analysis.missing import LOST, bounded, turned_over
from analysis.paper_figures import of_paper
from analysis.picture import COLUMNS, Picture, drawn, quantity
from analysis.report_tables import (
    by_configuration,
    capacities,
    edges,
    movements,
    number,
    predictors,
    rows,
    sensitivity,
    shifts,
    thresholds,
    with_books,
)
from analysis.size_figures import of_sizes
from analysis.table import CHOOSERS, CURVES, choosers, curves, load, several_rates, with_best_lr
from analysis.threshold import runs_of
from analysis.training_figures import of_training
from analysis.verdicts import Decision, family
from parrots.atomic import atomic


@dataclass(frozen=True)
class Asked:
    """A sweep, as a report needs it."""

    name: str
    title: str
    claims: Sequence[Claim]
    trial_ids: Sequence[str]
    command: str
    """The command line that makes the records."""
    planned: Mapping[str, float] = field(default_factory=dict)
    """trial_id -> seconds that its plan foretold."""
    note: str = ""
    """What its numbers are not."""
    table: pd.DataFrame | None = None
    """Runs of somebody's table (see `described`), in place of records."""


@dataclass(frozen=True)
class Report:
    """What was written, and what it says."""

    html: Path
    decisions: list[Decision]
    cells: pd.DataFrame
    """A row a configuration: sizes, chosen learning rate, seeds, means."""


@dataclass(frozen=True)
class Section:
    """One sweep's part."""

    decisions: list[Decision]
    cells: pd.DataFrame
    frame: pd.DataFrame
    pictures: list[Picture]
    view: dict[str, Any]


def write(sweeps: Sequence[Asked], results: Path) -> Report:
    """Write the report of these sweeps into `results/reports/NAME`, their names joined by +.

    ValueError if one of them has no finished trial; nothing is written then.
    """
    sections = [section(asked, results, f"{asked.name}-" if len(sweeps) > 1 else "") for asked in sweeps]
    name = "+".join(asked.name for asked in sweeps)
    folder = results / "reports" / name
    for one in sections:
        one.view["figures"] = [{"name": p.name, "caption": p.caption, "svg": p.save(folder)} for p in one.pictures]
    view = {
        "name": name,
        "title": sweeps[0].title if len(sweeps) == 1 else f"{len(sweeps)} sweeps: {', '.join(one.name for one in sweeps)}",
        "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "sections": [one.view for one in sections],
    }
    save_tables(sections, folder)
    for template, file in (("report.md.jinja", "report.md"), ("report.html.jinja", "report.html")):
        with atomic(folder / file) as sink:
            sink.write(render(template, view).encode())
    drawn = {picture.name for one in sections for picture in one.pictures}
    for stale in folder.iterdir():  # of claims that the sweep no longer makes
        if stale.suffix in (".svg", ".pdf", ".png") and stale.stem not in drawn:
            stale.unlink()
    cells = pd.concat([one.cells for one in sections], ignore_index=True)
    return Report(folder / "report.html", [d for one in sections for d in one.decisions], cells)


def section(asked: Asked, results: Path, prefix: str) -> Section:
    """A sweep's decisions, pictures and tables. ValueError if no trial of it is finished."""
    frame = with_categories(with_derived(load(results, asked.trial_ids)) if asked.table is None else asked.table)
    if not (frame["status"] == "done").any():
        lacking = f"no finished trial in {results}; `{asked.command}` makes them"
        raise ValueError(f"{asked.name}: {lacking if asked.table is None else 'no finished run in this table'}")
    chosen = with_best_lr(frame)
    decisions = family(asked.claims, chosen, frame[frame["status"] == "done"])
    cells = by_configuration(chosen, asked.claims)
    points = curves(results, list(chosen.index)) if asked.table is None else pd.DataFrame(columns=CURVES)
    pictures, absent = drawn(
        of_claims(chosen, decisions)
        | of_paper(with_books(chosen, asked.claims))
        | of_sizes(chosen, asked.claims)
        | of_training(chosen, frame, points, asked.planned)
    )
    for picture in pictures:
        picture.name = f"{prefix}{picture.name}"
    holes = {d.claim.name: list(bounded(d.claim, frame, chosen)) for d in decisions}
    view = {
        "name": asked.name,
        "title": asked.title,
        "note": asked.note,
        "what": "Sweep" if asked.table is None else "Table",
        "command": asked.command,
        "summary": summary(asked, frame, chosen, decisions),
        "decisions": [
            {
                "decision": d,
                "sensitivity": sensitivity(d, frame),
                "holes": [(filled, other.headline, other.evidence) for filled, other in holes[d.claim.name]],
                "turned_over": turned_over(d, [other for _, other in holes[d.claim.name]]),
            }
            for d in decisions
        ],
        "axes": list(predictors(chosen, asked.claims)),
        "rates": list(movements(chosen, frame)),
        "rule": rule(frame),
        "cells": {
            task: rows(some.drop(columns="task").dropna(axis=1, how="all")) for task, some in cells.groupby("task", sort=False)
        },
        "readings": [*capacities(chosen, asked.claims), *thresholds(chosen, asked.claims), *shifts(chosen)],
        "controls": [(c, rows(beside_control(runs_of(c, chosen), c.metric))) for c in asked.claims if c.kind != "contrast"],
        "edges": list(edges(chosen, frame)),
        "groups": rows(chosen[chosen["workers"] > 1]),
        "lost": rows(frame[frame["status"].isin([*LOST, "missing"])]),
        "diverged": rows(frame[frame["status"] == "diverged"]),
        "unrun": len(asked.trial_ids) - len(frame) if asked.table is None else 0,
        "trials": len(frame),
        "train_s": float(frame["train_s"].sum()),
        "hardware": [one for one in frame["hardware"].unique() if one],
        "commits": [commit for commit in frame["commit"].unique() if commit],
        "versions": dict(frame["versions"].iloc[-1]) if "versions" in frame else {},
        "counted": counted(frame),
        "absent": absent,
    }
    return Section(decisions, cells, frame, pictures, view)


def rule(frame: pd.DataFrame) -> str:
    """What chooses a learning rate, by task where tasks differ in it; nothing where there is none to choose."""
    several = frame.groupby("task").filter(several_rates)
    chosen = {task: CHOOSERS[column] for task, column in choosers(several).items()}
    if not chosen:
        return ""
    if len(set(chosen.values())) == 1:
        return f"the lowest {next(iter(chosen.values()))}, averaged over seeds"
    return " and ".join(f"the lowest {loss} ({task})" for task, loss in chosen.items()) + ", averaged over seeds"


def summary(asked: Asked, frame: pd.DataFrame, chosen: pd.DataFrame, decisions: list[Decision]) -> str:
    """What was found, on how much, and what is missing, in two sentences."""
    verdicts = Counter(decision.verdict for decision in decisions)
    found = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()) or "none declared"
    states = frame["status"].astype(str).value_counts()
    words = {"oom": "out of memory", "stopped": "ended early"}
    lacking = [f"{states[one]} {words.get(one, one)}" for one in ("diverged", *LOST, "missing") if states.get(one)]
    if asked.table is None and (unrun := len(asked.trial_ids) - len(frame)):
        lacking.append(f"{unrun} not run")
    claims = f"{len(decisions)} claim{'s' * (len(decisions) != 1)}"
    runs = "finished trials" if asked.table is None else "runs"
    stands = f"{chosen['configuration'].nunique()} configurations, {states.get('done', 0)} {runs}"
    return f"{claims}: {found}. {stands}; {', '.join(lacking) or 'nothing missing'}."


def save_tables(sections: Sequence[Section], folder: Path) -> None:
    """Every trial, and every number that is drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    trials = pd.concat([one.frame.drop(columns=["configuration", "declared", "versions"], errors="ignore") for one in sections])
    numbers = pd.concat([*(p.numbers() for one in sections for p in one.pictures), pd.DataFrame(columns=COLUMNS)])
    with atomic(folder / "trials.csv") as sink:
        trials.to_csv(sink)
    with atomic(folder / "numbers.csv") as sink:
        numbers.to_csv(sink, index=False)
    with atomic(folder / "numbers.parquet") as sink:
        numbers.to_parquet(sink, index=False)


def render(template: str, view: dict[str, Any]) -> str:
    """A template filled in; an undefined name is an error and everything from data is escaped in HTML."""
    environment = Environment(  # nosec B701 # it is on for HTML, and Markdown has no escaping of its kind
        loader=PackageLoader("analysis", "."),
        autoescape=lambda name: name is not None and name.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "quantity": quantity}
    return environment.get_template(template).render(**view)
