"""The documents of the paper at each of their scales: what a plan says of them, and whether a GPU's fit its batches."""

import math
import re

import pytest

from sweeps import assumed, calibration, devices
from sweeps.cli import main
from sweeps.plan import plan_of
from sweeps.spec import documents, find

from .test_spec import scales

H200 = devices.known()["h200"]
FIGURES = [name for name in documents() if name != "quickstart"]
PAIRS = [(name, scale) for name in documents() for scale in scales(name)]


def said(capsys, *words: str) -> str:
    assert main(["plan", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_the_paper_goes_from_a_smoke_test_to_the_whole_grid(name):
    assert set(scales(name)) == {"smoke", "laptop", "h200", "paper"}
    sizes = [sum(cell.trial.flops for cell in find(name, scale).cells) for scale in ("smoke", "laptop", "h200", "paper")]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(("name", "scale"), PAIRS)
def test_a_plan_says_how_many_trials_how_many_flops_and_how_many_hours(capsys, tmp_path, name, scale):
    cells, none = find(name, scale).cells, str(tmp_path / "none")
    here = said(capsys, name, "--scale", scale, "--results", none)
    flops = sum(cell.trial.flops for cell in cells)
    assert re.search(rf"{len(cells)} cells, 0 done, {len(cells)} to run.*, {flops:.2e} FLOPs in all".replace("+", r"\+"), here)
    assert "GPU-hours: not calibrated (NVIDIA H200); at its peak FLOP/s, which nothing reaches, at least " in here
    known = re.search(r"[\d.,e+]+ core-hours on .*times from `parrots bench`", here)
    assert bool(known) != bool(re.search(r"assumed and not measured .*: [\d.,]+ GPU-hours on NVIDIA H200", here))
    there = said(
        capsys, name, "--scale", scale, "--device", "h200", "--mfu", "dense=.4,moe=.2", "--step-ms", "5", "--results", none
    )
    hours = float(
        re.search(r"^([\d.,]+) GPU-hours on NVIDIA H200,? .*5 ms a step at least", there, re.MULTILINE)[1].replace(",", "")
    )
    assert hours >= 0.995 * 0.005 * sum(cell.trial.training.steps for cell in cells) / 3600


@pytest.mark.parametrize("name", documents())
def test_a_laptop_does_its_scale_in_half_an_hour_on_two_slots_of_the_machine_that_was_measured(name, tmp_path):
    measured, *_ = calibration.load()
    assert plan_of(find(name, "laptop"), tmp_path / "none", slots=2, timer=measured.seconds).wall_s() <= 30 * 60


@pytest.mark.parametrize("name", FIGURES)
def test_what_one_gpu_does_fits_calls_of_nine_minutes_and_twenty_in_all_as_far_as_is_assumed(capsys, tmp_path, name):
    found = find(name, "h200")
    made = assumed.calls([assumed.cell_s(cell, H200) for cell in found.cells])
    assert 1 <= made.number <= 4
    assert assumed.CALL_S + made.begin_for + max(made.seconds) <= 9 * 60
    assert made.total_s <= 20 * 60
    told = said(capsys, name, "--scale", "h200", "--device", "h200", "--results", str(tmp_path / "none"))
    assert "assumed and not measured (a launch 10 us, " in told
    assert f"--begin-for {made.begin_for}`, {made.number} times, " in told
    assert ("--keep none" in told) == (found.keep == "none")
    assert "does not fit" not in told


@pytest.mark.parametrize("name", FIGURES)
def test_what_one_gpu_does_says_what_it_is_not(capsys, tmp_path, name):
    told = said(capsys, name, "--scale", "h200", "--results", str(tmp_path / "none"))
    assert found_note(name) in told.splitlines()
    if any(cell.trial.training.batch_size == 4096 for cell in find(name, "h200").cells):
        assert "not the paper's batch" in found_note(name)
    assert not find(name, "laptop").note


def found_note(name: str) -> str:
    note = find(name, "h200").note
    assert note
    return note


def test_a_cell_longer_than_a_call_is_told(capsys, tmp_path):
    told = said(capsys, "figure4a", "--scale", "paper", "--device", "h200", "--results", str(tmp_path / "none"))
    assert "no call of 9 minutes is long enough for the longest cell" in told
    assert "--begin-for" not in told


def test_an_assumed_step_is_launched_or_computed_whichever_takes_longer(make_trial):
    small, large = make_trial(), make_trial({"kind": "dense", "d_ff": 40_000}, batch_size=4000)
    launched = assumed.LAUNCH_S * (100 * small.model.n_layers + 80)
    assert assumed.step_s(small, H200) == pytest.approx(launched)
    assert assumed.step_s(make_trial({"kind": "moe", "d_ff": 16, "n_experts": 4}), H200) > launched
    at_least = large.flops / large.training.steps / (0.3 * H200.peak["float32"])
    assert at_least < assumed.step_s(large, H200) < 10 * at_least
    assert assumed.step_s(large, H200) > 100 * launched
    assert math.isfinite(assumed.step_s(large, H200))
