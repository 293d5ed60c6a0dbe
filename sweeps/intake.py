"""Records that were made elsewhere, looked at before they are believed: every column that follows from another is made again.

A file that says what it should is taken as it is; one that does not is refused with the first thing that is wrong with it.
"""

import io
import math
import re
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from parrots.frozen import canonical_json, first_line, one_line
from parrots.record import RESULTS, SCHEMA, STATUSES
from parrots.spec import Evaluation, Trial

FOLDERS = ("records", "evaluations", "failures")
LARGEST = 64 * 2**20
"""Bytes of a file; a record of a hundred thousand rows is smaller."""
UNPACKED = 128 * 2**20
"""Bytes of its columns before they were compressed, as it says, and of each batch as it is."""
CODECS = ("SNAPPY", "UNCOMPRESSED")
"""Ours, and none; the first makes 22 bytes of one at most, others thousands."""
MEMORY = 3 * 2**30
"""That reading it may take, whatever it says."""
ROWS = 1_000_000
NAME = 100  # bytes of a metric's
VERSIONS = 100  # of packages a row
AT_ONCE = 10_000  # rows
MEASURED = ("metric", "step", "value", "stderr", "n")
ABOUT = tuple(name for name in SCHEMA.names if name not in MEASURED)
TEXTS = [field.name for field in SCHEMA if field.type == pa.string()] + ["versions.key_value.key", "versions.key_value.value"]
FORMULA = ("=", "+", "-", "@")
"""What a cell of a spreadsheet computes begins so; reports write tables."""
CLASSES = ("", "oom", "diverged", "infrastructure", "bug")
SHARES = ("exact_match", "accuracy")


class Taken(NamedTuple):
    """A file that says what it should."""

    path: Path
    place: Path
    """Where it belongs, below a results folder."""
    content: bytes
    trial: Trial
    weights_sha256: str


class RefusedError(ValueError):
    """What is wrong with a file."""


def files(folder: Path) -> Iterator[Path]:
    """What may be records in a results folder, in order."""
    for name in FOLDERS:
        yield from sorted((folder / name).glob("*.parquet"))


def looked_at(path: Path) -> Taken:
    """A record file, read once and checked. RefusedError says in a line what is wrong."""
    content = _content(path)
    about, rows = _rows(content)
    _check_text(about)
    trial = _trial(about)
    evaluation = _evaluation(about, trial)
    _check_about(about, trial, evaluation)
    _check_measured(rows, about, evaluation.task.metrics if evaluation else trial.task.metrics, trial)
    folder, name = _place(about, trial, evaluation)
    _require(path.parent.name == folder, f"status {about['status']!r} belongs into {folder}")
    _require(path.name == name, f"its trial's file is called {name}")
    return Taken(path, Path(folder) / name, content, trial, about["weights_sha256"])


def _require(holds: bool, said: str) -> None:
    if not holds:
        raise RefusedError(said)


def _content(path: Path) -> bytes:
    info = path.lstat()
    _require(stat.S_ISREG(info.st_mode), "not a plain file")
    _require(info.st_size <= LARGEST, f"{info.st_size:,} bytes; at most {LARGEST:,}")
    return path.read_bytes()


def _rows(content: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What all rows say alike, and what was measured in each.

    Pages say nothing true of their size, and repeat a text in a byte: texts are read as dictionaries, which have it once, and
    what all rows have to say alike is made from one.
    """
    about: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    try:
        plain = pq.ParquetFile(io.BytesIO(content))
        meta = plain.metadata
        unpacked = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
        _require(0 < meta.num_rows <= ROWS and unpacked <= UNPACKED, f"{meta.num_rows:,} rows, {unpacked:,} bytes unpacked")
        group = meta.row_group(0)
        codecs = {group.column(i).compression for i in range(group.num_columns)}
        _require(meta.num_row_groups == 1 and codecs <= set(CODECS), "written otherwise than records are")
        _require(plain.schema_arrow == SCHEMA, "columns other than a record's")
        file = pq.ParquetFile(io.BytesIO(content), metadata=meta, read_dictionary=TEXTS)
        with _memory(MEMORY):
            for batch in file.iter_batches(AT_ONCE, use_threads=False):
                _require(batch.nbytes <= UNPACKED, f"{batch.nbytes:,} bytes unpacked")
                versions = len(batch["versions"].keys)
                _require(versions <= VERSIONS * len(batch), f"{versions:,} versions")
                same = batch.select(ABOUT)
                (first,) = same.slice(0, 1).to_pylist()
                about = about or first
                unlike = first != about or not same.slice(1).equals(same.slice(0, len(same) - 1))
                _require(not unlike or _has_nan(first), "its rows are of several trials or runs")  # nan is told below
                longest = pc.max(pc.binary_length(batch["metric"].dictionary)).as_py() or 0
                _require(longest <= NAME, f"metric: {longest:,} bytes are no name")
                rows += batch.select(MEASURED).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise RefusedError(f"not Parquet ({first_line(error)})") from error
    return about, rows


def _has_nan(row: dict[str, Any]) -> bool:
    return any(isinstance(value, float) and math.isnan(value) for value in row.values())


@contextmanager
def _memory(more: int) -> Iterator[None]:
    """MemoryError for who takes more than this; where the system says how much it is by now, as Linux does."""
    said = Path("/proc/self/statm")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if not said.exists() or soft != resource.RLIM_INFINITY:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (int(said.read_text().split()[0]) * resource.getpagesize() + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _check_text(about: dict[str, Any]) -> None:
    for name, value in about.items():
        _require(value is not None, f"{name} is missing")
        for text in (
            [value] if isinstance(value, str) else [part for pair in value for part in pair] if name == "versions" else []
        ):
            _require(len(text) <= 1_000_000, f"{name}: {len(text):,} characters")
            lines = "\n\t" if name == "reason" else ""
            strange = next((c for c in text if not c.isprintable() and c not in lines), None)
            _require(strange is None, f"{name}: the character {strange!r}, which a terminal may obey")
            begins = text.lstrip()[:1]
            _require(begins not in FORMULA, f"{name}: begins with {begins!r}, which a spreadsheet may obey")
    _require(bool(re.fullmatch(r"(\w[\w.-]*)?", about["sweep"], re.ASCII)), f"sweep={about['sweep']!r} is no name")
    _require(bool(re.fullmatch("([0-9a-f]{64})?", about["weights_sha256"])), "weights_sha256: not a SHA-256")
    _require(bool(re.fullmatch(r"[0-9a-f]{0,64}\+?", about["commit"])), f"commit={about['commit'][:50]!r} is none")


def _trial(about: dict[str, Any]) -> Trial:
    try:
        trial = Trial.model_validate_json(about["trial"])
    except ValidationError as error:
        raise RefusedError(f"trial: {one_line(error)}") from error
    _require(canonical_json(trial) == about["trial"], "trial: not as this version writes it")
    _require(trial.task.version == about["task_version"], f"task_version={about['task_version']}: is {trial.task.version} here")
    _require(trial.id == about["trial_id"], f"trial_id={about['trial_id']!r}: that trial's is {trial.id}")
    return trial


def _evaluation(about: dict[str, Any], trial: Trial) -> Evaluation | None:
    if not about["evaluated"]:
        _require(not about["evaluation"], "evaluation: a name, and nothing that was evaluated")
        return None
    try:
        evaluation = Evaluation.model_validate_json(about["evaluated"])
    except ValidationError as error:
        raise RefusedError(f"evaluated: {one_line(error)}") from error
    _require(canonical_json(evaluation) == about["evaluated"], "evaluated: not as this version writes it")
    _require(evaluation.name == about["evaluation"], f"evaluation={about['evaluation']!r}: its name is {evaluation.name!r}")
    return evaluation


def _check_about(about: dict[str, Any], trial: Trial, evaluation: Evaluation | None) -> None:
    """Columns that follow from the trial, and ranges of those that do not."""
    follow: dict[str, Any] = {"name": trial.name, "task": trial.task.kind, "seed": trial.seed}
    follow |= {"N_total": trial.total.N, "N_active": trial.active.N}
    follow |= {f"total_{group}": count for group, count in asdict(trial.total).items()}
    follow |= {f"active_{group}": count for group, count in asdict(trial.active).items()}
    for name, value in follow.items():
        _require(about[name] == value, f"{name}={about[name]!r}: that trial's is {value!r}")
    _require(about["status"] in STATUSES, f"status={about['status']!r}: one of {', '.join(STATUSES)}")
    _require(about["failure"] in CLASSES, f"failure={about['failure']!r}: one of {', '.join(filter(None, CLASSES))}")
    counted = all(about[name] >= 1 for name in ("attempt", "workers", "stacked"))
    _require(counted, "attempt, workers and stacked begin at 1")
    for name in ("wall_s", "train_s", "device_s", "flops"):
        _require(math.isfinite(about[name]) and about[name] >= 0, f"{name}={about[name]}: a finite number, not negative")
    _require(0 <= about["tokens"] <= trial.tokens, f"tokens={about['tokens']:,}: at most {trial.tokens:,}")
    share = about["tokens"] / trial.tokens
    _require(
        math.isclose(about["flops"], trial.flops * share, rel_tol=1e-3, abs_tol=1), f"flops={about['flops']}: of other tokens"
    )
    if about["status"] == "done":
        _require(share == 1, f"tokens={about['tokens']:,}: a trial that is done read {trial.tokens:,}")
    _require(about["started"] <= datetime.now(UTC) + timedelta(days=1), f"started={about['started']}: has not come yet")
    _require(evaluation is None or about["status"] == "done", "an evaluation of a trial that is not done")
    _require(about["status"] != "stopped" or bool(about["early_stop"]), "status 'stopped' without the rule that ended it")


def _check_measured(rows: list[dict[str, Any]], about: dict[str, Any], metrics: tuple[str, ...], trial: Trial) -> None:
    measured = [row for row in rows if row["metric"] is not None]
    if about["status"] not in RESULTS:
        _require(not measured, f"status {about['status']!r} with scores")
        _require(bool(about["reason"]), f"status {about['status']!r} without a reason")
        return
    seen = {(row["metric"], row["step"]) for row in measured}
    _require(len(seen) == len(rows), "a metric twice at one step, or a row without one")
    for row in measured:
        what = f"{row['metric']} at step {row['step']}"
        _require(bool(re.fullmatch(r"[\w./-]+", row["metric"], re.ASCII)), f"metric={row['metric'][:40]!r} is no name")
        _require(row["step"] is not None and 0 <= row["step"] <= trial.training.steps, f"{what}: not of this training")
        _require(row["n"] is not None and row["n"] >= 1, f"{what}: n={row['n']}")
        value, stderr = row["value"], row["stderr"]
        last = about["status"] == "done" and row["metric"] in metrics
        _require(value is not None and (math.isfinite(value) or not last), f"{what}: value={value}")
        _require(stderr is not None and not stderr < 0, f"{what}: stderr={stderr}")
        _require(row["metric"] not in SHARES or 0 <= value <= 1, f"{what}: value={value}, which is no share")
    if about["status"] == "done":
        lacking = [name for name in metrics if (name, trial.training.steps) not in seen]
        _require(not lacking, f"done, and without {', '.join(lacking)}")


def _place(about: dict[str, Any], trial: Trial, evaluation: Evaluation | None) -> tuple[str, str]:
    if about["status"] not in RESULTS:
        return "failures", f"{trial.id}-{about['attempt']}.parquet"
    return ("evaluations", f"{evaluation.of(trial)}.parquet") if evaluation else ("records", f"{trial.id}.parquet")
