"""`python -m parrots.run`: trials with torch alone, by one process or under torchrun."""

import gc
import os
import re
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from parrots.frozen import canonical_json
from parrots.models import megablocks_backend
from parrots.placement import Placement
from parrots.record import path_of, read
from parrots.run import check, run_cells
from parrots.spec import Cell

from .conftest import GRAPHS, MOE, PATH, SEQUENCES, make

ALONE = [sys.executable, "-m", "parrots.run"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "parrots.run"]


def run(command: list[str], cells: Path, out: Path, *more: str) -> subprocess.CompletedProcess:
    line = [*command, str(cells), "--out", str(out), *more]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)


def cells(tmp_path: Path, *trials) -> Path:
    path = tmp_path / "cells.jsonl"
    path.write_text("".join(canonical_json(Cell(trial=trial)) + "\n" for trial in trials))
    return path


def values(out: Path) -> dict:
    rows = read(sorted((out / "records").glob("*.parquet"))).to_pylist()
    return {(r["trial_id"], r["metric"], r["step"]): r["value"] for r in rows}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Cells and what one worker with the whole batch makes of them: dense, experts that two workers can share and not."""
    folder = tmp_path_factory.mktemp("alone")
    trials = [
        make(),
        make(MOE, balance_group=4, z_loss=1e-3, seed=1),
        make({**MOE, "n_experts": 3, "n_shared": 1}),
        make(MOE, balance_by="step_before", load_balance=0.1, seed=1),
        make(MOE, task=PATH, seed=1),
        make({**MOE, "router": "expert_choice", "renormalize": False}),
        make(MOE, task=GRAPHS, load_balance=0.1),  # padding, and answers that are decoded
        make(MOE, task=SEQUENCES, seed=1),  # vectors instead of tokens
    ]
    path = cells(folder, *trials)
    done = run(ALONE, path, folder / "out")
    assert done.returncode == 0, done.stderr
    return path, values(folder / "out")


@pytest.mark.parametrize("micro", ["10", "1", "2", "4"])
def test_two_workers_equal_one(alone, tmp_path, micro):
    """Weights, gradients and Adam's moments sharded; each worker's ten examples a step at once or in micro-batches."""
    path, one = alone
    done = run(TWO, path, tmp_path, "--micro-batch", micro)
    assert done.returncode == 0, done.stderr
    two = values(tmp_path)
    assert len(one) == len(two) > 5 * 20
    losses = {key for key in one if key[1] == "loss"}
    assert {key: two[key] for key in losses} == pytest.approx({key: one[key] for key in losses}, abs=5e-6)
    assert two == pytest.approx(one, rel=1e-4, abs=1e-5)
    assert {row["workers"] for row in read(sorted((tmp_path / "records").glob("*"))).to_pylist()} == {2}


def test_a_second_call_runs_nothing_and_an_interrupted_one_goes_on(make_trial, tmp_path):
    trials = [make_trial(seed=s) for s in range(3)]
    assert run(ALONE, cells(tmp_path, *trials[:2]), tmp_path / "out").returncode == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "records").iterdir()}
    again = run(ALONE, cells(tmp_path, *trials), tmp_path / "out", "--sweep", "mine")
    assert "3 cells, 2 have their record, 1 to run" in again.stdout
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "records").iterdir()}
    assert len(after) == 3
    assert before.items() <= after.items()
    (new,) = after.keys() - before.keys()
    assert set(read([new])["sweep"].to_pylist()) == {"mine"}


def test_after_its_time_no_cell_begins_and_the_same_command_goes_on(make_trial, tmp_path):
    path = cells(tmp_path, make_trial(steps=300), make_trial(seed=1))
    first = run(ALONE, path, tmp_path / "out", "--begin-for", "1")
    assert first.returncode == 0
    assert "1 cells left; the same command goes on" in first.stdout
    assert len(list((tmp_path / "out" / "records").iterdir())) == 1
    assert "1 to run" in run(ALONE, path, tmp_path / "out").stdout
    assert len(list((tmp_path / "out" / "records").iterdir())) == 2


def test_a_failing_cell_is_recorded_with_its_reason_and_stops_no_other(make_trial, tmp_path):
    """A folder stands where the first trial's data should be written."""
    bad, good = make_trial(), make_trial(task=PATH)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data").write_text("in the way")
    done = run(ALONE, cells(tmp_path, bad, good), tmp_path / "out")
    assert done.returncode == 1
    failures = read((tmp_path / "out" / "failures").iterdir()).to_pylist()
    assert {f["trial_id"] for f in failures} == {bad.id, good.id}
    assert {f["status"] for f in failures} == {"failed"}
    assert all("Error" in f["reason"].splitlines()[-1] for f in failures)
    run(ALONE, tmp_path / "cells.jsonl", tmp_path / "out")
    failures = read((tmp_path / "out" / "failures").iterdir()).to_pylist()
    assert sorted(f["attempt"] for f in failures) == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"trial": {"model": 3}}\n', "line 1: trial.model=3: Input should be"),
        ("not json\n", "line 1: not JSON (Expecting value at character 0)"),
        ("", "no cells in it"),
    ],
)
def test_bad_cells_are_one_line_and_nothing_is_written(tmp_path, text, expected):
    (tmp_path / "cells.jsonl").write_text(text)
    done = run(ALONE, tmp_path / "cells.jsonl", tmp_path / "out")
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "nothing"])
def test_a_device_that_is_not_there_is_one_line_and_nothing_is_written(tmp_path, device):
    done = run(ALONE, cells(tmp_path, make()), tmp_path / "out", "--device", device)
    assert done.returncode == 2
    assert f"--device {device}: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not megablocks_backend.unfit("cpu"), reason="megablocks can run here")
@pytest.mark.parametrize("ffn", [None, MOE])
def test_megablocks_where_it_cannot_run_is_one_line_and_nothing_is_written(tmp_path, ffn):
    done = run(ALONE, cells(tmp_path, make(ffn)), tmp_path / "out", "--backend", "megablocks", "--device", "cpu")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --backend megablocks: ")
    assert "docker/megablocks" in done.stderr or "needs a CUDA GPU" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_megablocks_is_refused_the_trials_that_it_cannot_compute(tmp_path, monkeypatch):
    monkeypatch.setattr(megablocks_backend, "unfit", lambda device: "")
    place = Placement(tmp_path, tmp_path, backend="megablocks")
    with pytest.raises(ValueError, match=r"^--backend megablocks: phonebook d16-\S+: training.precision='float32'"):
        check([Cell(trial=make(MOE))], place)
    check([Cell(trial=make()), Cell(trial=make(MOE, precision="bfloat16"))], place)


@pytest.mark.parametrize(
    ("device", "trial", "said"),
    [
        ("meta", make(MOE), "needs a CPU, and the device is meta"),
        ("cpu", make(MOE, precision="bfloat16"), r"phonebook d16-\S+: training.precision='bfloat16'"),
        ("cpu", make({**MOE, "router": "expert_choice", "renormalize": False}), r"phonebook d16-\S+: router='expert_choice'"),
    ],
)
def test_compiled_experts_are_refused_what_they_cannot_compute(tmp_path, device, trial, said):
    with pytest.raises(ValueError, match=f"^--backend compiled: {said}"):
        check([Cell(trial=trial)], Placement(tmp_path, tmp_path, device, backend="compiled"))


def test_a_way_of_compiling_that_torch_has_not_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match=r"^--compile fast: one of auto, eager, default, "):
        check([Cell(trial=make())], Placement(tmp_path, compile="fast"))


def test_workers_that_cannot_share_a_batch_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match=r"phonebook d16-f32-.*: 3 workers cannot share training.batch_size=20 evenly"):
        check([Cell(trial=make())], Placement(tmp_path, world=3))


def test_a_missing_file_is_one_line(tmp_path):
    done = run(ALONE, tmp_path / "none.jsonl", tmp_path / "out")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "none.jsonl" in done.stderr


def test_cells_side_by_side_leave_the_records_that_they_leave_one_after_another(tmp_path):
    """A stack of three, a cell of another shape, one that cannot be stacked, and the rest of the first shape."""
    chooses = make({**MOE, "router": "expert_choice", "renormalize": False})
    lrs = [make(MOE, lr=lr, weight_decay=lr, seed=seed) for seed, lr in enumerate((1e-2, 3e-3, 2e-2, 1e-3))]
    path = cells(tmp_path, lrs[0], make(), *lrs[1:], chooses)
    for folder, more in (("alone", ()), ("stacked", ("--stack", "3")), ("auto", ("--stack", "auto"))):
        done = run(ALONE, path, tmp_path / folder, *more)
        assert done.returncode == 0, done.stderr
        assert re.findall(r"\[./6\]", done.stdout) == [f"[{i}/6]" for i in range(1, 7)]
        assert not done.stderr
    one = values(tmp_path / "alone")
    for folder in ("stacked", "auto"):
        assert values(tmp_path / folder) == pytest.approx(one, rel=1e-4, abs=1e-5)
        rows = read(sorted((tmp_path / folder / "records").glob("*"))).to_pylist()
        assert all(0 < row["train_s"] < row["wall_s"] for row in rows)
        kept = sorted(p.name for p in (tmp_path / folder / "weights").iterdir())
        assert kept == sorted(p.name for p in (tmp_path / "alone" / "weights").iterdir())


@pytest.mark.parametrize("lost", [[1], [0, 2]])
def test_a_stack_that_was_killed_as_it_wrote_its_records_comes_to_the_same_numbers(tmp_path, lost):
    asked = [Cell(trial=make(MOE, seed=seed)) for seed in range(3)]
    place = Placement(tmp_path / "data", stack=3)
    (tmp_path / "records").mkdir()
    assert run_cells(asked, tmp_path, place, "") == 0
    whole, paths = values(tmp_path), [path_of(cell.trial.id, tmp_path) for cell in asked]
    for i in lost:
        paths[i].unlink()
    kept = {path: path.stat().st_mtime_ns for path in paths if path.exists()}
    assert run_cells(asked, tmp_path, place, "") == 0
    assert values(tmp_path) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_stack_that_fails_is_run_one_by_one(tmp_path, monkeypatch, capsys):
    def full(*args):
        raise torch.OutOfMemoryError("no room for two")

    monkeypatch.setattr("parrots.execution.train_stacked", full)
    place = Placement(tmp_path / "data", tmp_path / "weights", stack=2)
    assert run_cells([Cell(trial=make(seed=seed)) for seed in (0, 1)], tmp_path, place, "") == 0
    assert "2 trials side by side: no room for two; one after another instead" in capsys.readouterr().err
    assert len(list((tmp_path / "records").iterdir())) == 2


def test_a_model_whose_training_failed_is_let_go_though_it_holds_itself(tmp_path, monkeypatch):
    held = []

    def fails(model, *rest):
        model.__dict__["itself"] = model
        held.append(weakref.ref(model))
        raise ValueError

    monkeypatch.setattr("parrots.execution.train", fails)
    gc.disable()
    try:
        assert run_cells([Cell(trial=make())], tmp_path, Placement(tmp_path / "data"), "") == 1
        assert held[0]() is None
    finally:
        gc.enable()
