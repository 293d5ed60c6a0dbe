"""`parrots report`: HTML, Markdown, figures and tables, from records."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeps.guard import writable
from sweeps.plan import plan_of
from sweeps.say import say
from sweeps.spec import Sweep, load
from sweeps.verbs.options import results_option

if TYPE_CHECKING:
    from analysis.report import Report


@click.command()
@click.argument("sweeps", nargs=-1, required=True, metavar="SWEEP...")
@results_option
def report(sweeps: tuple[str, ...], results: Path) -> None:
    """Write one report of each SWEEP, as it was last run, from its records: HTML, Markdown, figures, every number drawn."""
    found = [load(sweep, results) for sweep in dict.fromkeys(sweeps)]
    writable(results)
    say(write_report(found, results))


def write_report(found: Sequence[Sweep], results: Path) -> "Report":
    """The report of these sweeps, written."""
    from analysis.report import Asked, write

    asked = []
    for sweep in found:
        cells = sweep.asked(results)
        planned = {trial: s for trial, s in plan_of(sweep, results, slots=1).seconds.items() if not math.isnan(s)}
        asked.append(Asked(sweep.name, sweep.title, sweep.claims, [cell.trial.id for cell in cells], sweep.command, planned))
    return write(asked, results)
