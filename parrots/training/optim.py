"""The optimizer and its learning rate at each step."""

import math

import torch
from torch import nn

from parrots.spec import Training


def adamw(model: nn.Module, training: Training) -> torch.optim.AdamW:
    """Fused AdamW over all weights alike: norms and embeddings decay too, as in OLMoE."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=training.lr,
        betas=(training.beta1, training.beta2),
        eps=training.eps,
        weight_decay=training.weight_decay,
        fused=True,
    )


def lr_at(training: Training, step: int) -> float:
    """Learning rate of step 0, 1, ...: up over the warm-up, then down to zero just after the last step."""
    rising = training.warmup * training.steps
    if step + 1 <= rising:
        return training.lr * (step + 1) / rising
    left = (training.steps - step) / (training.steps - max(rising, 1) + 1)
    return training.lr * (left if training.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))
