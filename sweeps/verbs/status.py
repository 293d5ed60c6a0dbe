"""Verbs about a sweep that was run or is running: how far it is, which cells to try again, and to end it."""

import os
import platform
import signal
import time
from collections import Counter
from pathlib import Path

import click

from parrots.record import evaluation_path, is_done, read
from parrots.spec import Cell
from parrots.store import Store
from sweeps import index, ledger, stopping
from sweeps.course import fetched, interrupt, run_found
from sweeps.guard import holder, lock, writable
from sweeps.how import How, how_options
from sweeps.index import Entry, Index
from sweeps.narrow import Narrowing
from sweeps.notify import Teller
from sweeps.say import TOLD, columns, out, say_failed
from sweeps.spec import Sweep, load, manifest_path
from sweeps.verbs.options import narrowing_options, notify_option, results_option, stored

STATES = ("done", "failed", "missing")


@click.command()
@click.argument("sweep", required=False)
@results_option
@stored
@narrowing_options
@click.option("--all", "everything", is_flag=True, help=f"Tell of every failed cell; otherwise of {TOLD} at most.")
def status(sweep: str | None, results: Path, narrowing: Narrowing, everything: bool) -> None:
    """Show how many cells of SWEEP, as it was last run, are done, failed or missing, and why the failed ones failed.

    Without SWEEP: of every sweep that was run into the results. Also while one runs.
    """
    names = [sweep] if sweep else ledger.sweeps(results)
    if not names:
        raise ValueError(f"no sweep was run into {results}; `parrots run SWEEP` does it")
    books = ledger.read(results)
    at_work = holder(results)
    if at_work:
        out.print(f"a run is at work here (process {at_work.pid} on {at_work.host})")
    if not sweep:
        of_all = [entries(name, results, Narrowing()) for name in names]
        columns(
            ("sweep", "scale", *STATES), [(f.sweep, f.scale, *counts(f.entries, books)) for f in of_all], ("sweep", "scale")
        )
        return
    found = entries(names[0], results, narrowing)
    out.print(f"{found.sweep} ({found.scale}): {found.title}")
    tasks = dict.fromkeys(one.task for one in found.entries)
    parts = [(task, *counts([one for one in found.entries if one.task == task], books)) for task in tasks]
    columns(("task", *STATES), parts, left=("task",))
    failed = [one for one in found.entries if one.trial_id in books.failures and state(one, books) == "failed"]
    say_failed(failed, found.command, books, len(failed) if everything else TOLD)


def counts(cells: list[Entry], books: ledger.Ledger) -> list[str]:
    """How many of these are in each of STATES."""
    found = Counter(state(one, books) for one in cells)
    return [f"{found[kind]:,}" for kind in STATES]


def entries(name: str, results: Path, narrowing: Narrowing) -> Index:
    """The cells of a sweep as it was last run, from the index if that says all."""
    if narrowing == Narrowing() and not name.endswith(".json"):
        found = index.read(manifest_path(Path(name).stem, results))
        if found and not found.searches:
            return found
    whole = narrowing.of(load(name, results))
    cells = [index.entry(cell) for cell in whole.asked(results)]
    return Index(whole.name, whole.scale, whole.title, whole.command, False, cells)


def state(one: Entry, books: ledger.Ledger) -> str:
    """done, failed or missing, as `Ledger.state` has it for a cell."""
    if one.trial_id in books.done:
        if all(evaluation_path(each, books.results).exists() for each in one.evaluations):
            return "done"
        if read([books.results / "records" / f"{one.trial_id}.parquet"])["status"][0].as_py() == "diverged":
            return "done"
    return "failed" if one.trial_id in books.failures else "missing"


@click.command()
@click.argument("sweep")
@results_option
@click.option("--status", "wanted", default="oom,failed", show_default=True, help="How the last attempt of a cell ended.")
@how_options
@notify_option
def retry(sweep: str, results: Path, wanted: str, how: How, notify: tuple[str, ...]) -> int:
    """Run those cells of SWEEP again whose last attempt ended so, and no others. Its earlier attempts count no more.

    Those that --early-stop has ended are `stopped`; without that option they are trained to their end.
    """
    kinds = {kind.strip() for kind in wanted.split(",")}
    if not kinds <= {"oom", "failed", "infrastructure", "bug", "stopped"}:
        ways = "oom, failed (any other), infrastructure or bug; stopped (early, by a rule)"
        raise ValueError(f"--status {wanted}: {ways}; diverged is a result")
    signal.signal(signal.SIGTERM, interrupt)
    tell = Teller(sweep, notify)
    writable(results)
    with lock(results):
        fetched(how, results)
        found = load(sweep, results)
        again = chosen(found, results, kinds)
        if not again:
            out.print(f"no cell of {found.name} has ended with {' or '.join(sorted(kinds))}")
            return 0
        forget(again, results, how.stored(results))
        return run_found(found, results, how, only={cell.trial.id for cell in again}, tell=tell)


def chosen(found: Sweep, results: Path, kinds: set[str]) -> list[Cell]:
    """The cells that are not done and whose last attempt ended in one of these ways."""
    books = ledger.read(results)
    failed = [cell for cell in found.asked(results) if not is_done(cell, results) and cell.trial.id in books.failures]
    last = {cell.trial.id: read(books.failures[cell.trial.id][-1:]) for cell in failed}
    return [cell for cell in failed if kinds & {last[cell.trial.id][name][0].as_py() for name in ("status", "failure")}]


def forget(cells: list[Cell], results: Path, store: Store | None = None) -> None:
    """Put the records of failed attempts where they are kept, and count no more."""
    folder = results / "failures" / "retried"
    folder.mkdir(exist_ok=True)
    when = time.strftime("%Y%m%d-%H%M%S")
    for path in (path for cell in cells for path in ledger.read(results).failures[cell.trial.id]):
        kept = path.rename(folder / f"{path.stem}-{when}.parquet")
        if store:
            store.put(kept)
            store.delete(path)


@click.command()
@results_option
@click.option("--wait", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds until it has ended.")
def stop(results: Path, wait: float) -> int:
    """End the run that is at work in the results: trials write a checkpoint, and the next run goes on from there."""
    at_work = holder(results)
    if at_work is None:
        raise ValueError(f"no run is at work in {results}")
    if at_work.host == platform.node() and at_work.pid:
        os.kill(at_work.pid, signal.SIGTERM)
    else:
        stopping.request(results, f"`parrots stop` on {platform.node()}")
    until = time.monotonic() + wait
    while holder(results) == at_work:
        if time.monotonic() > until:
            out.print(f"process {at_work.pid} has not ended after {wait:.0f} s; it was asked to")
            return 1
        time.sleep(0.1)
    out.print("stopped; finished records and checkpoints stay, and the next `parrots run` goes on from here")
    return 0
