"""One step, one loop: how a trial's weights are found, by one worker or by several, with the same result."""

import math
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parrots.measurement import Measurement, mean
from parrots.models.routers import load_balance_loss
from parrots.models.transformer import Output, Transformer
from parrots.placement import Placement, Progress
from parrots.spec import Training, Trial
from parrots.tasks.store import order
from parrots.tasks.task import Examples
from parrots.training.optim import adamw, lr_at
from parrots.training.parallel import sum_over_workers, synchronize

# B examples of one worker, S tokens, C counted tokens, V vocabulary, L layers, E experts


class Batch(NamedTuple):
    """One worker's share of a step."""

    inputs_BS: Tensor
    targets_C: Tensor
    """The tokens that count, in the order of `at_C`."""
    at_C: Tensor
    """Where in the flattened inputs each is predicted."""
    counted: int
    """Counted tokens of the step over all workers."""


class Trained(NamedTuple):
    """What training leaves beside the weights."""

    diverged: str
    """Why it was ended, or nothing."""
    curve: list[Measurement]
    steps: int
    seconds: float


def train(model: Transformer, trial: Trial, examples: Examples, place: Placement) -> Trained:
    """Train `model` in place; the loss curve has about a hundred points, each the mean over the steps since the last."""
    training = trial.training
    optimizer = adamw(model, training)
    every = math.ceil(training.steps / 100)
    losses: list[Tensor] = []
    curve: list[Measurement] = []
    past: list[float] = []
    began = time.perf_counter()
    for step, batch in enumerate(batches(trial, examples, place)):
        for group in optimizer.param_groups:
            group["lr"] = lr_at(training, step)
        losses.append(train_step(model, optimizer, batch, training, place))
        if (step + 1) % every == 0 or step + 1 == training.steps:
            window = sum_over_workers(torch.stack(losses), place).cpu().numpy()
            losses.clear()
            curve.append(mean("loss", step + 1, window))
            past.extend(window.tolist())
            place.progress(Progress(step + 1, training.steps, len(past) * trial.tokens // training.steps, curve[-1].value))
            if why := divergence(past, training):
                return Trained(why, curve, step + 1, time.perf_counter() - began)
    synchronize(place)
    return Trained("", curve, training.steps, time.perf_counter() - began)


def batches(trial: Trial, examples: Examples, place: Placement) -> Iterator[Batch]:
    """This worker's share of each step; seed, step and global index alone say which examples are met when."""
    size, share = trial.training.batch_size, trial.training.batch_size // place.world
    if share * place.world != size:
        raise ValueError(f"training.batch_size={size}: must be a multiple of the {place.world} workers")
    mine = slice(place.rank * share, (place.rank + 1) * share)
    order_of = lru_cache(maxsize=2)(lambda epoch: order(trial.seed, epoch, examples.n))
    for step in range(trial.training.steps):
        epoch_B, at_B = np.divmod(np.arange(step * size, (step + 1) * size), examples.n)
        index_B = np.concatenate([order_of(e)[at_B[epoch_B == e]] for e in range(epoch_B[0], epoch_B[-1] + 1)])
        everyone = examples.take(index_B)
        counted_BS = trial.task.counted(everyone)
        tokens_BS = torch.from_numpy(everyone.tokens_NS[mine].astype(np.int64)).to(place.device)
        at_C = torch.from_numpy(counted_BS[mine, 1:].ravel().nonzero()[0]).to(place.device)
        yield Batch(tokens_BS[:, :-1], tokens_BS[:, 1:].flatten()[at_C], at_C, int(counted_BS.sum()))


def train_step(
    model: Transformer, optimizer: torch.optim.Optimizer, batch: Batch, training: Training, place: Placement
) -> Tensor:
    """One update; returns this worker's part of the mean loss over counted tokens, whose sum over workers is the loss."""
    out = model(batch.inputs_BS, at_C=batch.at_C)
    loss = F.cross_entropy(out.logits.float(), batch.targets_C, reduction="sum") / batch.counted
    # FSDP averages gradients over workers, and each worker's loss is a part of a sum.
    (loss * place.world + balance(out, training, place)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def balance(out: Output, training: Training, place: Placement) -> Tensor | float:
    """The weighted load-balancing loss, averaged over layers, with counts summed over the step's workers."""
    if not out.routings or training.load_balance == 0:
        return 0.0
    counts_LE = sum_over_workers(torch.stack([r.counts_E for r in out.routings]), place)
    losses = [load_balance_loss(r.probs_TE, counts_E) for r, counts_E in zip(out.routings, counts_LE, strict=True)]
    return training.load_balance * torch.stack(losses).mean()


def divergence(losses: list[float], training: Training) -> str:
    """Why training has failed for good, or nothing: a loss that is no number, or 100 steps worse than the first."""
    recent = losses[-100:]
    if not math.isfinite(sum(recent)):
        return f"loss is not a finite number by step {len(losses)}"
    if len(losses) >= training.warmup * training.steps + 100 and sum(recent) / 100 > losses[0] + 0.1:
        return f"mean loss {sum(recent) / 100:.3f} of 100 steps, above the first step's {losses[0]:.3f}, at step {len(losses)}"
    return ""
