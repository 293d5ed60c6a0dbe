"""Scores of a split from teacher-forced forward passes."""

import numpy as np
import torch
import torch.nn.functional as F

from parrots.models.transformer import Transformer
from parrots.placement import Placement
from parrots.tasks.task import Examples, Scores

BATCH = 500  # examples a forward pass: a few MB of logits at these vocabularies


@torch.no_grad()
def score(model: Transformer, examples: Examples, place: Placement) -> Scores:
    """Loss and correctness of every token given the right ones before it.

    Every worker scores the whole split: sharded weights are gathered by all or by none.
    """
    nll_NS = np.zeros(examples.tokens_NS.shape, np.float32)
    right_NS = np.ones(examples.tokens_NS.shape, bool)
    for first in range(0, examples.n, BATCH):
        rows = slice(first, first + BATCH)
        tokens_BS = torch.from_numpy(examples.tokens_NS[rows].astype(np.int64)).to(place.device)
        logits_BVS = model(tokens_BS[:, :-1]).logits.float().transpose(1, 2)
        nll_NS[rows, 1:] = F.cross_entropy(logits_BVS, tokens_BS[:, 1:], reduction="none").cpu().numpy()
        right_NS[rows, 1:] = (logits_BVS.argmax(1) == tokens_BS[:, 1:]).cpu().numpy()
    return Scores(nll_NS, right_NS)
