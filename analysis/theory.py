"""The report of `parrots theory`: what was proved, what was built of it, and the numbers side by side.

Reads parts as plain dictionaries (a theorem, its title, findings, tables by name), so that it needs none of what made them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.report import render
from analysis.report_tables import number
from analysis.theory_figures import figures
from parrots.atomic import atomic

RELATIONS = {"<=": "at most", ">=": "at least", "": "beside"}


@dataclass(frozen=True)
class TheoryReport:
    """What was written, and what in it does not hold."""

    html: Path
    failed: list[str]
    """Sentences on what ought to hold and does not."""
    broken: list[str]
    """Sentences on bounds that are only looked at and do not hold."""


def write(parts: Sequence[dict[str, Any]], results: Path, command: str, made_by: dict[str, Any]) -> TheoryReport:
    """Write the report of these parts into `results/reports/theorems`.

    made_by: hardware, commit, versions, seconds, seed and scale, for the last paragraph.
    """
    folder = results / "reports" / "theorems"
    findings = pd.DataFrame([{"title": part["title"], **finding} for part in parts for finding in part["findings"]])
    tables = {name: pd.DataFrame(rows) for part in parts for name, rows in part["tables"].items()}
    pictures = [{"name": p.name, "caption": p.caption, "svg": p.save(folder)} for p in figures(tables)]
    violated = findings[findings["holds"] == "violated"]
    failed = [sentence(row) for row in rows(violated[violated["must"]])]
    broken = [sentence(row) for row in rows(violated[~violated["must"]])]
    view = {
        "parts": [{**part, "rows": [shown(finding) for finding in part["findings"]]} for part in parts],
        "counts": findings["holds"].value_counts().to_dict(),
        "failed": failed,
        "broken": broken,
        "figures": pictures,
        "tables": list(tables),
        "command": command,
        "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "made_by": made_by,
    }
    for name, table in {"findings": findings, **tables}.items():
        with atomic(folder / f"{name}.csv") as sink:
            table.to_csv(sink, index=False)
    for template, file in (("theory.md.jinja", "report.md"), ("theory.html.jinja", "report.html")):
        with atomic(folder / file) as sink:
            sink.write(render(template, view).encode())
    return TheoryReport(folder / "report.html", failed, broken)


def rows(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """A frame, a dictionary a row."""
    return frame.to_dict("records")


def shown(finding: dict[str, Any]) -> dict[str, str]:
    """A finding as tables show it."""
    bound = "" if math.isnan(finding["bound"]) else f"{RELATIONS[finding['relation']]} {number(finding['bound'])}"
    return {
        "statement": finding["statement"],
        "measured": number(finding["measured"]),
        "bound": bound,
        "verdict": finding["holds"],
        "n": number(finding["n"]),
        "s": f"{finding['seconds']:.1f}",
        "note": finding["note"],
    }


def sentence(finding: dict[str, Any]) -> str:
    """A violation in plain words."""
    said = shown(finding)
    why = f" {finding['note'][:1].upper()}{finding['note'][1:]}." if finding["note"] else ""
    what = f"{finding['theorem']}: {said['statement']} is {said['measured']}"
    return f"{what}, where it should be {said['bound']} (n = {said['n']}).{why}"
