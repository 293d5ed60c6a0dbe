"""What gc deletes, and what it never does."""

import os
from pathlib import Path

import pytest

from parrots.execution import run_stacked, run_trial
from parrots.placement import Placement
from parrots.tasks.store import load
from parrots.tasks.task import SPLITS
from parrots.training.checkpoint import Stopped
from parrots.training.stacked import name_of
from sweeps.cli import main
from sweeps.guard import lock
from sweeps.spec import Sweep, grid
from sweeps.verbs.gc import waste

from ..conftest import MOE, make
from ..test_record import record
from .test_spec import BASE

GOES = {
    "checkpoints/{done}/step-10/x": "of a trial that has its record",
    "train/{done}/x": "of a trial that has its record",
    "tune/mine-20260101-000000-1/x": "of an earlier run",
    "data/phonebook-train-0123.arrow": "no sweep here names these data",
    "weights/0123.safetensors": "no sweep here names this trial",
    "failures/retried/x.parquet": "an attempt before a retry",
    "records/.half.tmp": "was never finished",
}
STAYS = [
    "checkpoints/{missing}/step-10/x",
    "train/{missing}/x",
    "tune/mine-20260102-000000-1/x",
    "tune/mine-20260101-000000-2/x",
]


@pytest.fixture
def results(tmp_path):
    cells = tuple(grid(BASE, {"seed": [0, 1]}))
    sweep = Sweep(name="mine", cells=cells)
    sweep.manifest(tmp_path)
    run_trial(cells[0].trial, Placement(tmp_path / "data", tmp_path / "weights")).write(tmp_path)
    record(make(MOE)).write(tmp_path)  # of no sweep here: a record stays all the same
    record(cells[1].trial, "failed", [], reason="x").write(tmp_path)
    ids = {"done": cells[0].trial.id, "missing": cells[1].trial.id}
    for name in (*GOES, *STAYS):
        path = tmp_path / name.format(**ids)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    os.utime(tmp_path / "records" / ".half.tmp", (0, 0))
    (tmp_path / "records" / ".now.tmp").write_text("being written")
    return tmp_path, ids


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_what_nothing_needs_goes_and_everything_else_stays(results, capsys):
    folder, ids = results
    before = files(folder)
    assert main(["gc", "--results", str(folder), "--yes"]) == 0
    told = capsys.readouterr().out
    assert before - files(folder) == {name.format(**ids) for name in GOES}
    for why in GOES.values():
        assert why in told
    assert main(["gc", "--results", str(folder), "--yes"]) == 0
    assert f"nothing in {folder} can go" in capsys.readouterr().out


def test_checkpoints_of_a_stack_go_when_all_its_trials_are_done(tmp_path):
    trials, results = [make(seed=seed) for seed in (0, 1)], tmp_path / "results"
    with pytest.raises(Stopped):
        run_stacked(trials, Placement(tmp_path / "data", stop=lambda: True).lasting(results))
    for trial in trials:
        assert not list(waste(results))
        record(trial).write(results)
    (found,) = waste(results)
    assert found.path == results / "checkpoints" / name_of(trials)
    for path in found.path.glob("*/curves.npz"):
        path.write_bytes(b"")  # so it does not tell whose they are
    assert not list(waste(results))


def test_data_of_every_split_that_a_sweep_names_stay(tmp_path):
    paths = {"kind": "length2_path", "n_vertices": 5, "n_train": 20, "n_test": 20}
    sweep = Sweep(name="mine", cells=tuple(grid({**BASE, "task": paths}, {"seed": [0]})))
    sweep.manifest(tmp_path)
    for split in SPLITS:
        load(sweep.cells[0].trial.task, split, tmp_path / "data")
    assert not list(waste(tmp_path))


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_nothing_is_deleted_without_a_yes(results, monkeypatch, capsys, answer):
    folder, _ = results
    before = files(folder)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda text: answer.strip())
    assert main(["gc", "--results", str(folder)]) == 0
    assert "nothing was deleted" in capsys.readouterr().out
    assert files(folder) == before


def test_a_manifest_that_cannot_be_read_might_name_what_would_go_so_nothing_does(results, capsys):
    folder, _ = results
    (folder / "sweeps/mine/manifest.json").write_text("{}")
    before = files(folder)
    assert main(["gc", "--results", str(folder), "--yes"]) == 2
    assert "not a manifest" in capsys.readouterr().err
    assert files(folder) == before


def test_nothing_goes_while_a_run_is_at_work(results, capsys):
    folder, _ = results
    with lock(folder):
        assert main(["gc", "--results", str(folder), "--yes"]) == 2
    assert "another `parrots run` is at work" in capsys.readouterr().err


def test_a_link_out_of_the_results_is_cut_and_not_followed(results, tmp_path_factory):
    folder, ids = results
    outside = tmp_path_factory.mktemp("outside")
    (outside / "kept").write_text("x")
    (folder / "train" / f"{ids['done']}-more").symlink_to(outside)
    assert main(["gc", "--results", str(folder), "--yes"]) == 0
    assert (outside / "kept").exists()
    assert not (folder / "train" / f"{ids['done']}-more").is_symlink()
