"""torch.compile changes nothing beyond rounding. Slow: each model is compiled for most of a minute."""

import pytest

from parrots.execution import run_stacked, run_trial
from parrots.placement import Placement

from ..conftest import MOE, make
from ..test_benchmarks import bench


@pytest.mark.parametrize("ffn", [None, MOE, {**MOE, "n_shared": 1, "d_ff": 10}])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_compiled_trial_is_the_eager_one(tmp_path, ffn, recompute):
    eager = run_trial(make(ffn), Placement(tmp_path)).measurements
    compiled = run_trial(make(ffn), Placement(tmp_path, compile="default", recompute=recompute)).measurements
    for one, other in zip(eager, compiled, strict=True):
        assert (one.metric, one.step) == (other.metric, other.step)
        assert one.value == pytest.approx(other.value, rel=1e-4, abs=1e-5), one


@pytest.mark.parametrize("ffn", [None, MOE])
def test_compiled_trials_side_by_side_are_the_eager_ones(tmp_path, ffn):
    trials = [make(ffn, seed=seed, lr=lr) for seed, lr in ((0, 1e-2), (1, 3e-3))]
    eager, compiled = (run_stacked(trials, Placement(tmp_path, compile=mode)) for mode in ("eager", "default"))
    for one, other in zip(eager, compiled, strict=True):
        assert [m.value for m in one.measurements] == pytest.approx([m.value for m in other.measurements], rel=1e-4, abs=1e-5)


def test_the_modes_are_compared_in_a_table():
    header, _, row = [line for line in bench("compiling", "--smoke").splitlines() if line.startswith("|")]
    assert header.count("|") == row.count("|")
    assert "failed" not in row
    assert "not measured" not in row
