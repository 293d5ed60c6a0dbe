"""The course of a run: what is missing of a sweep is run on Ray and mirrored to MLflow; then the report, and who is told."""

import sys
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from parrots.frozen import first_line
from parrots.record import path_of, read
from parrots.spec import Cell
from parrots.store import Store
from sweeps import index, ledger, run_manifest
from sweeps.devices import slots_here
from sweeps.how import How
from sweeps.notify import Teller
from sweeps.plan import longest_first, plan_of
from sweeps.say import out, say, say_failed, summary
from sweeps.spec import Sweep
from sweeps.verbs.report import write_report
from sweeps.watch import Watch


def run_found(found: Sweep, results: Path, how: How, only: Collection[str] | None = None, tell: Teller | None = None) -> int:
    """Run what is missing of a sweep into results that are ours; returns the exit code. only: ids of the trials to run.

    With a store, what is there has been fetched.
    """
    from sweeps.tracking import Mirror

    store = how.stored(results)
    before, began, tell = ledger.read(results), datetime.now(UTC), tell or Teller(found.name)
    slots = how.slots or slots_here()
    made = plan_of(found, results, slots)
    missing = longest_first([cell for cell in before.missing(made.cells) if only is None or cell.trial.id in only], made)
    manifest = found.manifest(results)
    if store:
        store.put(manifest)
    out.print("\n".join(filter(None, (f"{found.name}: {found.title}", found.note, summary(made)))))
    with Mirror(results) as mirror:
        for cell in made.cells:
            mirror.add(cell.trial.id, found.name)
        if missing:
            from sweeps.run import run as run_cells

            def following() -> list[Cell]:
                """What a search needs after the cells that have ended; one that failed in this run is not tried again."""
                now = plan_of(found, results, slots)
                more = [cell for cell in ledger.read(results).missing(now.cells) if cell.trial.id not in watch.cells]
                more = more if only is None else []
                watch.expect(more, now)
                return longest_first(more, now)

            # bound to the stream as it is now: while Ray runs, what it and its libraries print goes to a log
            terminal = Console(file=sys.stdout, highlight=False, markup=False)

            def ended(trial_id: str) -> None:
                mirror.add(trial_id, found.name)
                tell.attempted(watch.cells[trial_id].trial, results)

            try:
                try:
                    with Watch(missing, made, terminal, ended) as watch:
                        run_cells(found, missing, results, watch, how, following)
                finally:
                    told = run_manifest.write(found, missing, results, began)
                    if store:
                        sent(told, store)
            except KeyboardInterrupt as asked:
                tell.stopped(str(asked), Counter(ledger.read(results).state(cell) for cell in found.asked(results)))
                raise
        after, cells = ledger.read(results), found.asked(results)
        if any(after.state(cell) == "done" for cell in cells):
            written = write_report([found], results)
            verdicts = {decision.claim.name: decision.headline for decision in written.decisions}
            mirror.finish(found.name, described(found, verdicts), verdicts, written.html.parent)
            say(written)
    if mirror.problem:
        out.print(f"MLflow lacks some of this ({mirror.problem}); `{found.command}` again adds what is missing")
    say_failed([index.entry(cell) for cell in cells if after.state(cell) == "failed"], found.command, after)
    tell.ended(Counter(after.state(cell) for cell in cells))
    if tell.problem:
        out.print(tell.problem)
    return 1 if after.missing(cells) else 0


def sent(manifest: Path, store: Store) -> None:
    """Have the manifest of a run that is over in the store too; one that is away is not waited for, and this is said."""
    try:
        store.impatient.put(manifest)
    except OSError as error:
        out.print(f"{manifest} is here alone: {first_line(error)}")


def fetched(how: How, results: Path) -> None:
    """Have what a store holds here, and there what is here. ValueError, before anything runs, for one that cannot be used."""
    if store := how.stored(results):
        store.check()
        store.exchange()


def readable(found: Sweep, results: Path) -> None:
    """ValueError for a record of this sweep that cannot be read."""
    done = ledger.read(results).done
    read(path_of(cell.trial.id, results) for cell in found.asked(results) if cell.trial.id in done)


def described(found: Sweep, verdicts: Mapping[str, str]) -> str:
    """A sweep in Markdown: its title and note, and each claim with its verdict and how that is reached."""
    claims = (f"- **{one.statement}**\n  {verdicts.get(one.name, '')}\n  {one.test}" for one in found.claims)
    note = ["", f"**{found.note}**"] * bool(found.note)
    return "\n".join([found.title, *note, "", *claims, "", f"`{found.command}`"])


def interrupt(*_: object) -> None:
    """End as Ctrl-C does: what a scheduler or a container sends."""
    raise KeyboardInterrupt
