"""`parrots gc`: what a results folder no longer needs. Records, evaluations, manifests, reports and MLflow's store all stay."""

import shutil
import time
from collections.abc import Iterator, Set
from pathlib import Path
from typing import NamedTuple

import click

from parrots.spec import Cell
from parrots.tasks.store import path_of as data_path
from parrots.tasks.task import SPLITS
from sweeps import ledger
from sweeps.guard import lock
from sweeps.say import columns, out
from sweeps.spec import load
from sweeps.verbs.options import results_option
from sweeps.verbs.plan import in_bytes

OLD_S = 3600.0


class Waste(NamedTuple):
    """Something that can go."""

    path: Path
    why: str
    size: int


@click.command()
@results_option
@click.option("--yes", is_flag=True, help="Delete without asking.")
def gc(results: Path, yes: bool) -> int:
    """Show what the results no longer need, and delete it once that is confirmed.

    Checkpoints of trials that have their record, Tune's folders of earlier runs, data and weights that no sweep names,
    attempts that `retry` forgot, and what was being written when something was killed. Of a store nothing is deleted: each run
    of its results takes out the checkpoints of trials that have their record.
    """
    if not results.is_dir():
        raise ValueError(f"no results folder {results}")
    with lock(results):
        found = sorted(set(waste(results)))
        if not found:
            out.print(f"nothing in {results} can go")
            return 0
        columns(("what", "why", "size"), [(str(one.path), one.why, in_bytes(one.size)) for one in found], left=("what", "why"))
        out.print(f"{len(found)} in all, {in_bytes(sum(one.size for one in found))}")
        if not yes and not click.confirm("delete them?"):
            out.print("nothing was deleted")
            return 0
        for one in found:
            if one.path.is_dir() and not one.path.is_symlink():
                shutil.rmtree(one.path)
            else:
                one.path.unlink(missing_ok=True)
        out.print("deleted")
    return 0


def waste(results: Path) -> Iterator[Waste]:
    """Everything that can go. ValueError if a manifest cannot be read, since it may name what would be deleted."""
    cells = [cell for name in ledger.sweeps(results) for cell in load(name, results).asked(results)]
    done = ledger.read(results).done
    for folder in ("checkpoints", "train"):
        for path in sorted((results / folder).glob("*")):
            if path.name.partition("-")[0] in done:
                yield _of(path, "of a trial that has its record")
    yield from stacks(results, done)
    yield from earlier_runs(results)
    yield from unnamed(results, cells)
    for path in sorted((results / "failures" / "retried").glob("*")):
        yield _of(path, "an attempt before a retry")
    for path in sorted(results.rglob(".*.tmp")):
        if time.time() - path.stat().st_mtime > OLD_S:
            yield _of(path, "was never finished")


def stacks(results: Path, done: Set[str]) -> Iterator[Waste]:
    """Checkpoints of trials side by side that all have their records."""
    for path in sorted((results / "checkpoints").glob("stack-*")):
        from parrots.training.stacked import trials_of  # brings torch

        if (trials := trials_of(path)) and trials <= done:
            yield _of(path, "of trials that have their records")


def earlier_runs(results: Path) -> Iterator[Waste]:
    """Tune's folders SWEEP-DATE-TIME-WORKERS, but for the newest of each sweep and number of workers."""
    newest: dict[tuple[str, str], Path] = {}
    for path in sorted(path for path in (results / "tune").glob("*-*-*-*") if path.is_dir()):
        sweep, _, _, workers = path.name.rsplit("-", 3)
        if earlier := newest.get((sweep, workers)):
            yield _of(earlier, "of an earlier run")
        newest[sweep, workers] = path


def unnamed(results: Path, cells: list[Cell]) -> Iterator[Waste]:
    """Data and weights that no sweep here asks for."""
    asked = [cell.trial.task for cell in cells] + [one.task for cell in cells for one in cell.evaluations]
    data = {data_path(task, split, results / "data").name for task in set(asked) for split in SPLITS}
    for path in sorted((results / "data").glob("*.arrow*")):
        if path.name.removesuffix(".sha256") not in data:
            yield _of(path, "no sweep here names these data")
    trials = {cell.trial.id for cell in cells}
    for path in sorted((results / "weights").glob("*.safetensors")):
        if path.stem not in trials:
            yield _of(path, "no sweep here names this trial")


def _of(path: Path, why: str) -> Waste:
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return Waste(path, why, sum(one.lstat().st_size for one in inside if not one.is_dir()))
