"""Runs that a verb is told of: a sweep's records, a results folder, or anybody's table."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeps.spec import load

if TYPE_CHECKING:
    import pandas as pd

    from analysis.claims import Claim

ENDINGS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")


def pairs(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE, several times, as a dictionary."""
    found = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise click.BadParameter(f"{text!r} is not {option.metavar}")
        found[name.strip()] = value.strip()
    return found


map_option = click.option(
    "--map", "columns", multiple=True, callback=pairs, metavar="NAME=COLUMN", help="Or NAME='an expression of columns'."
)
filter_option = click.option(
    "--filter", "where", default="", metavar="EXPRESSION", help="Runs to take, as in 'step == 249000 and k == 1'."
)


def table_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb that also takes anybody's table: which columns are ours, and which runs to take."""
    return map_option(filter_option(verb))


def is_table(source: str) -> bool:
    """Whether this names a file of runs or a folder of results, and not a sweep."""
    path = Path(source)
    return path.suffix.lower() in ENDINGS or (path.is_dir() and (path / "records").is_dir())


def table_of(source: str, columns: dict[str, str], where: str) -> "pd.DataFrame":
    """The runs of a table, described and with the means of benchmarks."""
    import analysis
    from analysis.categories import with_categories
    from analysis.described import described

    return with_categories(described(analysis.load(source, columns, where)))


def runs_of(source: str, columns: dict[str, str], where: str, results: Path) -> tuple["pd.DataFrame", tuple["Claim", ...]]:
    """The runs of a table or of a sweep's records, and the claims that the sweep declares."""
    if is_table(source):
        return table_of(source, columns, where), ()
    from analysis.categories import with_categories
    from analysis.described import with_derived
    from analysis.table import load as records

    sweep = load(source, results)
    if columns or where:
        raise ValueError(f"{source} is a sweep; --map and --filter are for tables ({', '.join(ENDINGS)})")
    frame = with_categories(with_derived(records(results, [cell.trial.id for cell in sweep.asked(results)])))
    if not (frame["status"] == "done").any():
        raise ValueError(
            f"{sweep.name}: no finished trial in {results}; `{sweep.command or f'parrots run {source}'}` makes them"
        )
    return frame, sweep.claims


def words(verb: str, source: str, columns: dict[str, str], where: str, *more: str) -> str:
    """The command line that asks this again."""
    said = ["parrots", verb, source, *more]
    for name, column in columns.items():
        said += ["--map", f"{name}={column}"]
    return shlex.join([*said, *(["--filter", where] if where else [])])
