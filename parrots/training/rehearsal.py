"""A training step on random tokens, to measure its time and its memory without making a task's data."""

from collections.abc import Callable

import numpy as np
import torch

from parrots.models.transformer import Transformer
from parrots.placement import Placement
from parrots.spec import Trial
from parrots.tasks.task import Examples, of_one_length
from parrots.training.batches import Share
from parrots.training.live import LiveBytes
from parrots.training.optim import adamw
from parrots.training.parallel import prepare
from parrots.training.trainer import gradients


def share_of(trial: Trial) -> Share:
    """A batch of the longest examples that the trial's task can have, as many of their tokens counted as count at most."""
    task, size = trial.task, trial.training.batch_size
    draw = np.random.default_rng(0)
    examples = of_one_length(draw.integers(task.vocab_size, size=(size, task.seq_len)), answer=1)
    if task.input_dim:
        vectors = draw.standard_normal((size, task.seq_len - 1, task.input_dim), np.float32)
        examples = Examples(*examples[:3], vectors)
    counted = np.zeros((size, task.seq_len), bool)
    counted[:, task.seq_len - task.n_counted :] = True
    groups = np.arange(size) // trial.training.group_size
    return Share(examples, counted, groups, groups[-1] + 1, int(counted.sum()), size * (task.seq_len - 1))


def stepper(trial: Trial, place: Placement, model: Transformer) -> Callable[[], None]:
    """A step of the trainer on a model that stands on the device, always with the same batch."""
    prepare(model, place)
    model.train()
    optimizer, share = adamw(model, trial.training), share_of(trial)
    micro = min(place.micro_batch or trial.training.batch_size, trial.training.batch_size)

    def step() -> None:
        gradients(model, share, micro, trial, place)
        torch.nn.utils.clip_grad_norm_(model.parameters(), trial.training.clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def built(trial: Trial, place: Placement) -> Transformer:
    """The model, on the device."""
    task = trial.task
    model = Transformer(trial.model, task.vocab_size, task.seq_len - 1, place.backend, task.input_dim)
    model.initialize(trial.seed)
    return model.to(place.device)


def peak_bytes(trial: Trial, place: Placement) -> int:
    """The most bytes of tensors alive in a step whose optimizer has its state: measured, on a CPU or a GPU."""
    model = built(trial, place)
    step = stepper(trial, place, model)
    if place.device != "cpu":
        step()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated()
    with LiveBytes(list(model.parameters()), list(model.buffers())) as live:
        step()
        live.peak = live.now
        step()
    return live.peak
