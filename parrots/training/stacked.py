"""Several trials of one shape trained side by side in one process, each to the weights that it would find alone.

They may differ in learning rate, weight decay, initial deviation and seed; every step is one forward and one backward pass over
all their batches. It pays where a step is launches rather than arithmetic (benchmarks/results/stacked-*.md).
"""

import hashlib
import json
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.optim.adamw import adamw

from parrots.compiling import resolved
from parrots.frozen import canonical_json
from parrots.models.config import MoE
from parrots.models.stacked import stack, unstack
from parrots.models.transformer import Transformer
from parrots.placement import Placement, Progress
from parrots.spec import Trial
from parrots.tasks.task import Examples
from parrots.training.batches import MicroBatch, Share, shares, split
from parrots.training.checkpoint import CURVES
from parrots.training.curves import NO_ROUTERS, Curves, Step
from parrots.training.optim import lr_at
from parrots.training.parallel import precision, prepare, synchronize
from parrots.training.resume import Resumable
from parrots.training.routing import auxiliary, entropies, rows
from parrots.training.trainer import Trained, divergence

# K trials, B examples of one, S tokens, C counted tokens, L layers, G balancing groups of all, E experts

SMALL = 96_000  # tokens of a stack's step times width
FEWEST, MOST = 4, 8  # trials of a stack: two gain next to nothing
IGNORED = -100  # a target that cross_entropy leaves out


def shape(trial: Trial) -> str:
    """What trials that are trained side by side have in common: everything but what `trial_id` tells of these four."""
    model = trial.model.model_copy(update={"init_std": 1.0})
    training = trial.training.model_copy(update={"lr": 1.0, "weight_decay": 0.0})
    return canonical_json(trial.model_copy(update={"model": model, "training": training, "seed": 0}))


def obstacle(trial: Trial, place: Placement) -> str:
    """Why this trial is trained alone here, or nothing."""
    if isinstance(trial.model.ffn, MoE) and trial.model.ffn.router == "expert_choice":
        return "experts that choose are not stacked"
    if trial.is_balanced and trial.training.balance_by == "step_before":
        return "balance_by='step_before': its counts are those of one trial"
    if place.world > 1:
        return f"{place.world} workers share one trial"
    if place.micro_batch and place.micro_batch < trial.training.batch_size:
        return f"micro_batch={place.micro_batch} is less than training.batch_size={trial.training.batch_size}"
    return ""


def worthwhile(trial: Trial, place: Placement) -> int:
    """How many such trials to train side by side, by benchmarks/results/stacked-cpu.md: it pays while a stack's step is small.

    On a GPU one, until that has been measured too.
    """
    if place.device != "cpu":
        return 1
    number = min(MOST, SMALL // (trial.tokens // trial.training.steps * trial.model.d_model))
    return number if number >= FEWEST else 1


def groups(trials: Iterable[Trial], place: Placement) -> list[list[int]]:
    """Which of the trials go together: stacks of at most `place.stack`, each where its first stands; the others alone."""
    found: list[list[int]] = []
    open_by_shape: dict[str, list[int]] = {}
    for index, trial in enumerate(trials):
        most = worthwhile(trial, place) if place.stack is None else place.stack
        if most == 1 or obstacle(trial, place):
            found.append([index])
            continue
        group = open_by_shape.get(shape(trial))
        if group is None or len(group) == most:
            group = open_by_shape[shape(trial)] = []
            found.append(group)
        group.append(index)
    return found


def train_stacked(
    models: Sequence[Transformer], trials: Sequence[Trial], examples: Examples, place: Placement
) -> list[Trained]:
    """Train each of `models` in place, as `trainer.train` would, all at once; they have not been through `prepare`.

    A trial that diverges keeps the weights that it has, and the others go on. Seconds are a trial's share of the clock's
    until its end. ValueError where the trials differ in more than they may, or cannot be stacked in this place. Out of
    memory is raised: there are fewer trials to a stack, not fewer examples to a micro-batch.
    """
    if len({shape(trial) for trial in trials}) > 1:
        raise ValueError("stacked trials may differ in learning rate, weight decay, init_std and seed only")
    if why := obstacle(trials[0], place):
        raise ValueError(f"cannot be stacked: {why}")
    K, steps, place = len(trials), trials[0].training.steps, resolved(trials[0], place, len(trials))
    every = math.ceil(steps / 100)
    whole = stack(models)
    prepare(whole, place)
    whole.train()
    optimizer = StackedAdamW(whole, trials)
    curves = [Curves(place) for _ in trials]
    alarms: list[str] = []
    going = Resumable(name_of(trials), lambda: optimizer.tensors(whole), curves, place)
    done = going.state
    ended = restored(done.arrays, curves)
    following = zip(*(shares(trial, examples, place, done.examples) for trial in trials), strict=True)
    for step, each in enumerate(following, start=done.step + 1):
        did = gradients(whole, each, trials[0], place)
        norm_K = optimizer.step(step - 1, skip=ended)
        running = [k for k in range(K) if k not in ended]
        for k in running:
            curves[k].add(did[k], norm_K[k])
        if step % every and step != steps:
            going.after(step, step * trials[0].training.batch_size, remembered(trials, ended))
            continue
        loss = sum(curves[k].point() for k in running) / len(running)
        alarms += [said for k in running for said in _named(trials[k], curves[k].alarms.said) if said not in alarms]
        place.progress(Progress(step, steps, K * (trials[0].tokens * step // steps), loss, tuple(alarms), going.here_s))
        synchronize(place)
        seconds = going.seconds / K
        for k in running:
            why = divergence(curves[k].losses, trials[k].training)
            if why or step == steps:
                ended[k] = Trained(why, curves[k].alarms.said, curves[k].points, step, seconds)
        if len(ended) == K:
            break
        going.after(step, step * trials[0].training.batch_size, remembered(trials, ended))
    unstack(whole, models)
    return [ended[k] for k in range(K)]


def name_of(trials: Sequence[Trial]) -> str:
    """The name of a stack's checkpoints: that of these trials in this order."""
    return "stack-" + hashlib.sha256("".join(trial.id for trial in trials).encode()).hexdigest()[:16]


def trials_of(folder: Path) -> set[str]:
    """Ids of the trials whose checkpoints as a stack a folder holds; none if it does not tell."""
    for path in folder.glob(f"*/{CURVES}"):
        with suppress(OSError, EOFError, ValueError, KeyError, BadZipFile), np.load(path) as file:
            return set(file["trials"].tolist())
    return set()


def remembered(trials: Sequence[Trial], ended: Mapping[int, Trained]) -> dict[str, np.ndarray]:
    """For a checkpoint, the trials, and which of them have ended, why, at which step and after how long."""
    told = json.dumps([(k, one.diverged, one.steps, one.seconds) for k, one in ended.items()])
    return {"trials": np.array([trial.id for trial in trials]), "ended": np.array(told)}


def restored(arrays: Mapping[str, np.ndarray], curves: Sequence[Curves]) -> dict[int, Trained]:
    """What `remembered` was told; nothing where there was no checkpoint."""
    told = json.loads(str(arrays["ended"])) if arrays else []
    return {k: Trained(why, curves[k].alarms.said, curves[k].points, step, seconds) for k, why, step, seconds in told}


def _named(trial: Trial, alarms: Iterable[str]) -> list[str]:
    return [f"{trial.name}: {said}" for said in alarms]


def gradients(whole: Transformer, each: Sequence[Share], trial: Trial, place: Placement) -> list[Step]:
    """Put a step's gradients on the stacked weights; returns what each trial did. `trial` is any of them."""
    K, batch = len(each), together(each, place.device)
    read_K, counted_K = torch.tensor([(share.read, share.counted) for share in each]).T.to(place.device)
    with precision(trial.training, place):
        out = whole(batch.inputs_BS, at_C=batch.at_C)
    nll_C = F.cross_entropy(out.logits.float(), batch.targets_C, reduction="none", ignore_index=IGNORED)
    loss_K = nll_C.view(K, -1).sum(1) / counted_K
    if not out.routings:
        loss_K.sum().backward()
        return [Step(loss, *NO_ROUTERS) for loss in loss_K.detach()]
    rows_LGE = rows(out.routings, batch)
    # a mean over trials, added to each loss, comes K times into their sum: once a trial
    (loss_K + auxiliary(out.routings, batch, rows_LGE, read_K, trial)).sum().backward()
    rows_LKE = rows_LGE.unflatten(1, (K, -1)).sum(2)
    entropy_LK = entropies(out.routings, batch, read_K).view(len(out.routings), -1).expand(-1, K)
    return [Step(loss_K[k].detach(), rows_LKE[:, k], entropy_LK[:, k], NO_ROUTERS[2]) for k in range(K)]


def together(each: Sequence[Share], device: str) -> MicroBatch:
    """The trials' shares of a step one after another, each with balancing groups of its own, as one batch.

    A head wants as many counted tokens of each trial. Where one has fewer, a position of its own fills up, with no target.
    """
    K, n_groups = len(each), each[0].n_groups
    examples = joined([share.examples for share in each])
    counted_BS = np.concatenate([share.counted_BS for share in each])
    group_B = np.concatenate([k * n_groups + share.group_B for k, share in enumerate(each)])
    (batch,) = split(Share(examples, counted_BS, group_B, K * n_groups, 0, 0), examples.n, device)
    counted_K = [int(share.counted_BS[:, 1:].sum()) for share in each]
    if len(set(counted_K)) > 1:
        at_KC = pad_sequence(batch.at_C.split(counted_K), batch_first=True, padding_value=-1)
        own_K1 = torch.arange(K, device=device)[:, None] * (batch.inputs_BS.shape[:2].numel() // K)
        targets_KC = pad_sequence(batch.targets_C.split(counted_K), batch_first=True, padding_value=IGNORED)
        batch = batch._replace(at_C=torch.where(at_KC < 0, own_K1, at_KC).flatten(), targets_C=targets_KC.flatten())
    return batch._replace(n_trials=K)


def joined(parts: Sequence[Examples]) -> Examples:
    """The rows of all."""
    tokens_NS, answer_N, length_N = (np.concatenate(column) for column in zip(*(part[:3] for part in parts), strict=True))
    vectors = [part.vectors_NSI for part in parts if part.vectors_NSI is not None]
    return Examples(tokens_NS, answer_N, length_N, np.concatenate(vectors) if vectors else None)


class StackedAdamW:
    """For each trial clipping by its own norm, then torch's fused AdamW with its own learning rate and weight decay.

    AdamW works on views of each trial's slices, through its function: K optimizer objects would cost three times as much.
    """

    def __init__(self, whole: Transformer, trials: Sequence[Trial]):
        self.trainings = [trial.training for trial in trials]
        self.weights = [weight for weight in whole.parameters() if weight.requires_grad]
        self.slices = by_trial([weight.detach() for weight in self.weights])
        self.moments = [[torch.zeros_like(weight) for weight in self.weights] for _ in range(2)]
        self.means, self.squares = map(by_trial, self.moments)
        self.count_KW = torch.zeros(len(trials), len(self.weights), device=self.weights[0].device)
        self.counts = [list(count_W.unbind()) for count_W in self.count_KW]

    def tensors(self, whole: Transformer) -> dict[str, Any]:
        """All that a step changes, for a checkpoint."""
        moments = {f"{m}.{w}": tensor for m, of_weights in enumerate(self.moments) for w, tensor in enumerate(of_weights)}
        return {"model": whole.state_dict(), "moments": moments, "counts": self.count_KW}

    @torch.no_grad()
    def step(self, step: int, skip: Container[int]) -> Tensor:
        """Take step 0, 1, ... for all trials but these; returns (K,) gradient norms before clipping. Gradients are gone."""
        grads = []
        for weight in self.weights:
            assert weight.grad is not None
            grads.append(weight.grad)
            weight.grad = None
        norm_K = torch.stack([torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in grads]).norm(dim=0)
        clip_K = (self.trainings[0].clip_norm / (norm_K + 1e-6)).clamp(max=1.0)
        for grad in grads:
            grad.mul_(clip_K.view(-1, *[1] * (grad.dim() - 1)))
        for k, (training, grads_of_one) in enumerate(zip(self.trainings, by_trial(grads), strict=True)):
            if k not in skip:
                adamw(
                    self.slices[k],
                    grads_of_one,
                    self.means[k],
                    self.squares[k],
                    [],
                    self.counts[k],
                    fused=True,
                    amsgrad=False,
                    maximize=False,
                    lr=lr_at(training, step),
                    beta1=training.beta1,
                    beta2=training.beta2,
                    eps=training.eps,
                    weight_decay=training.weight_decay,
                )
        return norm_K


def by_trial(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Of each trial, views of its slices."""
    return [list(slices) for slices in zip(*(tensor.unbind() for tensor in tensors), strict=True)]
