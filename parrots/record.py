"""The table that all rooms share: what a trial leaves, one row a measurement, in one Parquet file a trial.

A record is written last and atomically, so that a trial is done exactly when its record is there. `records/` holds the
trials that have a result, `evaluations/` what their models were asked besides; `failures/` holds the attempts that have
none, with the reason, never a score of zero.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from parrots.atomic import atomic
from parrots.frozen import canonical_json, first_line
from parrots.measurement import Measurement
from parrots.models.config import GROUPS
from parrots.provenance import commit, versions
from parrots.spec import Cell, Evaluation, Trial
from parrots.store import Store

Status = Literal["done", "diverged", "oom", "failed", "stopped"]
"""done and diverged are results; oom, failed (infrastructure or a bug) and stopped (early, by a rule) are not."""
STATUSES: tuple[Status, ...] = get_args(Status)
RESULTS = ("done", "diverged")
SETTLED_NS = 10**10  # by which a file server's clock may be behind ours, and more: doctor lets pass half of it

SCHEMA = pa.schema(
    [
        ("sweep", pa.string()),
        ("trial_id", pa.string()),
        ("name", pa.string()),
        ("trial", pa.string()),  # canonical JSON: everything that was declared
        ("evaluation", pa.string()),  # its name, or nothing for what the trial itself left
        ("evaluated", pa.string()),  # canonical JSON of the evaluation, or nothing
        ("task", pa.string()),
        ("task_version", pa.int32()),
        ("seed", pa.int64()),
        ("N_total", pa.int64()),  # without embedding and head, as is N_active
        ("N_active", pa.int64()),
        *((f"total_{group}", pa.int64()) for group in GROUPS),
        *((f"active_{group}", pa.int64()) for group in GROUPS),
        ("tokens", pa.int64()),  # D that was read, which for an ended trial is less than was declared
        ("flops", pa.float64()),  # C of those tokens
        ("status", pa.string()),
        ("reason", pa.string()),
        ("attempt", pa.int32()),
        ("workers", pa.int32()),
        ("started", pa.timestamp("us", tz="UTC")),
        ("wall_s", pa.float64()),  # data, training, evaluation
        ("train_s", pa.float64()),  # the training loop
        ("device_s", pa.float64()),  # train_s times workers
        ("commit", pa.string()),
        ("versions", pa.map_(pa.string(), pa.string())),
        ("hardware", pa.string()),
        ("metric", pa.string()),  # null in the one row of a record that measured nothing
        ("step", pa.int64()),
        ("value", pa.float64()),
        ("stderr", pa.float64()),
        ("n", pa.int64()),
        ("failure", pa.string()),  # oom, diverged, infrastructure, bug, or nothing
        ("stacked", pa.int32()),  # trials that were trained side by side with this one, itself included
        ("early_stop", pa.string()),  # the rule by which trials of its sweep could be ended early, or nothing
        ("weights_sha256", pa.string()),  # of the file of final weights, or nothing where none was kept
    ]
)


@dataclass(frozen=True)
class Record:
    """One execution of one trial."""

    trial: Trial
    status: Status
    measurements: Sequence[Measurement]
    started: datetime
    """UTC."""
    wall_s: float
    hardware: str
    reason: str = ""
    sweep: str = ""
    attempt: int = 1
    workers: int = 1
    steps: int = 0
    train_s: float = 0.0
    failure: str = ""
    """The class of failure: diverged, or that of an attempt without a result (parrots/failures.py)."""
    stacked: int = 1
    """Trials that were trained side by side with this one, itself included."""
    early_stop: str = ""
    """The rule by which trials of its sweep could be ended early: curves of such a sweep are those of survivors."""
    weights_sha256: str = ""
    """Of the file of final weights, if one was kept."""
    evaluation: Evaluation | None = None
    """What the trained model was asked besides; nothing for the trial itself."""

    def table(self) -> pa.Table:
        """The rows of this record, as in `SCHEMA`."""
        trial, total, active = self.trial, self.trial.total, self.trial.active
        share = self.steps / trial.training.steps
        about = {
            "sweep": self.sweep,
            "trial_id": trial.id,
            "name": trial.name,
            "trial": canonical_json(trial),
            "evaluation": self.evaluation.name if self.evaluation else "",
            "evaluated": canonical_json(self.evaluation) if self.evaluation else "",
            "task": trial.task.kind,
            "task_version": trial.task.version,
            "seed": trial.seed,
            "N_total": total.N,
            "N_active": active.N,
            **{f"total_{k}": v for k, v in asdict(total).items()},
            **{f"active_{k}": v for k, v in asdict(active).items()},
            "tokens": round(trial.tokens * share),
            "flops": trial.flops * share,
            "status": self.status,
            "reason": self.reason,
            "attempt": self.attempt,
            "workers": self.workers,
            "started": self.started,
            "wall_s": self.wall_s,
            "train_s": self.train_s,
            "device_s": self.train_s * self.workers,
            "commit": commit(),
            "versions": list(versions().items()),
            "hardware": self.hardware,
            "failure": "diverged" if self.status == "diverged" else self.failure,
            "stacked": self.stacked,
            "early_stop": self.early_stop,
            "weights_sha256": self.weights_sha256,
        }
        rows = [about | asdict(m) for m in self.measurements] or [about]
        return pa.Table.from_pylist(rows, SCHEMA)

    def write(self, results: Path, store: Store | None = None) -> Path:
        """Write this record into a results folder, whole or not at all; returns the file.

        store: beside the folder, where it goes first, so that what counts here is there.
        """
        if self.status not in RESULTS:
            path = results / "failures" / f"{self.trial.id}-{self.attempt}.parquet"
        elif self.evaluation:
            path = evaluation_path(self.evaluation.of(self.trial), results)
        else:
            path = path_of(self.trial.id, results)
        with atomic(path) as sink:
            pq.write_table(self.table(), content := pa.BufferOutputStream())
            if store:
                store.put(path, content.getvalue())
            sink.write(content.getvalue())
        return path


def path_of(trial_id: str, results: Path) -> Path:
    """Where the record of a trial that has a result is."""
    return results / "records" / f"{trial_id}.parquet"


def evaluation_path(evaluation_id: str, results: Path) -> Path:
    """Where the record of what a trial's model was asked besides is."""
    return results / "evaluations" / f"{evaluation_id}.parquet"


def is_done(cell: Cell, results: Path) -> bool:
    """Whether everything that a cell leaves is there; a model that diverged is asked nothing more."""
    path = path_of(cell.trial.id, results)
    if not path.exists():
        return False
    if all(evaluation_path(one.of(cell.trial), results).exists() for one in cell.evaluations):
        return True
    return read([path])["status"][0].as_py() == "diverged"


def evaluations_of(trial_id: str, results: Path) -> list[Path]:
    """The records of what a trial's model was asked besides."""
    return _of_trial(trial_id, results / "evaluations")


def failures_of(trial_id: str, results: Path) -> list[Path]:
    """The records of one trial's failed attempts, oldest first."""
    return sorted(_of_trial(trial_id, results / "failures"), key=lambda path: (len(path.name), path.name))


def _of_trial(trial_id: str, folder: Path) -> list[Path]:
    """Files of a folder by the trial in their names: of 10,000 trials it is not listed as many times, unless it changes."""
    try:
        changed = folder.stat().st_mtime_ns
    except FileNotFoundError:
        return []
    settled = time.time_ns() - changed > SETTLED_NS  # or one more may come within the same tick of its clock
    listed = (_listed if settled else _listed.__wrapped__)(folder, changed)
    return [folder / name for name in listed.get(trial_id, ())]


@lru_cache(maxsize=8)
def _listed(folder: Path, changed: int) -> dict[str, list[str]]:
    """The names of a folder's records by trial."""
    found: dict[str, list[str]] = {}
    for name in sorted(path.name for path in folder.iterdir()):
        trial_id, _, rest = name.partition("-")
        if rest.endswith(".parquet"):
            found.setdefault(trial_id, []).append(name)
    return found


def weights_sha256(trial_id: str, results: Path) -> str:
    """The SHA-256 that a trial's final weights have to have by its record, or nothing where it kept none."""
    return str(read([path_of(trial_id, results)], ["weights_sha256"])["weights_sha256"][0].as_py())


def read(paths: Iterable[Path], columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of these records under one another, all columns or those named. ValueError names a file that is no record."""
    schema = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
    tables = []
    for path in paths:
        try:
            with path.open("rb") as source:
                table = pq.ParquetFile(source).read(columns, use_threads=False)  # small: threads cost more
            if columns is not None:
                table = table.select([name for name in columns if name in table.schema.names])
            if table.schema != schema or not table.num_rows:
                raise pa.ArrowInvalid(f"{table.num_rows} rows, and columns as a record's: {table.schema == schema}")
        except (pa.ArrowException, OSError) as error:
            why = first_line(error)
            raise ValueError(f"{path}: not a record ({why}); delete it, and the next run makes it again") from error
        tables.append(table)
    return pa.concat_tables(tables) if tables else schema.empty_table()
