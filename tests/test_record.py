import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from parrots.atomic import atomic
from parrots.measurement import Measurement, mean, proportion
from parrots.record import SCHEMA, Record, failures_of, path_of, read


def record(trial, status="done", measurements=None, **changes) -> Record:
    if measurements is None:
        measurements = [Measurement("loss", 10, 2.0, 0.1, 5), Measurement("exact_match", 20, 0.5, 0.1, 25)]
    about = {"wall_s": 2.0, "hardware": "a test", "steps": 20, "train_s": 1.5} | changes
    return Record(trial, status, measurements, datetime.now(UTC), **about)


def test_a_record_reads_back_as_it_was_written(make_trial, tmp_path):
    trial = make_trial()
    path = record(trial, sweep="s", workers=2).write(tmp_path)
    assert path == path_of(trial.id, tmp_path)
    rows = read([path]).to_pylist()
    assert [(r["metric"], r["step"], r["value"], r["n"]) for r in rows] == [("loss", 10, 2.0, 5), ("exact_match", 20, 0.5, 25)]
    assert {r["trial_id"] for r in rows} == {trial.id}
    assert (
        rows[0]["N_total"]
        == trial.total.N
        == sum(v for k, v in rows[0].items() if k.startswith("total_"))
        - sum(rows[0][f"total_{k}"] for k in ("embedding", "head"))
    )
    assert rows[0]["device_s"] == 3.0
    assert dict(rows[0]["versions"])["python"]


def test_a_record_of_a_failure_has_a_reason_and_no_score(make_trial, tmp_path):
    trial = make_trial()
    path = record(trial, "failed", [], reason="it broke", attempt=2).write(tmp_path)
    assert not path_of(trial.id, tmp_path).exists()
    (row,) = read([path]).to_pylist()
    assert (row["status"], row["reason"], row["metric"], row["value"]) == ("failed", "it broke", None, None)
    assert path.name == f"{trial.id}-2.parquet"


def test_an_ended_trial_counts_only_the_tokens_that_it_read(make_trial, tmp_path):
    trial = make_trial()
    (row, *_) = read([record(trial, "diverged", steps=5).write(tmp_path)]).to_pylist()
    assert row["tokens"] == trial.tokens // 4
    assert row["flops"] == trial.flops / 4


def test_what_is_no_record_is_named(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(ValueError, match=r"x\.parquet: not a record"):
        read([path])


def test_no_records_are_an_empty_table():
    assert read([]).schema == SCHEMA


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder" / "file"
    with atomic(path) as sink:
        sink.write(b"first")
    with pytest.raises(RuntimeError), atomic(path) as sink:
        sink.write(b"second, and then")
        raise RuntimeError
    assert path.read_bytes() == b"first"
    assert os.listdir(path.parent) == ["file"]
    assert Path(path).stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_files_that_are_written_at_once_leave_the_process_its_umask(tmp_path):
    """To read it is to set it, and a thread that reads it meanwhile keeps what was set."""

    def write(number: int) -> int:
        with atomic(tmp_path / str(number)) as sink:
            sink.write(b"x")
        return (tmp_path / str(number)).stat().st_mode & 0o777

    before, pace = os.umask(0o027), sys.getswitchinterval()
    try:
        sys.setswitchinterval(1e-6)
        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(write, range(2000))) == {0o640}
        assert _umask() == 0o027
    finally:
        sys.setswitchinterval(pace)
        os.umask(before)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_mean_has_the_standard_error_of_its_values():
    import numpy as np

    assert mean("m", 3, np.array([1.0, 3.0])) == Measurement("m", 3, 2.0, 1.0, 2)
    assert math.isnan(mean("m", 3, np.array([1.0])).stderr)
    assert proportion("p", 3, np.array([True, False, False, False])).stderr == pytest.approx(math.sqrt(0.25 * 0.75 / 4))


def test_a_failure_is_seen_as_soon_as_it_is_there_and_a_folder_that_stays_is_listed_once(make_trial, tmp_path, monkeypatch):
    trial, folder, listed = make_trial(), tmp_path / "failures", []
    assert failures_of(trial.id, tmp_path) == []
    for attempt in range(1, 12):
        record(trial, "failed", [], reason="lost", attempt=attempt).write(tmp_path)
        assert [int(path.stem.rpartition("-")[2]) for path in failures_of(trial.id, tmp_path)] == list(range(1, attempt + 1))
    os.utime(folder, (1, 1))
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: (listed.append(path), real(path))[1])
    for _ in range(5):
        assert len(failures_of(trial.id, tmp_path)) == 11
        assert failures_of(make_trial(seed=1).id, tmp_path) == []
    assert listed == [folder]
