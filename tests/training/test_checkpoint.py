"""A training that is interrupted anywhere ends as if nothing had happened, from its newest checkpoint that is whole."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException

from parrots.execution import endeavour, run_stacked, run_trial, side_by_side
from parrots.placement import Placement
from parrots.spec import Cell
from parrots.training import checkpoint, weights
from parrots.training.checkpoint import State, Stopped, Timer
from parrots.training.stacked import name_of

from ..conftest import GRAPHS, MOE, make
from ..test_record import record

TRIALS = {
    "dense": make(steps=120),
    "experts": make(MOE, steps=120, balance_group=4, z_loss=1e-3),
    "three experts": make({**MOE, "n_experts": 3, "n_shared": 1}, steps=120),
    "experts that choose": make({**MOE, "router": "expert_choice", "renormalize": False}, steps=120),
    "counts of the step before": make(MOE, steps=120, balance_by="step_before", load_balance=0.5),
    "padding": make(MOE, task=GRAPHS, steps=40, load_balance=0.1),
}


class After:
    """Says stop after so many steps."""

    def __init__(self, steps: int):
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


@pytest.fixture
def place(tmp_path) -> Placement:
    return Placement(tmp_path / "data", tmp_path / "weights").lasting(tmp_path)


def measured(record) -> list[tuple]:
    """Values as text, to the last digit: what is no number equals itself."""
    return [(m.metric, m.step, repr(m.value), m.n) for m in record.measurements]


def interrupted(trial, place: Placement, *lengths: int):
    """The record of a trial that was stopped after so many steps, then so many more, and then left alone."""
    for steps in lengths:
        with pytest.raises(Stopped):
            run_trial(trial, replace(place, stop=After(steps)))
    return run_trial(trial, place)


@pytest.mark.parametrize("name", TRIALS)
def test_an_interrupted_trial_is_bitwise_the_undisturbed_one(tmp_path, place, name):
    """7 and 90 steps are no ends of stretches: points of the curves lie on both sides of an interruption."""
    trial = TRIALS[name]
    undisturbed = run_trial(trial, replace(place, weights=tmp_path / "undisturbed"))
    again = interrupted(trial, place, 7, 20)
    assert measured(again) == measured(undisturbed)
    files = (weights.path_of(trial.id, tmp_path / folder).read_bytes() for folder in ("undisturbed", "weights"))
    assert len(set(files)) == 1


def test_a_stack_that_was_interrupted_is_bitwise_the_undisturbed_one(place, tmp_path):
    """One of them diverges before the second interruption."""
    trials = [make(MOE, steps=120, warmup=0.0, lr=lr, seed=s) for s, lr in enumerate((1e-2, 1e3, 3e-3))]
    undisturbed = run_stacked(trials, replace(place, weights=None))
    for steps in (7, 105):
        with pytest.raises(Stopped):
            run_stacked(trials, replace(place, stop=After(steps)))
    assert [path.name for path in checkpoint._all(place.checkpoints / name_of(trials))] == ["7", "112"]
    again = run_stacked(trials, place)
    assert [one.status for one in again] == ["done", "diverged", "done"]
    assert [measured(one) for one in again] == [measured(one) for one in undisturbed]
    assert [one.reason for one in again] == [one.reason for one in undisturbed]


@pytest.mark.parametrize("how", ["all are done", "it fails"])
def test_a_stack_that_is_not_trained_any_more_leaves_no_checkpoint(place, tmp_path, how):
    trials = [make(seed=seed) for seed in (0, 1)]
    with pytest.raises(Stopped):
        side_by_side(trials, tmp_path, replace(place, stop=After(3)), "")
    folder = place.checkpoints / name_of(trials)
    assert checkpoint.newest(folder, place).name == "3"
    if how == "all are done":
        for trial in trials:
            record(trial).write(tmp_path)
    else:
        checkpoint.save(folder, State(4, 80, 0.0, {}), {"of": {"another": torch.zeros(3)}}, place)
    assert side_by_side(trials, tmp_path, place, "") == {}
    assert not folder.exists()


def test_a_cheap_trial_writes_no_checkpoint(place):
    run_trial(TRIALS["dense"], place)
    assert not place.checkpoints.exists()


def test_the_last_two_checkpoints_are_kept(place):
    trial = TRIALS["dense"]
    with pytest.raises(Stopped):
        run_trial(trial, replace(place, checkpoint_s=0.0, stop=After(100)))
    steps = [int(path.name) for path in checkpoint._all(place.checkpoints / trial.id)]
    assert len(steps) == 2
    assert steps[-1] == 100


def test_one_that_is_written_beside_torn_ones_of_later_steps_stays(place):
    folder = place.checkpoints / "trial"
    for name in ("500", "600", "²"):  # two torn ones, and a name that is no number but has a digit
        (folder / name).mkdir(parents=True)
    for step in (10, 20, 30):
        checkpoint.save(folder, State(step, step, 0.0, {}), {"x": torch.zeros(3)}, place)
        assert checkpoint.newest(folder, place).name == str(step)
    assert {path.name for path in folder.iterdir()} == {"20", "30", "500", "600", "²"}


def tear(at: Path, how: str) -> None:
    """Damage a checkpoint as a kill, a full disk or a failing one would."""
    (shard,) = at.glob("*.distcp")
    if how == "no marker":
        (at / checkpoint.MARKER).unlink()
    elif how == "empty marker":
        (at / checkpoint.MARKER).write_bytes(b"")
    elif how == "a file too short":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif how == "one bit":
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    elif how == "a file gone":
        (at / checkpoint.CURVES).unlink()


@pytest.mark.parametrize("how", ["no marker", "empty marker", "a file too short", "one bit", "a file gone"])
def test_a_torn_checkpoint_is_passed_over_for_the_one_before(place, how):
    trial = TRIALS["experts"]
    undisturbed = run_trial(trial, replace(place, checkpoints=None))
    for steps in (30, 20):
        with pytest.raises(Stopped):
            run_trial(trial, replace(place, stop=After(steps)))
    folder = place.checkpoints / trial.id
    assert checkpoint.newest(folder, place).name == "50"
    tear(folder / "50", how)
    assert checkpoint.newest(folder, place).name == "30"
    assert measured(run_trial(trial, place)) == measured(undisturbed)


def test_with_every_checkpoint_torn_a_trial_begins_anew(place):
    trial = TRIALS["dense"]
    undisturbed = run_trial(trial, replace(place, checkpoints=None))
    with pytest.raises(Stopped):
        run_trial(trial, replace(place, stop=After(30)))
    tear(place.checkpoints / trial.id / "30", "one bit")
    assert measured(run_trial(trial, place)) == measured(undisturbed)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (OSError(), "OSError"),
        (CheckpointException("", {0: (OSError(28, "No space left on device"), None)}), "No space left on device"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_told_and_training_goes_on(place, tmp_path, monkeypatch, error, told):
    undisturbed = run_trial(TRIALS["dense"], replace(place, checkpoints=None))

    def full(*_, **__):
        raise error

    monkeypatch.setattr(checkpoint.dcp, "save", full)
    record = run_trial(TRIALS["dense"], replace(place, checkpoint_s=0.0))
    assert measured(record) == measured(undisturbed)
    assert "no checkpoint at step 1: " in record.reason
    assert told in record.reason


def test_a_checkpoint_of_another_model_is_a_failure_that_says_what_to_do(place):
    trial = TRIALS["dense"]
    of_another = {"model": {}, "optimizer": {}}
    checkpoint.save(place.checkpoints / trial.id, State(1, 20, 0.0, {}), of_another, place)
    lost = endeavour(Cell(trial=trial), place.checkpoints.parent, place, "")
    assert (lost.status, lost.failure) == ("failed", "bug")
    assert f"{trial.id}/1 does not fit this model (" in lost.reason.splitlines()[-1]
    assert lost.reason.endswith("); delete it")


def asked_after(monkeypatch, *durations_s: list[float]) -> list[list[int]]:
    """The steps after which each of these workers asks the others; a clock of its own says how long each step takes."""
    own, said, together = threading.local(), {}, threading.Barrier(len(durations_s), timeout=10)

    def summed(x, place):
        said[place.rank] = x
        together.wait()
        total = sum(said.values())
        together.wait()
        return total

    def work(rank: int) -> list[int]:
        own.now, asked = 100.0 * rank, []
        timer = Timer(Placement(Path(), rank=rank, world=len(durations_s), stop=lambda: bool(asked.append(step))))
        for step, took_s in enumerate(durations_s[rank], start=1):
            own.now += took_s
            timer.asks(step)
        return asked

    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: own.now))
    monkeypatch.setattr(checkpoint, "sum_over_workers", summed)
    with ThreadPoolExecutor(len(durations_s)) as pool:
        return list(pool.map(work, range(len(durations_s))))


@pytest.mark.parametrize(("step_s", "every"), [(0.0, 10), (0.01, 10), (1.0, 3), (2.0, 1), (60.0, 1)])
def test_workers_ask_every_ten_steps_or_as_soon_as_three_seconds_are_full(monkeypatch, step_s, every):
    for asked in asked_after(monkeypatch, [step_s] * 40, [step_s] * 40):
        assert asked == list(range(1, 41, every))


def test_steps_that_become_long_are_asked_after_one_by_one(monkeypatch):
    one, other = asked_after(monkeypatch, *[[0.01] * 20 + [4.0] * 20] * 2)
    assert one == other == [1, 11, 21, *range(28, 41)]  # the first that is long was one of ten


def test_workers_whose_clocks_differ_ask_after_the_same_steps(monkeypatch):
    one, other = asked_after(monkeypatch, [0.1] * 40, [3.0, 0.9] * 20)
    assert one == other
    assert len(one) > 4


def test_training_seconds_count_no_step_twice(place):
    trial = TRIALS["experts"]
    with pytest.raises(Stopped):
        run_trial(trial, replace(place, stop=After(100)))
    at = place.checkpoints / trial.id / "100" / checkpoint.MARKER
    before = json.loads(at.read_bytes())["seconds"]
    record = run_trial(trial, place)
    assert before < record.train_s < 1.8 * before


def test_the_micro_batch_that_fitted_is_remembered(place, monkeypatch):
    from parrots.training import trainer

    trial, tried, real = TRIALS["dense"], [], trainer.gradients

    def limited(model, share, micro, *rest):
        tried.append(micro)
        if micro > 5:
            raise torch.OutOfMemoryError("no room for more than five")
        return real(model, share, micro, *rest)

    monkeypatch.setattr(trainer, "gradients", limited)
    run_trial(trial, place)
    assert tried[:4] == [20, 10, 5, 5]
    tried.clear()
    run_trial(make(steps=120, seed=5, lr=1e-3), place)
    assert set(tried) == {5}
