"""What was run elsewhere comes in; what was not, or was altered, stays out."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parrots.execution import finish
from parrots.placement import Placement
from parrots.record import SCHEMA, path_of, read
from parrots.spec import Cell, Evaluation
from parrots.training import weights
from sweeps import ledger
from sweeps.cli import main

from ..conftest import MOE, make
from ..test_record import record

TRIAL = make(MOE)
DELTA = {"use_dictionary": False, "column_encoding": {"reason": "DELTA_BYTE_ARRAY"}}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A results folder as `python -m parrots.run` leaves it: a trial with an evaluation, and another that failed."""
    folder = tmp_path_factory.mktemp("elsewhere")
    cell = Cell(trial=TRIAL, evaluations=(Evaluation(name="again", task=TRIAL.task, at_most=10),))
    finish(cell, folder, Placement(folder / "data", folder / "weights"), {"sweep": "mine"})
    record(make(seed=3), "failed", [], reason="ValueError: it broke", steps=0).write(folder)
    return folder


@pytest.fixture
def copied(elsewhere, tmp_path):
    """A copy that may be spoilt."""
    folder = tmp_path / "copied"
    for path in elsewhere.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(elsewhere)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(elsewhere)).write_bytes(path.read_bytes())
    return folder


def ingest(capsys, folder: Path, results: Path) -> tuple[int, str]:
    code = main(["ingest", str(folder), "--results", str(results)])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_what_was_run_elsewhere_comes_in_byte_for_byte_and_once(elsewhere, tmp_path, capsys):
    code, told = ingest(capsys, elsewhere, tmp_path)
    assert (code, told) == (0, "3 taken, 0 were here already, 0 refused; weights of 1 trials\n")
    for folder in ("records", "evaluations", "failures", "weights"):
        names = sorted(os.listdir(elsewhere / folder))
        assert sorted(os.listdir(tmp_path / folder)) == names
        assert all((tmp_path / folder / n).read_bytes() == (elsewhere / folder / n).read_bytes() for n in names)
    assert ingest(capsys, elsewhere, tmp_path) == (0, "0 taken, 3 were here already, 0 refused; weights of 0 trials\n")


def test_a_trial_that_was_ended_early_comes_in_as_such_and_only_with_its_rule(copied, tmp_path, capsys):
    early = make(seed=4)
    told = {"reason": "ended early by asha at step 5 of 20, loss 2", "steps": 5}
    path = record(early, "stopped", [], early_stop="asha", **told).write(copied)
    results = tmp_path / "results"
    assert ingest(capsys, copied, results)[0] == 0
    assert (results / "failures" / path.name).read_bytes() == path.read_bytes()
    assert ledger.read(results).failures.keys() == {early.id, make(seed=3).id}
    record(early, "stopped", [], **told).write(copied)
    code, said = ingest(capsys, copied, tmp_path / "other")
    assert code == 1
    assert "status 'stopped' without the rule that ended it" in said


def test_a_record_that_is_here_stays(elsewhere, tmp_path, capsys):
    ours = record(TRIAL).write(tmp_path).read_bytes()
    code, told = ingest(capsys, elsewhere, tmp_path)
    assert code == 1
    assert "is another record of this trial, and stays" in told
    assert "weights of 0 trials" in told
    assert path_of(TRIAL.id, tmp_path).read_bytes() == ours


def altered(**changes):
    """All rows of a record with these columns; `row` and its column alone for a measured one."""

    def change(table: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([row | changes for row in table.to_pylist()], SCHEMA)

    return change


def measured(name: str, **changes):
    def change(table: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([row | (changes if row["metric"] == name else {}) for row in table.to_pylist()], SCHEMA)

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (altered(N_total=7), "N_total=7: that trial's is"),
        (altered(active_experts=1), "active_experts=1: that trial's is"),
        (altered(trial_id="0" * 16), "trial_id='0000000000000000': that trial's is"),
        (altered(trial='{"model": 3}'), "trial: "),
        (altered(trial="[" * 100_000), "trial: "),
        (altered(seed=5), "seed=5: that trial's is 0"),
        (altered(task_version=99), "task_version=99: is"),
        (altered(name="\x1b[2Jboo"), "name: the character '\\x1b', which a terminal may obey"),
        (altered(reason="\x1b]0;mine\x07"), "which a terminal may obey"),
        (altered(sweep="../../etc"), "sweep='../../etc' is no name"),
        (altered(status="splendid"), "status='splendid': one of done"),
        (altered(status="failed", reason="x"), "status 'failed' with scores"),
        (altered(tokens=1), "flops="),
        (altered(tokens=10**15, flops=1e30), "tokens=1,000,000,000,000,000: at most"),
        (altered(wall_s=float("nan")), "wall_s=nan: a finite number"),
        (altered(train_s=-1.0), "train_s=-1.0"),
        (altered(attempt=0), "attempt, workers and stacked begin at 1"),
        (altered(failure="bad luck"), "failure='bad luck': one of oom, diverged"),
        (altered(started=datetime.now(UTC) + timedelta(days=9)), "has not come yet"),
        (altered(hardware=None), "hardware is missing"),
        (altered(evaluation="x"), "evaluation: a name, and nothing"),
        (measured("exact_match", value=1.5), "value=1.5, which is no share"),
        (measured("exact_match", value=float("nan")), "exact_match at step 20: value=nan"),
        (measured("exact_match", stderr=-0.1), "stderr=-0.1"),
        (measured("exact_match", n=0), "n=0"),
        (measured("exact_match", step=21), "not of this training"),
        (measured("exact_match", metric="test_loss"), "a metric twice at one step"),
        (measured("exact_match", metric="../x y"), "metric='../x y' is no name"),
        (lambda table: table.filter(pa.compute.not_equal(table["metric"], "exact_match")), "done, and without exact_match"),
        (lambda table: pa.concat_tables([table, altered(attempt=2)(table)]), "its rows are of several trials or runs"),
        (lambda table: table.slice(0, 0), "0 rows"),
        (lambda table: table.drop_columns(["stderr"]), "columns other than a record's"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused_with_what_is_wrong(copied, tmp_path, capsys, change, expected):
    path = path_of(TRIAL.id, copied)
    pq.write_table(change(read([path])), path)
    code, told = ingest(capsys, copied, tmp_path / "results")
    assert code == 1
    (line,) = [line for line in told.splitlines() if line.startswith("refused")]
    assert expected in line
    assert "2 taken, 0 were here already, 1 refused" in told
    assert not path_of(TRIAL.id, tmp_path / "results").exists()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 500 + b"PAR1", b"nonsense" * 99])
def test_a_file_that_is_no_parquet_is_refused(copied, tmp_path, capsys, content):
    path_of(TRIAL.id, copied).write_bytes(content)
    code, told = ingest(capsys, copied, tmp_path / "results")
    assert code == 1
    assert "not Parquet" in told


def repeated(name: str, text: str, rows: int) -> pa.Table:
    """A record's first row so often, with this text in one column: once in a file, whatever it is repeated."""
    first = record(TRIAL).table().slice(0, 1).take(pa.nulls(rows, pa.int32()).fill_null(0))
    said = pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()).fill_null(0), pa.array([text]))
    return first.set_column(SCHEMA.get_field_index(name), name, said)


def many_versions(count: int) -> pa.Table:
    """A record's first row with so many versions, each of the same text."""
    same = pa.DictionaryArray.from_arrays(pa.nulls(count, pa.int32()).fill_null(0), pa.array(["a"]))
    said = pa.MapArray.from_arrays(pa.array([0, count], pa.int32()), same.cast(pa.string()), same.cast(pa.string()))
    return record(TRIAL).table().slice(0, 1).set_column(SCHEMA.get_field_index("versions"), "versions", said)


LOOKS = """
import resource, sys
from pathlib import Path
from sweeps.intake import RefusedError, looked_at
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    looked_at(Path(sys.argv[1]))
except RefusedError as error:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, error)
"""


@pytest.mark.parametrize(
    ("table", "how", "expected", "most_mb"),
    [
        (lambda: repeated("reason", "x" * 900_000, 100_000), {}, "", 300),
        (lambda: repeated("metric", "x" * 900_000, 100_000), {}, "900,000 bytes are no name", 300),
        (lambda: repeated("reason", "x" * 200_000_000, 2), {}, "bytes unpacked", 300),
        (lambda: repeated("reason", "x" * 900_000, 1000), {"row_group_size": 10}, "written otherwise", 300),
        (lambda: repeated("reason", "x" * 900_000, 1000), {"compression": "zstd"}, "written otherwise", 300),
        (lambda: repeated("reason", "x" * 900_000, 100), DELTA, "not Parquet", 300),
        (lambda: many_versions(4_000_000), {}, "4,000,000 versions", 600),
    ],
)
def test_a_file_that_is_small_and_a_record_that_is_not_is_refused_within_memory(tmp_path, table, how, expected, most_mb):
    path = tmp_path / "records" / "x.parquet"
    path.parent.mkdir()
    pq.write_table(table(), path, store_schema=False, **how)
    assert path.stat().st_size < 20_000_000
    done = subprocess.run([sys.executable, "-c", LOOKS, str(path)], capture_output=True, text=True, timeout=120)
    took_mb, _, said = done.stdout.partition(" ")
    assert expected in said, done.stderr
    assert int(took_mb) < most_mb


def test_a_record_cut_short_anywhere_is_refused_or_whole(copied, tmp_path, capsys):
    path = path_of(TRIAL.id, copied)
    whole = path.read_bytes()
    for at in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:at])
        assert ingest(capsys, copied, tmp_path / "results")[0] == 1
    for at in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        ingest(capsys, copied, tmp_path / "results")  # an altered byte that no column holds passes; nothing is raised


def test_a_link_another_name_and_another_folder_are_refused(copied, tmp_path, capsys):
    path = path_of(TRIAL.id, copied)
    path.rename(copied / "secret")
    path.symlink_to(copied / "secret")
    assert "not a plain file" in ingest(capsys, copied, tmp_path / "a")[1]
    path.unlink()
    (copied / "secret").rename(copied / "records" / "other.parquet")
    assert f"its trial's file is called {TRIAL.id}.parquet" in ingest(capsys, copied, tmp_path / "b")[1]
    (copied / "records" / "other.parquet").rename(copied / "failures" / f"{TRIAL.id}-1.parquet")
    assert "status 'done' belongs into records" in ingest(capsys, copied, tmp_path / "c")[1]


def test_weights_that_the_record_does_not_vouch_for_are_refused_and_the_record_taken(copied, tmp_path, capsys):
    """Though they would load."""
    path = path_of(TRIAL.id, copied)
    pq.write_table(altered(weights_sha256="")(read([path])), path)
    code, told = ingest(capsys, copied, tmp_path / "results")
    assert code == 0
    assert "it has no SHA-256 of any" in told
    assert "3 taken, 0 were here already, 0 refused; weights of 0 trials" in told
    assert not list((tmp_path / "results").rglob("*.safetensors"))


def test_weights_that_change_while_they_are_looked_at_come_in_as_they_were(elsewhere, copied, tmp_path, capsys, monkeypatch):
    real, kept = weights.loaded, weights.path_of(TRIAL.id, copied / "weights")

    def late(*given):
        kept.write_bytes(b"others")
        return real(*given)

    monkeypatch.setattr(weights, "loaded", late)
    assert ingest(capsys, copied, tmp_path / "results")[0] == 0
    taken = weights.path_of(TRIAL.id, tmp_path / "results" / "weights").read_bytes()
    assert taken == weights.path_of(TRIAL.id, elsewhere / "weights").read_bytes()


def test_weights_of_another_model_are_refused_and_the_record_taken(copied, tmp_path, capsys):
    kept = copied / "weights" / f"{TRIAL.id}.safetensors"
    for content in (b"", b"\xff" * 64, kept.read_bytes()[:-8]):
        kept.write_bytes(content)
        code, told = ingest(capsys, copied, tmp_path / str(len(content)))
        assert code == 0
        assert "not the weights of d16-E4k2" in told
        assert "weights of 0 trials" in told


def test_bad_input_is_one_line_and_writes_nothing(copied, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    results = tmp_path / "results"
    assert ingest(capsys, tmp_path / "empty", results)[1].startswith("error: no records in")
    assert ingest(capsys, tmp_path / "absent", results)[0] == 2
    assert "is the results folder itself" in ingest(capsys, copied, copied)[1]
    for path in copied.rglob("*.parquet"):
        path.write_bytes(b"")
    code, told = ingest(capsys, copied, results)
    assert code == 2
    assert "none of 3 files" in told
    assert not results.exists()
