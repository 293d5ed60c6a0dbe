"""One trial of a results folder, found by the first characters of its id, and its attempts in order."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from parrots.frozen import one_line
from parrots.record import evaluations_of, path_of, read
from parrots.spec import Evaluation, Trial
from sweeps import ledger


@dataclass(frozen=True)
class Attempt:
    """What one record says beside what was measured."""

    path: Path
    about: dict[str, Any]
    """The columns of its first row."""
    measured: list[dict[str, Any]]
    """metric, step, value, stderr and n of each row that has one."""


def one(prefix: str, results: Path, failed: bool = False) -> str:
    """The id that begins so, of the trials that have a record, or with `failed` of those that only failed too."""
    books = ledger.read(results)
    known = books.done | (books.failures.keys() if failed else set())
    found = sorted(trial_id for trial_id in known if trial_id.startswith(prefix))
    if len(found) != 1:
        raise ValueError(f"{len(found)} trials in {results} begin with {prefix!r}; one has to")
    return found[0]


def trial(trial_id: str, results: Path) -> Trial:
    """What was declared of a trial that has a record."""
    return Trial.model_validate_json(read([path_of(trial_id, results)])["trial"][0].as_py())


def attempts(trial_id: str, results: Path) -> list[Attempt]:
    """Every record of a trial: those of failed attempts, oldest first, then that which it left."""
    paths = [*ledger.read(results).failures.get(trial_id, ()), path_of(trial_id, results)]
    return [attempt(path) for path in paths if path.exists()]


def evaluations(trial_id: str, results: Path) -> list[Evaluation]:
    """What a trial's model was asked besides. ValueError names a record whose evaluation is none of this version."""
    found = []
    for path in evaluations_of(trial_id, results):
        try:
            found.append(Evaluation.model_validate_json(attempt(path).about["evaluated"]))
        except ValidationError as error:
            raise ValueError(f"{path}: {one_line(error)}") from error
    return found


def attempt(path: Path) -> Attempt:
    """A record file. ValueError if it is none."""
    rows = read([path]).to_pylist()
    columns = ("metric", "step", "value", "stderr", "n")
    measured = [{name: row[name] for name in columns} for row in rows if row["metric"] is not None]
    return Attempt(path, {name: value for name, value in rows[0].items() if name not in columns}, measured)
