import os
import subprocess
import sys
import time

import pytest

from sweeps import ledger
from sweeps.plan import START_S, calibration, longest_first, plan, quantities
from sweeps.spec import find

from ..test_record import record


@pytest.fixture(scope="module")
def cells():
    return find("quickstart", "laptop").cells


def test_time_grows_with_everything_that_costs(make_trial):
    base = make_trial()
    longer, wider = make_trial(steps=40), make_trial({"kind": "dense", "d_ff": 64})
    rates = calibration()

    def took(trial) -> float:
        return sum(rates[name] * amount for name, amount in quantities(trial).items())

    assert took(longer) == pytest.approx(2 * took(base))
    assert took(wider) > took(base)
    assert took(make_trial({"kind": "moe", "d_ff": 16, "n_experts": 4})) > took(base)  # same active size, and dispatch


def test_the_longest_cells_come_first(cells, tmp_path):
    made = plan(cells, ledger.read(tmp_path), slots=2)
    times = [made.seconds[cell.trial.id] for cell in longest_first(cells, made)]
    assert times == sorted(times, reverse=True)


def test_slots_share_the_work_and_a_group_takes_as_many_as_it_has_workers(cells, tmp_path):
    made = plan(cells, ledger.read(tmp_path), slots=2)
    assert made.wall_s() == pytest.approx(START_S + sum(made.work(cell) for cell in cells) / 2)
    assert made.wall_s() > plan(cells, ledger.read(tmp_path), slots=4).wall_s()


def test_what_is_done_is_neither_planned_nor_missing_whatever_sweep_asked_for_it(cells, tmp_path):
    record(cells[0].trial, sweep="another").write(tmp_path)
    record(cells[1].trial, "failed", [], reason="x").write(tmp_path)
    books = ledger.read(tmp_path)
    assert [books.state(cell) for cell in cells[:3]] == ["done", "failed", "missing"]
    assert books.missing(cells) == list(cells[1:])
    assert books.attempts(cells[1].trial.id) == 1
    assert plan(cells, books, 2).wall_s() < plan(cells, ledger.read(tmp_path / "empty"), 2).wall_s()


def test_attempts_are_in_order_beyond_nine(cells, tmp_path):
    trial = cells[0].trial
    for attempt in range(1, 12):
        record(trial, "failed", [], reason=str(attempt), attempt=attempt).write(tmp_path)
    assert [path.stem.rpartition("-")[2] for path in ledger.read(tmp_path).failures[trial.id]] == [str(i) for i in range(1, 12)]


def test_a_plan_runs_nothing_and_answers_within_two_seconds(tmp_path):
    began = time.perf_counter()
    command = [sys.executable, "-m", "sweeps.cli", "plan", "quickstart", "--results", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took = time.perf_counter() - began
    assert "55 cells, 0 done, 55 to run" in done.stdout
    assert done.stdout.count("d16-E8k2-lr2e-2-s1") == 1
    assert not os.listdir(tmp_path)
    assert took < 10, "a shared machine is given room; it takes 0.4 s"
