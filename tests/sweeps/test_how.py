"""How a run treats its cells: which go side by side, when its budget is spent, what a failure is called."""

import errno
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from parrots.execution import about, endeavour
from parrots.failures import BUDGET, Further, Halved, classify, failure, of_group
from parrots.frozen import canonical_json
from parrots.meeting import Met
from parrots.placement import Placement
from parrots.spec import Cell
from parrots.store import Store
from parrots.thresholds import Thresholds
from sweeps import devices, stopping
from sweeps.cli import main
from sweeps.how import How
from sweeps.ledger import Ledger
from sweeps.plan import plan
from sweeps.spec import Sweep
from sweeps.watch import Watch

from ..conftest import MOE, make


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Halved("CUDA out of memory"), "halved"),
        (torch.OutOfMemoryError("CUDA out of memory"), "oom"),
        (MemoryError(), "oom"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "oom"),
        (OSError(errno.ENOSPC, "No space left on device"), "infrastructure"),
        (ConnectionResetError("by peer"), "infrastructure"),
        (RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:4242"), "infrastructure"),
        (FileNotFoundError(errno.ENOENT, "no such file"), "bug"),
        (RuntimeError("The actor is dead because its worker process has died. Perhaps the OOM killer"), "infrastructure"),
        (ValueError("wrong shape"), "bug"),
    ],
)
def test_a_failure_has_a_class(error, kind):
    assert classify(error) == kind


def test_of_a_group_what_one_says_counts_more_than_that_the_others_miss_it():
    gone = classify(RuntimeError("Connection closed by peer"))
    assert of_group([gone, None]) == "infrastructure"
    assert of_group([gone, "bug"]) == "bug"
    assert of_group([gone, "oom", "bug"]) == "oom"
    assert of_group([gone, "oom", "halved"]) == "halved"


def test_half_the_micro_batch_is_no_attempt_of_those_that_are_allowed():
    group, alone = Further(10), Further(1)
    assert [group.takes("halved") for _ in range(5)] == [True] * 4 + [False]  # 5, 3, 2, 1
    assert [group.takes("oom") for _ in range(2)] == [True, False]
    assert not alone.takes("halved")
    assert [alone.takes("oom") for _ in range(2)] == [True, False]
    assert [alone.takes("infrastructure") for _ in range(4)] == [True] * 3 + [False]
    assert not alone.takes("bug")


def test_out_of_memory_that_halved_no_micro_batch_is_an_attempt(tmp_path, monkeypatch):
    """As at building or evaluation: the next attempt begins with as many examples at once as the one before."""
    met = []

    def full(*_):
        met.append(1)
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr("parrots.failures.AGAIN_S", 0.0)
    monkeypatch.setattr("parrots.execution.finish", full)
    monkeypatch.setattr("parrots.execution.meet", lambda said, *_: Met([said, said], True))
    lost = endeavour(Cell(trial=make()), tmp_path, Placement(tmp_path, world=2), "")
    assert lost.status == lost.failure == "oom"
    assert len(met) == 1 + BUDGET["oom"]


@pytest.mark.parametrize("there", [[], [1], [1, 2, 10], [3]])
def test_no_attempt_writes_over_the_record_of_another(there, tmp_path):
    trial = make()
    for attempt in there:
        replace(failure(trial, ValueError("it broke"), Placement(tmp_path)), attempt=attempt).write(tmp_path)
    assert about(trial, tmp_path, "")["attempt"] == max(there, default=0) + 1


def test_a_halved_micro_batch_is_out_of_memory_in_its_record(tmp_path):
    lost = failure(make(), Halved("full"), Placement(tmp_path))
    assert lost.status == lost.failure == "oom"


def test_the_smaller_of_hours_and_money_ends_a_run():
    h100 = devices.known()["h100"]
    assert How(max_device_hours=3.0, max_cost=6.0, price="1.5").hours(h100) == 3.0
    assert How(max_device_hours=5.0, max_cost=6.0, price="1.5").hours(h100) == 4.0
    assert How(max_cost=6.0).hours(h100) == pytest.approx(6.0 / devices.price(h100, None).high)
    assert How().hours(devices.here()) == math.inf


def test_on_a_cluster_money_goes_by_its_gpus_and_of_unknown_ones_a_price_has_to_be_given(monkeypatch):
    from sweeps.run import priced

    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert priced({"accelerator_type:H100": 1.0, "GPU": 8.0}, on_gpu=True) == devices.known()["h100"]
    assert priced({"CPU": 8.0}, on_gpu=False) == devices.here()
    unknown = priced({"accelerator_type:Z9": 1.0, "GPU": 8.0}, on_gpu=True)
    with pytest.raises(ValueError, match="no price of this cluster's GPUs is known; give --price"):
        How(max_cost=5.0).hours(unknown)
    assert How(max_cost=5.0, price="2.5").hours(unknown) == 2.0


def test_money_without_a_price_is_bad_input(capsys, tmp_path):
    prices = tmp_path / "prices.json"
    prices.write_text('{"date": "2026-11-24", "source": "nobody", "per_device_hour": {}}')
    code = main(["run", "quickstart", "--results", str(tmp_path / "r"), "--max-cost", "5", "--price", str(prices)])
    assert code == 2
    assert "no price of" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_bounds_of_alarms_reach_the_workers_and_nonsense_is_refused_before_anything_runs(capsys, tmp_path):
    from sweeps.work import Given

    bounds = Thresholds().but(["swamped=8"]).but(How(alarms=("swamped=9", "steps=50")).alarms)
    given = Given("mine", tmp_path, "none", 1, False, {}, {}, {}, {}, alarms=bounds)
    assert (given.place().alarms.swamped, given.place().alarms.steps) == (9.0, 50)
    assert main(["run", "quickstart", "--results", str(tmp_path / "r"), "--alarm", "swamped=0"]) == 2
    assert "swamped='0': Input should be greater than 1" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("sweeps.watch.time", found)
    return found


@pytest.fixture
def watch(tmp_path) -> Watch:
    from rich.console import Console

    cells = [Cell(trial=make(seed=0)), Cell(trial=make(seed=1)), Cell(trial=make(MOE), workers=2)]
    made = plan(cells, Ledger(tmp_path, frozenset(), {}), 2, lambda _: 1.0)
    return Watch(cells, made, Console(), lambda _: None)


def test_utilisation_is_kept_training_time_over_the_slots_time(watch, clock):
    """Two slots, ten seconds: 6 s and 8 s of training kept, a stopped cell's not; then two workers for 5 s each."""
    first, second, both = watch.cells
    watch.started(first)
    watch.started(second)
    clock.now += 10
    watch.progressed(first, 0.5, 10, (), 6.0)
    watch.progressed(second, 0.5, 10, (), 8.0)
    assert watch.utilisation() == pytest.approx(14 / 20)
    watch.ended(first, "done", 6.0)
    watch.ended(second, "stopped", 8.0)
    assert watch.utilisation() == pytest.approx(6 / 20)
    assert watch.device_s() == pytest.approx(20)
    watch.started(both)
    clock.now += 10
    watch.ended(both, "done", 5.0)
    assert watch.utilisation() == pytest.approx((6 + 10) / 40)
    assert watch.device_s() == pytest.approx(40)
    assert set(watch.status) == {first, both}


def test_a_cell_that_begins_again_holds_its_slot_twice(watch, clock):
    first, *_ = watch.cells
    for _ in range(2):
        watch.started(first)
        clock.now += 3
    assert watch.device_s() == pytest.approx(6)


def test_a_run_whose_budget_is_spent_asks_to_end_and_waits_for_what_is_under_way(watch, clock, tmp_path, monkeypatch):
    from sweeps.events import Ending

    monkeypatch.setattr(stopping, "LOOK_EVERY_S", -math.inf)
    first, second, _ = watch.cells
    ending = Ending(watch, tmp_path, How(max_device_hours=1.0))
    watch.started(first)
    clock.now += 3000
    assert not ending.stop_all()
    clock.now += 700
    assert not ending.stop_all()
    assert stopping.path_of(tmp_path).read_text() == "1.03 device-hours are spent"
    watch.started(second)  # which sees the file and ends at once
    watch.ended(first, "stopped")
    assert ending.stop_all()


def test_an_early_end_for_groups_is_refused_before_anything_runs(watch, tmp_path):
    from sweeps.run import run

    cells = (Cell(trial=make()), Cell(trial=make(seed=1), workers=2))
    with pytest.raises(ValueError, match="--early-stop: ends packed cells only"):
        run(Sweep(name="mine", cells=cells), cells, tmp_path, watch, How(early_stop="asha"))
    assert not list(tmp_path.iterdir())


def test_stacks_leave_no_slot_without_one_and_their_others_come_last(tmp_path):
    from sweeps.run import side_by_side

    cells = [Cell(trial=make(seed=s, lr=lr)) for s in (0, 1) for lr in (1e-2, 3e-3)] + [Cell(trial=make(MOE))]
    order, stacks = side_by_side(cells, cells, tmp_path, How(), 2)
    assert sorted(map(len, set(stacks.values()))) == [1, 2, 2]
    firsts = {stack[0] for stack in stacks.values()}
    assert {cell.trial.id for cell in order[:3]} == firsts
    assert sorted(map(canonical_json, order)) == sorted(map(canonical_json, cells))
    assert all(len(stack) == 1 for stack in side_by_side(cells, cells, tmp_path, How(stack=1), 2)[1].values())
    order, stacks = side_by_side(cells, cells, tmp_path, How(early_stop="asha"), 2)
    assert order == cells
    assert all(len(stack) == 1 for stack in stacks.values())


@pytest.mark.parametrize("left", [slice(1, None), slice(2, None), slice(3, 5), slice(0, 5, 2)])
def test_an_interrupted_sweep_has_the_stacks_that_it_had(tmp_path, left):
    """So their checkpoints, which are named for those that share them, are found, and no number depends on the interruption."""
    from sweeps.run import side_by_side
    from sweeps.work import leader

    cells = [Cell(trial=make(seed=seed)) for seed in range(6)] + [Cell(trial=make(MOE, seed=seed)) for seed in range(2)]
    _, before = side_by_side(cells, cells, tmp_path, How(), 2)
    longest_first = cells[left][::-1]
    order, after = side_by_side(longest_first, cells, tmp_path, How(), 2)
    assert after == {cell.trial.id: before[cell.trial.id] for cell in longest_first}
    leaders = {leader(trial_id, after) for trial_id in after}
    assert {cell.trial.id for cell in order[: len(leaders)]} == leaders


def test_being_asked_to_end_reaches_a_machine_with_a_folder_of_its_own(s3, credentials, tmp_path):
    from sweeps.events import Ending

    one, other = (Store(s3.uri("ending"), tmp_path / name) for name in ("one", "other"))
    one.results.mkdir()
    assert not stopping.Asked(other.results, other)()
    stopping.request(one.results)
    watch = type("Watch", (), {"share": {}, "device_s": lambda self: 0.0})()
    assert Ending(watch, one.results, How(store=one.uri)).stop_all()
    assert stopping.Asked(other.results, other)()
    stopping.withdraw(one.results, one)
    assert not stopping.Asked(other.results, other)()


def test_cells_are_not_stacked_where_machines_do_not_see_each_others_locks(tmp_path, monkeypatch):
    from sweeps.run import side_by_side

    cells = [Cell(trial=make(seed=seed)) for seed in range(4)]
    stacked, store = How(stack=4), How(stack=4, store="s3://bucket")
    assert {len(stack) for stack in side_by_side(cells, cells, tmp_path, store, 1)[1].values()} == {4}
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert {len(stack) for stack in side_by_side(cells, cells, tmp_path, stacked, 1)[1].values()} == {4}
    assert {len(stack) for stack in side_by_side(cells, cells, tmp_path, store, 1)[1].values()} == {1}


def test_being_asked_to_end_is_seen_until_it_is_withdrawn(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(stopping, "LOOK_EVERY_S", -math.inf)
    assert not stopping.Asked(tmp_path)()
    stopping.request(tmp_path)
    assert stopping.Asked(tmp_path)()
    stopping.withdraw(tmp_path)
    assert not stopping.Asked(tmp_path)()


def test_steps_wait_a_tenth_of_their_time_at_most_for_a_store_that_is_away(tmp_path, monkeypatch):
    class Away:
        asked = 0

        @property
        def impatient(self):
            return self

        def has(self, path):
            self.asked += 1
            time.sleep(0.02)
            raise ConnectionError

    monkeypatch.setattr(stopping, "ASK_EVERY_S", 0.0)
    asked, began = stopping.Asked(tmp_path, store := Away()), time.monotonic()
    while time.monotonic() < began + 0.5:
        assert not asked()
    assert 1 <= store.asked <= 3
