"""Which trials are done, failed or missing: read off file names, so it is quick and there is nothing to keep in step."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from parrots.record import is_done
from sweeps.spec import Cell


@dataclass(frozen=True)
class Ledger:
    """What a results folder holds."""

    results: Path
    done: frozenset[str]
    """Ids of the trials that have a record, whatever sweep asked for it."""
    failures: dict[str, list[Path]]
    """The records of failed attempts by trial id, oldest first."""

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """The cells that a run would run: those that are not done, failed ones among them."""
        return [cell for cell in cells if self.state(cell) != "done"]

    def state(self, cell: Cell) -> str:
        """done, failed (tried, and no record) or missing: its trial, or what that is asked besides."""
        if cell.trial.id in self.done and (not cell.evaluations or is_done(cell, self.results)):
            return "done"
        return "failed" if cell.trial.id in self.failures else "missing"

    def only_asked(self, cell: Cell) -> bool:
        """Whether it lacks no more than what its trial is asked besides, of weights that are here."""
        trial_id = cell.trial.id
        return self.state(cell) != "done" and trial_id in self.done and weights_of(trial_id, self.results).exists()

    def attempts(self, trial_id: str) -> int:
        """How often it has failed."""
        return len(self.failures.get(trial_id, ()))


def read(results: Path) -> Ledger:
    """The ledger of a results folder; an absent one is empty."""
    done = frozenset(path.stem for path in (results / "records").glob("*.parquet"))
    failures: dict[str, list[Path]] = {}
    for path in sorted((results / "failures").glob("*.parquet"), key=lambda path: (len(path.name), path.name)):
        failures.setdefault(path.stem.partition("-")[0], []).append(path)
    return Ledger(results, done, failures)


def weights_of(trial_id: str, results: Path) -> Path:
    """Where the weights of a trial are, if they are kept; as parrots.training.weights has it, which imports torch."""
    return results / "weights" / f"{trial_id}.safetensors"


def sweeps(results: Path) -> list[str]:
    """The sweeps that were run into a results folder."""
    return sorted(path.parent.name for path in (results / "sweeps").glob("*/manifest.json"))
