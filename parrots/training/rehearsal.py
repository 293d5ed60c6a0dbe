"""A training step on random tokens, to measure its time and its memory without making a task's data."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from parrots.compiling import resolved
from parrots.models.transformer import Transformer
from parrots.placement import Placement, ignore
from parrots.spec import Trial
from parrots.tasks.task import Examples, of_one_length
from parrots.training.batches import shares
from parrots.training.live import LiveBytes
from parrots.training.optim import adamw, descend
from parrots.training.parallel import prepare
from parrots.training.trainer import gradients, train
from parrots.training.weights import initial

EPOCH = 16  # steps until examples come again


def drawn(trial: Trial, n: int, length: int) -> Examples:
    """As many random examples of this length, with as many counted tokens as the task's have at most."""
    task, draw = trial.task, np.random.default_rng(0)
    tokens = draw.integers(task.vocab_size, size=(n, length), dtype=np.uint16)
    examples = of_one_length(tokens, answer=max(1, length - task.n_counted))
    if not task.input_dim:
        return examples
    return examples._replace(vectors_NSI=draw.standard_normal((n, length - 1, task.input_dim), np.float32))


def stepper(trial: Trial, place: Placement, model: Transformer) -> Callable[[], None]:
    """A step of the trainer on a model that stands on the device, always with the same batch of the longest examples."""
    prepare(model, place)
    model.train()
    optimizer = adamw(model, trial.training)
    share = next(shares(trial, drawn(trial, trial.training.batch_size, trial.task.seq_len), place))
    micro = min(place.micro_batch or trial.training.batch_size, trial.training.batch_size)

    def step() -> None:
        gradients(model, share, micro, trial, place)
        descend(optimizer, trial.training.clip_norm)

    return step


def peak_bytes(trial: Trial, place: Placement) -> int:
    """The most bytes of tensors alive in a step whose optimizer has its state: measured, on a CPU or a GPU."""
    place = resolved(trial, place)
    model = initial(trial, place)
    if place.device != "cpu":
        step = stepper(trial, place, model)
        step()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated()
    with LiveBytes(list(model.parameters()), list(model.buffers())) as live:
        step = stepper(trial, place, model)
        step()
        live.peak = live.now
        step()
    return live.peak


def step_seconds(trial: Trial, place: Placement, at_least_s: float = 1.0) -> float:
    """Seconds of a step of the whole training loop: of this process's threads on a CPU, of the clock on a GPU.

    The least of three stretches, which last `at_least_s` together or longer.
    """
    place = resolved(trial, place)
    clock = time.process_time if place.device == "cpu" else time.perf_counter

    def stretch(steps: int) -> float:
        some = trial.training.model_copy(update={"steps": steps})
        examples = drawn(trial, min(steps, EPOCH) * trial.training.batch_size, trial.padded_len)
        model = initial(trial, place)
        prepare(model, place)
        began = clock()
        train(model, trial.model_copy(update={"training": some}), examples, replace(place, progress=ignore))
        return (clock() - began) / steps

    stretch(2)
    steps = max(3, math.ceil(at_least_s / 3 / stretch(3)))
    return min(stretch(steps) for _ in range(3))
