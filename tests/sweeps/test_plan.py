import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from parrots.spec import Cell, Evaluation
from sweeps import calibration, devices, ledger, room
from sweeps.cli import main
from sweeps.how import hours_for
from sweeps.ledger import Ledger
from sweeps.plan import CELL_START_S, GROUP_START_S, START_S, longest_first, plan, timer_here
from sweeps.spec import find

from ..conftest import MOE, make
from ..test_record import record
from .test_spec import BASE


@pytest.fixture(scope="module")
def cells():
    return find("quickstart", "laptop").cells


@pytest.fixture
def timer(tmp_path):
    return timer_here(tmp_path / "none")


def test_time_grows_with_everything_that_costs(make_trial, timer):
    base = make_trial()
    longer, wider = make_trial(steps=40), make_trial({"kind": "dense", "d_ff": 64})
    assert timer(longer) == pytest.approx(2 * timer(base))
    assert timer(wider) > timer(base)
    assert timer(make_trial({"kind": "moe", "d_ff": 16, "n_experts": 4})) > timer(base)  # same active size, and dispatch


def test_the_longest_cells_come_first(cells, tmp_path, timer):
    made = plan(cells, ledger.read(tmp_path), 2, timer)
    times = [made.seconds[cell.trial.id] for cell in longest_first(cells, made)]
    assert times == sorted(times, reverse=True)


def test_slots_share_the_work_and_a_group_takes_as_many_as_it_has_workers(cells, tmp_path, timer):
    made = plan(cells, ledger.read(tmp_path), 2, timer)
    assert made.wall_s() == pytest.approx(START_S + sum(made.work(cell) for cell in cells) / 2)
    assert made.wall_s() > plan(cells, ledger.read(tmp_path), 4, timer).wall_s()


def test_a_cell_of_one_worker_that_is_a_group_waits_for_the_groups_start(cells, tmp_path, timer, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    books, one = ledger.read(tmp_path), [cell for cell in cells if cell.workers == 1][:1]
    packed, group = plan(one, books, 2, timer, scale="laptop"), plan(one, books, 2, timer, scale="paper")
    assert group.work(one[0]) == pytest.approx(packed.work(one[0]) + GROUP_START_S)


def test_what_is_done_is_neither_planned_nor_missing_whatever_sweep_asked_for_it(cells, tmp_path, timer):
    record(cells[0].trial, sweep="another").write(tmp_path)
    record(cells[1].trial, "failed", [], reason="x").write(tmp_path)
    books = ledger.read(tmp_path)
    assert [books.state(cell) for cell in cells[:3]] == ["done", "failed", "missing"]
    assert books.missing(cells) == list(cells[1:])
    assert books.attempts(cells[1].trial.id) == 1
    assert plan(cells, books, 2, timer).wall_s() < plan(cells, ledger.read(tmp_path / "empty"), 2, timer).wall_s()


@pytest.mark.parametrize("weights", [True, False])
def test_a_model_that_is_there_is_not_planned_to_be_trained_again_for_what_it_is_asked_besides(cells, tmp_path, timer, weights):
    trial = cells[0].trial
    cell = Cell(trial=trial, evaluations=(Evaluation(name="again", task=trial.task),))
    record(trial).write(tmp_path)
    if weights:
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / f"{trial.id}.safetensors").touch()
    books = ledger.read(tmp_path)
    assert books.state(cell) != "done"
    assert (plan([cell], books, 1, timer).work(cell) == CELL_START_S) == weights


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


GRID = '''"""Many."""
from sweeps.spec import Sweep, grid
BASE = {base!r}
def sweep(scale):
    rates = [1e-4 * i for i in range(1, 101)]
    return Sweep(cells=tuple(grid(BASE, {{"training.lr": rates, "seed": list(range(10))}})))
'''


def test_a_plan_of_a_thousand_cells_imports_neither_torch_nor_ray_nor_what_fits_lines(tmp_path):
    (tmp_path / "many.py").write_text(GRID.format(base=BASE))
    code = (
        "import sys; from sweeps.cli import main; assert main(['plan', 'many.py', '--where', 'lr > 0', '--seeds', '10']) == 0;"
    )
    code += "sys.exit(','.join({'torch', 'ray', 'mlflow', 'scipy', 'pandas'} & sys.modules.keys()) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=here())
    assert (done.returncode, done.stderr) == (0, "")
    assert "1000 cells, 0 done" in done.stdout


def here() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def said(capsys, *words: str) -> str:
    assert main(["plan", *words]) == 0
    return capsys.readouterr().out


def test_the_papers_grid_is_told_with_its_trials_flops_and_gpu_hours(capsys):
    whole = said(capsys, "figure4a", "--scale", "paper", "--device", "h200")
    assert "1232 cells, 0 done, 1232 to run, 2.77e+19 FLOPs in all" in whole
    assert "GPU-hours: not calibrated (NVIDIA H200)" in whole
    assert "466,400,000 steps: each millisecond that one takes is 130 device-hours" in whole
    assumed = said(capsys, "figure4a", "--scale", "paper", "--device", "h200", "--mfu", "dense=0.4,moe=0.1", "--price", "2")
    hours, money = re.search(r"([\d,]+) GPU-hours on NVIDIA H200, USD ([\d,.]+) ", assumed).groups()
    cells = find("figure4a", "paper").cells
    seconds = sum(cell.trial.flops / 67e12 / (0.1 if cell.trial.model.n_experts > 1 else 0.4) for cell in cells)
    assert float(hours.replace(",", "")) == pytest.approx(seconds / 3600, rel=0.01)
    assert float(money.replace(",", "")) == pytest.approx(2 * seconds / 3600, rel=0.01)


def test_hours_of_small_steps_come_from_step_time_and_not_from_flops(capsys):
    words = ("figure4a", "--scale", "paper", "--device", "h200", "--mfu", "dense=1,moe=1", "--step-ms")
    floor = said(capsys, *words, "7")
    (hours,) = re.findall(r"(\d+) GPU-hours on NVIDIA H200, .* 7 ms a step at least", floor)
    steps = sum(cell.trial.training.steps for cell in find("figure4a", "paper").cells)
    assert float(hours) == pytest.approx(0.007 * steps / 3600, rel=0.01)
    took = r"those above take ([\d.]+) on average, with starts"
    assert float(re.search(took, floor)[1]) == pytest.approx(7, rel=0.01)
    no_floor = re.search(took, said(capsys, *words, "0"))[1]
    assert float(no_floor) == pytest.approx(0.94, abs=0.01)  # 115 hours of FLOPs at the peak, 7 of starts, over 466.4e6 steps


def test_cells_that_do_not_fit_are_named_with_what_would_make_them(capsys):
    words = ("figure4a", "--scale", "h200", "--where", "n_experts == 16", "--max-trials", "1", "--device", "h200")
    assert "does not fit" not in said(capsys, *words)
    assert "does not fit: micro-batches of 512" in said(capsys, *words, "--device-memory", "2GiB")
    assert "does not fit: 8 workers, micro-batches of 1 and recomputing" in said(capsys, *words, "--device-memory", "200MB")
    assert "does not fit: a larger device" in said(capsys, *words, "--device-memory", "1MB")


def test_a_pass_that_counts_rows_is_in_the_time_of_those_that_need_one():
    """Of a balancing group that is larger than what fits; a third of the step at most, since nothing goes backward."""
    trial = make({**MOE, "n_experts": 8}, batch_size=64)
    cell = Cell(trial=trial)
    large = devices.known()["h200"]
    small = replace(large, memory=room.needed(cell, large).peak)

    def planned(device, **training) -> float:
        said = trial.model_copy(update={"training": trial.training.model_copy(update=training)})
        made = plan([Cell(trial=said)], Ledger(Path(), frozenset(), {}), 1, lambda _: 100.0, device=device)
        return made.seconds[said.id] - CELL_START_S

    assert planned(large) == 100.0
    assert 115 < planned(small) < 100 * 4 / 3
    assert planned(small, balance_group=1) == 100.0
    assert planned(small, balance_by="step_before") == 100.0
    assert planned(small, load_balance=0.0) == 100.0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--device", "abacus"], "--device abacus: one of cpu, a100-40, a100, h100, h200"),
        (["--device-memory", "much"], "--device-memory much: a size such as 80GiB"),
        (["--device", "h200", "--mfu", "0.3"], "dense models and mixtures do not share one"),
        (["--device", "h200", "--mfu", "dense=2,moe=1"], "between 0 and 1, for dense and moe"),
        (["--device", "h200", "--mfu", "dense=0.3"], "between 0 and 1, for dense and moe"),
        (["--device", "h200", "--mfu", "dense=x"], "a share of the peak"),
        (["--device", "cpu", "--mfu", "dense=0.3,moe=0.1"], "the peak of this device is not known"),
        (["--step-ms", "3"], "--step-ms 3: goes with --mfu"),
        (["--price", "dear"], "--price dear: US dollars an hour, or a table"),
        (["--actual"], "no cell of quickstart has been trained to its end by one worker in results"),
    ],
)
def test_what_a_plan_cannot_use_is_one_line(capsys, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "quickstart", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_after_a_run_planned_stands_beside_actual_and_later_plans_go_by_the_records(cells, tmp_path, capsys):
    dense = [cell.trial for cell in cells if cell.workers == 1 and cell.trial.model.n_experts == 1]
    for trial in dense:
        record(trial, hardware="an abacus, 1 threads", train_s=trial.flops / 1e6).write(tmp_path)
    words = ("quickstart", "--results", str(tmp_path))
    first = said(capsys, *words, "--actual")
    assert re.search(r"an abacus, 1 threads +dense float32 +\d+ +- ", first)
    again = said(capsys, *words, "--actual")
    assert re.search(r"dense float32 .* 1\.00 ", again)
    known = calibration.of("an abacus", tmp_path)
    assert known.seconds(dense[0]) == pytest.approx(dense[0].flops / 1e6, rel=0.01)
    assert (
        known.seconds(next(cell.trial for cell in cells if cell.trial.model.n_experts > 1)) is None
    )  # they never share a rate


def test_a_budget_of_money_is_one_of_hours_at_the_dearest_price(tmp_path):
    assert hours_for(9.0, "1.5", devices.here()) == pytest.approx(6.0)
    table = tmp_path / "prices.json"
    table.write_text('{"date": "2026", "source": "a test", "per_device_hour": {"cpu": [0.1, 0.5]}}')
    assert hours_for(2.0, str(table), devices.here()) == pytest.approx(4.0)
    with pytest.raises(ValueError, match=r"--max-cost 2: no price of .* is known; give --price"):
        hours_for(2.0, None, devices.here())
