"""What a training does with its time: a trace of some of its steps to open, and the operators that take most of them."""

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, schedule

from parrots.compiling import resolved
from parrots.placement import Placement
from parrots.spec import Trial
from parrots.tasks.store import load
from parrots.training.checkpoint import Stopped
from parrots.training.parallel import prepare
from parrots.training.trainer import train
from parrots.training.weights import initial

WARM = 5  # steps before the recorded ones: allocators fill, kernels are chosen


class Operator(NamedTuple):
    """One of torch's operators in the recorded steps."""

    name: str
    calls: int
    seconds: float
    """On the device, without what it called."""


class Profile(NamedTuple):
    """What was recorded."""

    steps: int
    step_s: float
    """Seconds of a recorded step, the recording's own cost included."""
    operators: list[Operator]
    """Those that took most, first."""


class _Steps:
    """Asked after each step: tells the profiler, and ends the training after the last that is recorded."""

    def __init__(self, profiler: torch.profiler.profile, last: int):
        self.profiler, self.last, self.at = profiler, last, [time.perf_counter()]

    def __call__(self) -> bool:
        self.at.append(time.perf_counter())  # before the last of these writes the trace
        self.profiler.step()
        return len(self.at) > self.last


def profile(trial: Trial, place: Placement, steps: int, trace: Path) -> Profile:
    """Train until so many steps are recorded and write them to `trace`, gzipped JSON; leaves no record and no checkpoint.

    ValueError if the trial is too short to have any after the first WARM.
    """
    recorded = min(steps, trial.training.steps - 1 - WARM)
    if recorded < 1:
        raise ValueError(
            f"training.steps={trial.training.steps}: a profile takes {WARM + 2} at least, {WARM} of them to warm up"
        )
    examples = load(trial.task, "train", place.data)
    place = resolved(trial, place)
    model = initial(trial, place)
    prepare(model, place)
    trace.parent.mkdir(parents=True, exist_ok=True)
    on_gpu = place.device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(
        activities=activities,
        schedule=schedule(wait=0, warmup=WARM, active=recorded, repeat=1),
        on_trace_ready=lambda done: done.export_chrome_trace(str(trace)),
        record_shapes=True,
        acc_events=True,
    ) as profiler:
        stop = _Steps(profiler, WARM + recorded)
        with suppress(Stopped):
            train(model, trial, examples, replace(place, checkpoints=None, stop=stop))
    took = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    found = [
        Operator(one.key, one.count, getattr(one, took) / 1e6)
        for one in profiler.key_averages()
        if not one.key.startswith("ProfilerStep")
    ]
    found.sort(key=lambda one: -one.seconds)
    return Profile(recorded, (stop.at[WARM + recorded] - stop.at[WARM]) / recorded, found)
