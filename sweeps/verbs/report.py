"""`parrots report`: HTML, Markdown, figures and tables, from records or from anybody's table of runs."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeps.guard import writable
from sweeps.plan import plan_of
from sweeps.say import say
from sweeps.spec import Sweep, load
from sweeps.verbs.compare import claims_of
from sweeps.verbs.options import results_option, stored
from sweeps.verbs.source import is_table, table_of, table_options, words

if TYPE_CHECKING:
    from analysis.report import Report


@click.command()
@click.argument("sweeps", nargs=-1, required=True, metavar="SWEEP...|FILE")
@results_option
@stored
@table_options
@click.option("--of", "declared", multiple=True, metavar="NAME", help="Of a FILE: claims of parrots, sparsity or a sweep.")
def report(sweeps: tuple[str, ...], results: Path, columns: dict[str, str], where: str, declared: tuple[str, ...]) -> None:
    """Write one report of each SWEEP, as it was last run, from its records: HTML, Markdown, figures, every number drawn.

    Or of FILE, any table of runs (CSV, TSV, Parquet, JSONL) with N_total and N_active, as `parrots claims` takes it.
    """
    tables = [one for one in sweeps if is_table(one)]
    if tables and len(sweeps) > 1:
        raise ValueError(f"{tables[0]} is a table of runs; a report of one is a report of it alone")
    if tables:
        writable(results)
        say(write_table_report(tables[0], columns, where, declared, results))
        return
    if columns or where or declared:
        raise ValueError("--map, --filter and --of are for a table of runs; a sweep has its own columns and claims")
    found = [load(sweep, results) for sweep in dict.fromkeys(sweeps)]
    writable(results)
    say(write_report(found, results))


def write_table_report(source: str, columns: dict[str, str], where: str, declared: Sequence[str], results: Path) -> "Report":
    """The report of a table of runs, with the figures of the paper for which it has columns."""
    from analysis.report import Asked, write

    claims = [claim for name in declared for claim in claims_of(name, results)]
    name = re.sub(r"[^\w.-]", "-", Path(source).stem)
    command = words("report", source, columns, where, *(word for one in declared for word in ("--of", one)))
    return write(
        [Asked(name, f"Runs of {Path(source).name}", claims, (), command, table=table_of(source, columns, where))], results
    )


def write_report(found: Sequence[Sweep], results: Path) -> "Report":
    """The report of these sweeps, written."""
    from analysis.report import Asked, write

    asked = []
    for sweep in found:
        cells = sweep.asked(results)
        planned = {trial: s for trial, s in plan_of(sweep, results, slots=1).seconds.items() if not math.isnan(s)}
        ids = [cell.trial.id for cell in cells]
        asked.append(Asked(sweep.name, sweep.title, sweep.claims, ids, sweep.command, planned, sweep.note))
    return write(asked, results)
