"""What the terminal is told: tables at their own width, verdicts, and what failed and why."""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from parrots.models.published import mixture_of_parrots, optimal_sparsity
from sweeps import ledger
from sweeps.index import Entry
from sweeps.plan import Plan
from sweeps.watch import clock

if TYPE_CHECKING:
    from analysis.report import Report

TOLD = 20  # failed cells; a sweep may have thousands


def visible(text: str) -> str:
    """Text in which what a terminal might obey is spelled out: reasons, names and titles may come from anywhere."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


class Plain(Console):
    """A console that prints text as it is, and obeys nothing in it."""

    def print(self, *things: Any, **how: Any) -> None:
        """As `Console.print`."""
        super().print(*(visible(one) if isinstance(one, str) else one for one in things), **how)


out = Plain(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


def show(table: Table) -> None:
    """Print a table at its own width: on a narrow terminal lines wrap, and no digit is lost."""
    natural = out.measure(table, options=out.options.update(max_width=10_000)).maximum
    Console(file=out.file, width=max(natural, out.width), highlight=False, markup=False).print(table)


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] = ()) -> None:
    """Print rows of text under a head, each column as wide as its widest; `left` names those that are not numbers.

    For many rows: a `rich` table of 10,000 takes seconds.
    """
    rows = [[visible(text) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (text.ljust(w) if name in left else text.rjust(w) for name, text, w in zip(head, row, widths, strict=True))
        out.file.write(f" {'  '.join(cells).rstrip()}\n")


def summary(made: Plan) -> str:
    """How much of a plan is done and how long the rest will take."""
    states = Counter(made.states.values())
    missing = len(made.cells) - states["done"]
    if not missing:
        return f"{len(made.cells)} cells, all done"
    failed = f" ({states['failed']} of them failed before)" if states["failed"] else ""
    done = f"{len(made.cells)} cells, {states['done']} done"
    wall_s = made.wall_s()
    how_long = "" if math.isnan(wall_s) else f" in about {clock(wall_s)} on {made.slots} slot{'s' * (made.slots > 1)}"
    return f"{done}, {missing} to run{failed}{how_long}"


def count_published() -> None:
    """The models of the papers and their sizes in millions, in each paper's own convention."""
    for title, models in (
        ("Mixture of Parrots (arXiv 2410.19034): with one vocabulary matrix of 32,000, without norms", mixture_of_parrots()),
        ("Optimal Sparsity (arXiv 2508.18672): with two vocabulary matrices of 99,600", optimal_sparsity()),
    ):
        table = Table(title=title, title_justify="left", box=None, header_style="bold")
        table.add_column("model", no_wrap=True)
        for name in ("total, M", "active, M", "printed as"):
            table.add_column(name, justify="right")
        for one in models:
            table.add_row(one.label, f"{one.total:,.1f}", f"{one.active:,.1f}", one.printed)
        show(table)


def say_theory(parts: list[dict[str, Any]], results: Path, command: str, made_by: dict[str, Any]) -> int:
    """Write and show the theory's findings; returns the exit code."""
    from analysis.theory import shown, write

    written = write(parts, results, command, made_by)
    table = Table(box=None, header_style="bold")
    table.add_column("theorem", no_wrap=True)
    table.add_column("statement")
    for name in ("measured", "should be", "n"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for part in parts:
        for finding in part["findings"]:
            row = shown(finding)
            table.add_row(part["theorem"], *(row[key] for key in ("statement", "measured", "bound", "n", "verdict")))
    show(table)
    for heading, lines in (("ought to hold and does not", written.failed), ("bounds that are broken", written.broken)):
        if lines:
            out.print(heading, style="bold")
        for line in lines:
            out.print(f"  {line}")
    out.print(f"report: {written.html}")
    return 1 if written.failed else 0


def say(written: "Report") -> None:
    """A report's short table, verdicts and whereabouts."""
    from analysis.report_tables import number

    for task, rows in written.cells.groupby("task", sort=False):
        table = Table(title=str(task), title_justify="left", box=None, header_style="bold")
        shown = [c for c in rows.dropna(axis=1, how="all").columns if c not in ("task", "d_ff", "n_experts", "kind")]
        for column in shown:
            table.add_column(column, justify="left" if column == "label" else "right")
        for values in rows[shown].itertuples(index=False):
            table.add_row(*map(number, values))
        show(table)
        out.print()
    for decision in written.decisions:
        out.print(decision.headline, style="bold")
        out.print(f"  {decision.evidence}")
        if decision.more:
            out.print(f"  {decision.more}")
    out.print(f"report: {written.html}")


def say_failed(failed: Sequence[Entry], command: str, books: ledger.Ledger, at_most: int = TOLD) -> None:
    """Cells that have failed and have no record, the first with the last line of their last attempt's reason."""
    from parrots.record import read

    if failed:
        out.print(
            f"{len(failed)} cell{'s' * (len(failed) > 1)} failed; `{command}` tries again, `parrots logs TRIAL` says more"
        )
    for one in failed[:at_most]:
        last = read(books.failures[one.trial_id][-1:])
        reason = (last["reason"][0].as_py().splitlines() or ["no reason was given"])[-1]
        out.print(f"  {one.task} {one.name} ({one.trial_id}): attempt {books.attempts(one.trial_id)}, {reason}")
    if len(failed) > at_most:
        out.print(f"  and {len(failed) - at_most} more; `parrots status SWEEP --all` tells of each")
