"""Arguments and options that several verbs take."""

import shlex
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from parrots.store import READ, Store
from sweeps.how import store_option
from sweeps.narrow import Narrowing

sweep_argument = click.argument("sweep")
scale_option = click.option("--scale", help="One of the sweep's scales.  [default: its first]")
results_option = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default="results",
    envvar="PARROTS_RESULTS",
    show_default=True,
    help="Folder of records, reports and MLflow's store; also $PARROTS_RESULTS.",
)
notify_option = click.option(
    "--notify",
    multiple=True,
    metavar="URL",
    envvar="PARROTS_NOTIFY",
    help="Tell this address (apprise's kind) when it ends, and of repeated failure; also $PARROTS_NOTIFY.",
)


def stored(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb that reads results: of a store that is named, what they lack is fetched first."""

    @wraps(verb)
    def fetching(*args: Any, results: Path, store: str | None, **more: Any) -> Any:
        if store:
            there = Store(store, results)
            there.look()
            there.fetch(*READ)
        return verb(*args, results=results, **more)

    return store_option(fetching)


NARROWING = (
    click.option("--set", "axes", multiple=True, metavar="AXIS=VALUES", help="An axis takes these values, as lr=1e-2,1e-3."),
    click.option("--where", multiple=True, metavar="EXPRESSION", help="Cells of which this is true, as 'd_model <= 64'."),
    click.option("--seeds", default="", metavar="N|LIST", help="So many seeds, from 0; or these, as 0,5."),
    click.option("--max-trials", type=click.IntRange(min=1), help="The first so many cells."),
)


def narrowing_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb for a part of a sweep: the options that choose it reach the function as one argument, `narrowing`."""

    @wraps(verb)
    def narrowed(
        *args: Any, axes: tuple[str, ...], where: tuple[str, ...], seeds: str, max_trials: int | None, **more: Any
    ) -> Any:
        return verb(*args, narrowing=Narrowing(axes, where, seeds, max_trials), **more)

    for option in reversed(NARROWING):
        narrowed = option(narrowed)
    return narrowed


def again(
    sweep: str, scale: str | None, results: Path, narrowing: Narrowing, verb: str = "run", store: str | None = None
) -> str:
    """The command line that does this to a part of a sweep."""
    words = ["parrots", verb, sweep]
    words += ["--scale", scale] if scale else []
    words += ["--results", str(results)] if results != Path("results") else []
    words += ["--store", store] if store else []
    return shlex.join([*words, *narrowing.words()])
