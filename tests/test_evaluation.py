"""A trained model is asked besides what it was trained on: from its weights, once, in a record of its own."""

import pytest

from analysis.table import load
from parrots.execution import finish
from parrots.placement import Placement
from parrots.record import evaluation_path, evaluations_of, is_done, path_of, read
from parrots.spec import Cell, Evaluation
from sweeps.ledger import read as ledger
from sweeps.spec import Sweep

from .conftest import GRAPHS, make
from .test_record import record

ABOUT = {"sweep": "s", "attempt": 1}
TRAINED_ON = Evaluation(name="trained-on", task=GRAPHS, split="train", at_most=50)
SPARSER = Evaluation(name="sparser", task={**GRAPHS, "p": 0.2})


def place(results) -> Placement:
    return Placement(results / "data", results / "weights", "cpu")


def test_an_evaluation_trains_nothing_and_adds_its_scores_beside_the_trials_own(tmp_path):
    trial = make(task={**GRAPHS, "p": 0.3})
    alone = Cell(trial=trial)
    finish(alone, tmp_path, place(tmp_path), ABOUT)
    before = path_of(trial.id, tmp_path).read_bytes()
    both = Cell(trial=trial, evaluations=(TRAINED_ON, SPARSER))
    assert is_done(alone, tmp_path)
    assert ledger(tmp_path).missing([alone, both]) == [both]
    assert finish(both, tmp_path, place(tmp_path), ABOUT) is None
    assert path_of(trial.id, tmp_path).read_bytes() == before
    assert ledger(tmp_path).missing([alone, both]) == []
    rows = read(evaluations_of(trial.id, tmp_path)).to_pylist()
    assert {row["evaluation"] for row in rows} == {"trained-on", "sparser"}
    assert {row["n"] for row in rows if row["metric"] == "exact_match" and row["evaluation"] == "trained-on"} == {50}
    (run,) = load(tmp_path, [trial.id]).to_dict("records")
    for metric in ("exact_match", "trained-on/exact_match", "sparser/exact_match"):
        assert 0 <= run[metric] <= 1
    assert run["sparser/tie_ceiling"] != run["tie_ceiling"]


def test_the_trials_own_test_asked_again_scores_the_same(tmp_path):
    """Weights written and read back, examples made again: nothing is lost on the way."""
    trial = make(task=GRAPHS)
    again = Evaluation(name="again", task=GRAPHS)
    own = finish(Cell(trial=trial, evaluations=(again,)), tmp_path, place(tmp_path), ABOUT)
    said = {m.metric: m.value for m in own.measurements if m.metric in trial.task.metrics}
    rows = read([evaluation_path(again.of(trial), tmp_path)]).to_pylist()
    assert {row["metric"]: row["value"] for row in rows} == pytest.approx(said, rel=1e-6)


def test_a_model_that_diverged_is_asked_nothing_and_is_done(tmp_path):
    cell = Cell(trial=make(task=GRAPHS), evaluations=(SPARSER,))
    record(cell.trial, "diverged", []).write(tmp_path)
    assert is_done(cell, tmp_path)
    assert finish(cell, tmp_path, place(tmp_path), ABOUT) is None
    assert not evaluations_of(cell.trial.id, tmp_path)


def test_lost_weights_are_said_to_be_lost(tmp_path):
    trial = make(task=GRAPHS)
    finish(Cell(trial=trial), tmp_path, Placement(tmp_path / "data", None, "cpu"), ABOUT)
    with pytest.raises(ValueError, match=f"no weights of {trial.id}.*delete its record"):
        finish(Cell(trial=trial, evaluations=(SPARSER,)), tmp_path, place(tmp_path), ABOUT)


def test_a_task_without_a_split_that_validates_is_not_asked_one():
    book = {"kind": "phonebook", "n_entries": 10, "n_test": 10}
    with pytest.raises(ValueError, match="split='validation': phonebook has train and test alone"):
        Evaluation(name="e", task=book, split="validation")
    assert Evaluation(name="e", task=GRAPHS, split="validation").task.validated


def test_what_a_model_cannot_read_is_refused_when_it_is_declared():
    with pytest.raises(ValueError, match=r"evaluation e: 13 tokens.*a model of shortest_path knows 12"):
        Cell(trial=make(task=GRAPHS), evaluations=(Evaluation(name="e", task={**GRAPHS, "n_vertices": 7}),))
    with pytest.raises(ValueError, match="evaluation sparser: there are two"):
        Cell(trial=make(task=GRAPHS), evaluations=(SPARSER, SPARSER))
    with pytest.raises(ValueError, match=r"keep='none': .* has evaluations, which need its weights"):
        Sweep(cells=(Cell(trial=make(task=GRAPHS), evaluations=(SPARSER,)),), keep="none")
