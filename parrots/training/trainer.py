"""One step, one loop: how a trial's weights are found, by one worker or by several, with the same result."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from parrots.compiling import GRAPHS
from parrots.failures import Halved
from parrots.measurement import Measurement
from parrots.models.kernels import cross_entropy
from parrots.models.transformer import Transformer
from parrots.placement import EAGER, Placement, Progress
from parrots.spec import Training, Trial
from parrots.tasks.task import Examples
from parrots.training import fits
from parrots.training.batches import MicroBatch, Share, shares, split
from parrots.training.curves import NO_ROUTERS, Alarms, Curves, Step
from parrots.training.optim import adamw, descend, lr_at
from parrots.training.parallel import least_over_workers, precision, sum_over_workers, synchronize, uncompile, whole
from parrots.training.resume import Resumable, tensors_of
from parrots.training.routing import auxiliary, cutoffs, entropies, learn_thresholds, rows, rows_before


class Trained(NamedTuple):
    """What training leaves beside the weights."""

    diverged: str
    """Why it was ended, or nothing."""
    alarms: tuple[str, ...]
    """What looked wrong on the way."""
    curves: list[Measurement]
    steps: int
    seconds: float


def train(model: Transformer, trial: Trial, examples: Examples, place: Placement) -> Trained:
    """Train `model` in place; its curves have about a hundred points, each the mean over the steps since the last.

    It goes on from its newest checkpoint. `Stopped` is raised where the placement asks for it, after writing one.

    Out of memory halves the micro-batch, and that is remembered: a worker alone goes on, one of several raises, since the
    others wait inside a collective, and all begin again with it (parrots/meeting.py; sweeps/work.py).
    """
    training = trial.training
    optimizer = adamw(model, training)
    every = math.ceil(training.steps / 100)
    curves = Curves(place)
    micro = least_over_workers(fits.known(trial, place), place)
    going = Resumable(trial.id, lambda: tensors_of(model, optimizer), [curves], place)
    done = going.state
    diverged, step, before_LE = "", done.step, first_before(trial, done.arrays, place)
    model.train()
    for step, share in enumerate(shares(trial, examples, place, done.examples), start=done.step + 1):
        for group in optimizer.param_groups:
            group["lr"] = lr_at(training, step - 1)
        did, norm, micro = take(model, optimizer, share, micro, trial, place, curves.alarms, before_LE)
        learn_thresholds(model, sum_over_workers(did.cutoff_LE, place))
        curves.add(did, norm)
        if before_LE is not None:
            before_LE = sum_over_workers(did.rows_LE, place)
        if step % every == 0 or step == training.steps:
            loss = curves.point()
            tokens = trial.tokens * step // training.steps
            place.progress(Progress(step, training.steps, tokens, loss, curves.alarms.said, going.here_s))
            if diverged := divergence(curves.losses, training):
                break
        if step < training.steps:
            going.after(step, step * training.batch_size, {} if before_LE is None else {"before": before_LE.cpu().numpy()})
    synchronize(place)
    return Trained(diverged, curves.alarms.said, curves.points, step, going.seconds)


def first_before(trial: Trial, arrays: Mapping[str, np.ndarray], place: Placement) -> Tensor | None:
    """The rows that a training's first step here is balanced by, from its checkpoint if there is one; None: by its own."""
    if not trial.is_balanced or trial.training.balance_by == "this_step":
        return None
    nothing = np.zeros((trial.model.n_layers, trial.model.n_experts), np.int64)
    return torch.from_numpy(arrays.get("before", nothing)).to(place.device)


def take(
    model: Transformer,
    optimizer: torch.optim.AdamW,
    share: Share,
    micro: int,
    trial: Trial,
    place: Placement,
    alarms: Alarms,
    before_LE: Tensor | None = None,
) -> tuple[Step, Tensor, int]:
    """One step; returns this worker's part of it, the gradient's norm and the micro-batch that fitted.

    Nothing has moved where memory runs out: in `descend` only what clips allocates, since AdamW has its state (`adamw`).
    Where compiled blocks fail, as without a compiler, a worker alone goes on with what they were compiled from.
    """
    while True:
        try:
            did = gradients(model, share, micro, trial, place, before_LE)
            return did, whole(descend(optimizer, trial.training.clip_norm)), micro
        except torch.OutOfMemoryError as error:
            if micro == 1:
                raise
            micro = math.ceil(micro / 2)
            if fits.learn(trial, micro, place) and place.world > 1:
                raise Halved(str(error)) from error
            if place.world > 1:
                raise
            if place.compile != EAGER:
                torch.compiler.reset()  # graphs of the larger shape hold memory of their own
        except Exception as error:
            if place.world > 1 or not uncompile(model):
                raise
            alarms.eager(error)
        optimizer.zero_grad()


def gradients(
    model: Transformer, share: Share, micro: int, trial: Trial, place: Placement, before_LE: Tensor | None = None
) -> Step:
    """Add a step's gradients to the weights, from micro-batches of at most `micro` examples; returns this worker's part.

    before_LE: rows of each expert in the step before, over all workers, where load is balanced by them.
    """
    if place.compile == GRAPHS:
        torch.compiler.cudagraph_mark_step_begin()  # graphs may overwrite what the step before left
    batches = split(share, micro, place.device)
    known_LGE = None if before_LE is None else rows_before(before_LE, share.read, trial)
    if trial.counts_first(micro, share.examples.n):
        # A group reaches over micro-batches: one pass to count its rows, before those that learn from them.
        with torch.no_grad(), precision(trial.training, place):
            counted = [rows(model(b.inputs_BS, at_C=b.at_C[:0]).routings, b) for b in batches]
        known_LGE = sum_over_workers(torch.stack(counted).sum(0), place)
    parts = [micro_step(model, batch, share, known_LGE, trial, place) for batch in batches]
    if len(parts) == 1:
        return parts[0]
    return Step(*(torch.stack(values).sum(0) for values in zip(*parts, strict=True)))


def micro_step(
    model: Transformer, batch: MicroBatch, share: Share, known_LGE: Tensor | None, trial: Trial, place: Placement
) -> Step:
    """One forward and backward pass; returns its part of the step."""
    with precision(trial.training, place):
        out = model(batch.inputs_BS, at_C=batch.at_C)
    loss = cross_entropy(out.logits.float(), batch.targets_C) / share.counted
    if not out.routings:
        (loss * place.world).backward()
        return Step(loss.detach(), *NO_ROUTERS)
    rows_LGE = rows(out.routings, batch)
    if trial.is_balanced and known_LGE is None:
        known_LGE = sum_over_workers(rows_LGE, place)
    extra = auxiliary(out.routings, batch, rows_LGE if known_LGE is None else known_LGE, share.read, trial)
    # FSDP averages gradients over workers, and each worker's loss is a part of a sum.
    ((loss + extra) * place.world).backward()
    cutoff_LE = cutoffs(out.routings, len(batch.inputs_BS) / trial.training.batch_size)
    return Step(loss.detach(), rows_LGE.sum(1), entropies(out.routings, batch, share.read), cutoff_LE)


def divergence(losses: list[float], training: Training) -> str:
    """Why training has failed for good, or nothing: a loss that is no number, or 100 steps worse than the first."""
    recent = losses[-100:]
    if not math.isfinite(sum(recent)):
        return f"loss is not a finite number by step {len(losses)}"
    if len(losses) >= training.warmup * training.steps + 100 and sum(recent) / 100 > losses[0] + 0.1:
        return f"mean loss {sum(recent) / 100:.3f} of 100 steps, above the first step's {losses[0]:.3f}, at step {len(losses)}"
    return ""
