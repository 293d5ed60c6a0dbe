"""Which trials are compiled and how, and that a compiler which fails costs a line and no trial."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from parrots.compiling import DEFAULT, GRAPHS, LONG, chosen, obstacle, resolved
from parrots.execution import run_trial
from parrots.placement import EAGER, Placement

from ..conftest import GRAPHS as SHORTEST
from ..conftest import MOE, make

GPU = Placement(Path(), device="cuda:1")
WIDE = {"d_model": 1024, "n_heads": 16}
LOWER = {"steps": LONG, "precision": "bfloat16"}


def wide(trial):
    return trial.model_copy(update={"model": trial.model.model_copy(update=WIDE)})


@pytest.mark.parametrize(
    ("trial", "place", "mode"),
    [
        (make(steps=LONG), Placement(Path()), EAGER),
        (make(steps=LONG - 1), GPU, EAGER),
        (make(steps=LONG), replace(GPU, world=2), EAGER),
        (make(steps=LONG), GPU, GRAPHS),
        (wide(make(steps=LONG)), GPU, DEFAULT),
        (make(MOE, **LOWER), GPU, GRAPHS),
        (make(MOE, steps=LONG), GPU, DEFAULT),
        (make({**MOE, "router": "hash"}, **LOWER), GPU, GRAPHS),
        (make({**MOE, "router": "expert_choice", "renormalize": False}, **LOWER), GPU, DEFAULT),
        (make({**MOE, "n_experts": 2048}, **LOWER), GPU, DEFAULT),
        (make(MOE, **LOWER), replace(GPU, backend="padded"), DEFAULT),
        (make(MOE, **LOWER), replace(GPU, backend="grouped"), GRAPHS),
        (make(task=SHORTEST, steps=LONG), GPU, DEFAULT),
        (make(steps=LONG), replace(GPU, micro_batch=7), DEFAULT),
        (make(steps=LONG), replace(GPU, micro_batch=5), GRAPHS),
        (make(steps=LONG), replace(GPU, micro_batch=70), GRAPHS),
        (make(steps=LONG), replace(GPU, recompute=True), DEFAULT),
    ],
)
def test_a_long_trial_on_a_gpu_is_compiled_and_a_launch_bound_one_of_fixed_shapes_a_graph(trial, place, mode):
    assert resolved(trial, place).compile == mode
    assert bool(obstacle(trial, place)) == (mode == DEFAULT and trial.model.d_model == 16)
    for said in (EAGER, DEFAULT, GRAPHS):  # what a placement says counts
        assert resolved(trial, replace(place, compile=said)).compile == said


def test_trials_side_by_side_are_eager():
    assert chosen(make(steps=LONG), GPU, side_by_side=4) == EAGER


def test_the_choice_needs_no_torch():
    code = "import sys, parrots.compiling; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_failing_compiler_costs_a_line_and_no_trial(make_trial, tmp_path, monkeypatch):
    """None that writes C++ is there: blocks run as they are written from the first step on, and the record says why."""
    from torch._inductor import config

    eager = run_trial(make_trial(MOE), Placement(tmp_path))
    monkeypatch.setattr(config, "force_disable_caches", True)
    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    torch.compiler.reset()
    compiled = run_trial(make_trial(MOE), Placement(tmp_path, compile="default"))
    assert [m.value for m in compiled.measurements] == [m.value for m in eager.measurements]
    assert compiled.status == "done"
    assert compiled.reason.startswith("not compiled: InvalidCxxCompiler: ")
    assert len(compiled.reason.splitlines()) == 1


def test_what_fails_eagerly_too_is_no_compilers_fault(make_trial, tmp_path, monkeypatch):
    from parrots.training import trainer

    def broken(*_):
        raise RuntimeError("a wrong shape")

    monkeypatch.setattr(trainer, "gradients", broken)
    with pytest.raises(RuntimeError, match="a wrong shape"):
        run_trial(make_trial(), Placement(tmp_path, compile="default"))
