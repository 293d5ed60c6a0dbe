"""Which experts a token goes to and with what weight, and what is said about that choice afterwards.

Nothing is stashed: a layer returns its `Routing`, and losses and statistics are computed from it.
"""

# T tokens, E experts, K experts a token

from typing import NamedTuple

import torch
from torch import Tensor


class Routing(NamedTuple):
    """One layer's choice for T tokens."""

    probs_TE: Tensor
    """Softmax of the router logits over all experts, float32."""
    weights_TK: Tensor
    """What each chosen expert's output is multiplied by."""
    experts_TK: Tensor
    """The chosen experts, best first, int64."""
    counts_E: Tensor
    """Tokens sent to each expert, int64; sums to T * K."""


def softmax_top_k(logits_TE: Tensor, k: int, renormalize: bool) -> Routing:
    """The `k` most probable experts a token (Shazeer 2017, as in Mixtral); ties go to either."""
    probs_TE = logits_TE.float().softmax(-1)
    weights_TK, experts_TK = probs_TE.topk(k, dim=-1)
    if renormalize:
        weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True)
    counts_E = torch.bincount(experts_TK.flatten(), minlength=logits_TE.shape[1])
    return Routing(probs_TE, weights_TK, experts_TK, counts_E)


def load_balance_loss(probs_TE: Tensor, counts_E: Tensor) -> Tensor:
    """Switch auxiliary loss, eq. 4 of arXiv 2101.03961; 1.0 when balanced.

    probs_TE: router probabilities of this worker's tokens. counts_E: tokens sent to each expert over the whole
    balancing group, so that N workers give what one would (per-worker balancing drifts by 2e-3 over 20 steps).
    """
    share_E = counts_E / counts_E.sum()
    return probs_TE.shape[1] * (share_E * probs_TE.mean(0)).sum()
