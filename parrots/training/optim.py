"""The optimizer, its learning rate at each step, and the step itself."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from parrots.models import fused
from parrots.spec import Training

Pairs = Sequence[tuple[Tensor, Tensor]]


def adamw(model: nn.Module, training: Training) -> torch.optim.AdamW:
    """Fused AdamW over all weights alike: norms and embeddings decay too, as in OLMoE.

    Its state is there from the beginning, not from the first step on: a micro-batch fits beside it or does not fit.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=training.lr,
        betas=(training.beta1, training.beta2),
        eps=training.eps,
        weight_decay=training.weight_decay,
        fused=True,
    )
    for weight in model.parameters():
        count = torch.zeros((), dtype=torch.float32, device=weight.device)
        optimizer.state[weight] = {"step": count, "exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
    return optimizer


def descend(optimizer: torch.optim.AdamW, clip_norm: float) -> Tensor:
    """One step on gradients clipped to a norm; returns their norm before. Gradients are gone afterwards.

    On a CPU clipping is a factor within the step, which passes over each weight's four vectors once.
    """
    (group,) = optimizer.param_groups
    pairs = [(weight, weight.grad) for weight in group["params"] if weight.grad is not None]
    if pairs and all(type(w) is nn.Parameter and fused.takes_whole(w) and fused.takes_whole(g) for w, g in pairs):
        norm = compiled_step(optimizer, group, pairs, clip_norm)
    else:
        norm = torch.nn.utils.clip_grad_norm_([weight for weight, _ in pairs], clip_norm)
        optimizer.step()
    for weight, _ in pairs:
        weight.grad = None
    return norm


def compiled_step(optimizer: torch.optim.AdamW, group: dict, pairs: Pairs, clip_norm: float) -> Tensor:
    """`descend` for weights and their gradients in the kernels of parrots/models/compiled, on the optimizer's own state."""
    from parrots.models import compiled

    at, sizes = [], []
    for weight, gradient in pairs:
        state = optimizer.state[weight]
        at.append([x.data_ptr() for x in (weight, state["exp_avg"], state["exp_avg_sq"], gradient, state["step"])])
        sizes.append(weight.numel())
    addresses, lengths = np.array(at).T.copy(), np.array(sizes)
    norm = compiled.norm(addresses[3], lengths)
    clip = min(1.0, clip_norm / (norm + 1e-6))
    compiled.adamw(addresses, lengths, clip, group["lr"], *group["betas"], group["eps"], group["weight_decay"])
    for weight, gradient in pairs:
        if weight.dim() == 3:  # of experts: the largest, and wholly written each step
            fused.spare(weight, gradient)
    return torch.tensor(norm, dtype=torch.float32)


def lr_at(training: Training, step: int) -> float:
    """Learning rate of step 0, 1, ...: up over the warm-up, then down to zero just after the last step."""
    rising = training.warmup * training.steps
    if step + 1 <= rising:
        return training.lr * (step + 1) / rising
    left = (training.steps - step) / (training.steps - max(rising, 1) + 1)
    return training.lr * (left if training.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))
