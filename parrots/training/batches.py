"""Which examples each step meets, this worker's share of them, and its micro-batches."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from parrots.placement import Placement
from parrots.spec import Trial
from parrots.tasks.store import order
from parrots.tasks.task import Examples

# B examples, S tokens, T = B*S tokens that a model reads, C counted tokens, G balancing groups


class Share(NamedTuple):
    """One worker's share of a step."""

    examples: Examples
    counted_BS: np.ndarray
    """True where a token counts in the loss."""
    group_B: np.ndarray
    """The balancing group of each example."""
    n_groups: int
    counted: int
    """Counted tokens of the step over all workers."""
    read: int
    """Tokens of the step that predict another, over all workers; the others count as padding."""


class MicroBatch(NamedTuple):
    """What one forward pass takes."""

    inputs_BS: Tensor
    """Tokens, or (B, S, I) vectors."""
    targets_C: Tensor
    """The tokens that count, in the order of `at_C`."""
    at_C: Tensor
    """Where in the flattened inputs each is predicted."""
    group_T: Tensor | None
    """The balancing group of each token, G for padding; None when there is one group and no padding."""
    n_groups: int
    n_trials: int = 1
    """Trials whose batches stand in it one after another (parrots/training/stacked.py)."""

    def total(self, value_T: Tensor) -> Tensor:
        """The sum over tokens that are not padding; of each trial where there are several."""
        if self.group_T is not None:
            value_T = value_T * (self.group_T < self.n_groups)
        return value_T.sum() if self.n_trials == 1 else value_T.unflatten(0, (self.n_trials, -1)).sum(1)


def shares(trial: Trial, examples: Examples, place: Placement, met: int = 0) -> Iterator[Share]:
    """This worker's share of each step; seed, step and global index alone say which examples are met when.

    met: examples that were met before, a whole number of steps.
    """
    size, own = trial.training.batch_size, trial.training.batch_size // place.world
    if own * place.world != size:
        raise ValueError(f"training.batch_size={size}: must be a multiple of the {place.world} workers")
    mine = slice(place.rank * own, (place.rank + 1) * own)
    group_B = np.arange(size) // trial.training.group_size
    order_of = lru_cache(maxsize=2)(lambda epoch: order(trial.seed, epoch, examples.n))
    for step in range(met // size, trial.training.steps):
        epoch_B, at_B = np.divmod(np.arange(step * size, (step + 1) * size), examples.n)
        index_B = np.concatenate([order_of(e)[at_B[epoch_B == e]] for e in range(epoch_B[0], epoch_B[-1] + 1)])
        everyone = examples.take(index_B)
        counted_BS = trial.task.counted(everyone)
        read = int((everyone.length_N - 1).sum())
        yield Share(everyone.take(mine), counted_BS[mine], group_B[mine], group_B[-1] + 1, int(counted_BS.sum()), read)


def split(share: Share, micro: int, device: str) -> list[MicroBatch]:
    """The share in micro-batches of at most `micro` examples, on the device."""
    batches = []
    for first in range(0, share.examples.n, micro):
        rows = slice(first, first + micro)
        part = share.examples.take(rows)
        longest = int(part.length_N.max())  # what is padding for all is not computed
        tokens_BS = torch.from_numpy(part.tokens_NS[:, :longest].astype(np.int64)).to(device)
        at_C = torch.from_numpy(share.counted_BS[rows, 1:longest].ravel().nonzero()[0]).to(device)
        # the last token of an example predicts nothing; whether it is read at all depends on the others' lengths
        padding_BS = np.arange(longest - 1) >= part.length_N[:, None] - 1
        group_T = None
        if share.n_groups > 1 or padding_BS.any():
            group_T = torch.from_numpy(np.where(padding_BS, share.n_groups, share.group_B[rows, None]).ravel()).to(device)
        targets_C = tokens_BS[:, 1:].flatten()[at_C]
        inputs_BS = tokens_BS[:, :-1] if part.vectors_NSI is None else torch.from_numpy(part.inputs(longest)).to(device)
        batches.append(MicroBatch(inputs_BS, targets_C, at_C, group_T, share.n_groups))
    return batches
