"""One cell, trained or recorded in this process."""

import gzip
import json
from pathlib import Path

import pytest

from parrots.frozen import canonical_json
from parrots.record import path_of, read
from parrots.spec import Cell
from parrots.thresholds import Thresholds
from sweeps.cli import main
from sweeps.spec import Sweep

from ..conftest import MOE, make


@pytest.fixture
def cell(tmp_path, monkeypatch) -> Cell:
    monkeypatch.chdir(tmp_path)
    cell = Cell(trial=make(MOE, steps=12))
    Path("cell.json").write_text(canonical_json(cell))
    return cell


def test_a_cell_is_trained_once_and_by_its_id_it_is_known_again(cell, capsys):
    assert main(["train", "cell.json"]) == 0
    assert "done in" in capsys.readouterr().out
    written = path_of(cell.trial.id, Path("results")).stat().st_mtime_ns
    assert main(["train", cell.trial.id[:8]]) == 0
    assert "has its record" in capsys.readouterr().out
    assert path_of(cell.trial.id, Path("results")).stat().st_mtime_ns == written


def test_a_cell_of_a_sweep_is_watched_as_that_sweep_asks(cell):
    """Whatever its gradient does is too much for these; records tell."""
    sweep = Sweep(name="mine", cells=(cell,), alarms=Thresholds(gradient=1.0001, steps=2))
    Path("mine.json").write_text(sweep.text())
    assert main(["train", "mine.json"]) == 0
    assert "gradient" in read([path_of(cell.trial.id, Path("results"))])["reason"][0].as_py()


def test_a_profile_is_a_trace_of_the_steps_and_leaves_no_record(cell, capfd):
    assert main(["train", "cell.json", "--profile", "--steps", "4"]) == 0
    said = capfd.readouterr()
    assert "4 steps after 5" in said.out
    assert "aten::" in said.out
    assert said.err == ""
    trace = Path("results") / "profiles" / f"{cell.trial.id}.json.gz"
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert len({one["name"] for one in events if one["name"].startswith("ProfilerStep#")}) == 4
    assert not list(Path("results").glob("records/*"))
    assert not list(Path("results").glob("checkpoints/*"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ffff"], "0 trials in results begin with 'ffff'"),
        (["absent.json"], "no manifest absent.json"),
        (["broken.jsonl"], "broken.jsonl, line 1: not JSON"),
        (["quickstart"], "quickstart: 55 cells, one is trained; --where, --set or --max-trials 1 leave one"),
        (["two.jsonl"], "two.jsonl: 2 cells, one is trained"),
        (["short.json", "--profile"], "training.steps=5: a profile takes 7 at least"),
    ],
)
def test_what_is_no_cell_is_one_line(cell, capsys, words, expected):
    Path("broken.jsonl").write_text("{")
    Path("two.jsonl").write_text(f"{canonical_json(cell)}\n{canonical_json(Cell(trial=make(seed=1)))}\n")
    Path("short.json").write_text(canonical_json(Cell(trial=make(steps=5))))
    assert main(["train", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert not list(Path("results").glob("records/*"))
