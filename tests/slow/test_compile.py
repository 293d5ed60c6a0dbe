"""torch.compile changes nothing beyond rounding. Slow: each model is compiled for most of a minute."""

import pytest

from parrots.placement import Placement
from parrots.run import run_trial

from ..conftest import MOE, make


@pytest.mark.parametrize("ffn", [None, MOE, {**MOE, "n_shared": 1, "d_ff": 10}])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_compiled_trial_is_the_eager_one(tmp_path, ffn, recompute):
    eager = run_trial(make(ffn), Placement(tmp_path)).measurements
    compiled = run_trial(make(ffn), Placement(tmp_path, compile="default", recompute=recompute)).measurements
    for one, other in zip(eager, compiled, strict=True):
        assert (one.metric, one.step) == (other.metric, other.step)
        assert one.value == pytest.approx(other.value, rel=1e-4, abs=1e-5), one
