"""K models of one shape as one: every weight has a leading dim of trials, every batch holds the trials' batches in turn.

The forward pass is `Transformer`'s own. What multiplies by a weight is replaced by what multiplies each trial's rows by that
trial's; attention sees K times as many sequences and a sparse FFN K times as many experts, in one call each. Nothing of one
trial reaches another, not even what is not a number.
"""

# K trials, S sequence, T tokens of all trials, D model, V vocabulary, E experts of one, R rows

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parrots.models import moe
from parrots.models.kernels import Linear, rms_norm
from parrots.models.moe import SparseFFN
from parrots.models.routers import ExpertChoice, Hash, Routing, count
from parrots.models.transformer import QKNorm, RMSNorm, Transformer


def stack(models: Sequence[Transformer]) -> Transformer:
    """One transformer with copies of the weights of all, under the same names; `unstack` gives them back.

    Its tokens are (K * B, S). ValueError for expert choice, whose thresholds are learned from one trial's sequences.
    """
    whole = _stacked(models)
    if whole.config.tie_embeddings:
        whole.head.weight = whole.embedding.weight
    return whole


@torch.no_grad()
def unstack(whole: Transformer, models: Sequence[Transformer]) -> None:
    """Load each trial's weights into its model."""
    tensors = whole.state_dict()
    for k, model in enumerate(models):
        model.load_state_dict({name: tensor[k] for name, tensor in tensors.items()})


def _stacked(parts: Sequence[Any]) -> Any:
    """The same part of every model as one. What has no weight of its own stays what it is, around its stacked children."""
    first = parts[0]
    if isinstance(first, ExpertChoice):
        raise ValueError("router='expert_choice': cannot be stacked; its thresholds are learned from one trial's sequences")
    if type(first) in STACKED:
        return STACKED[type(first)](parts)
    around = copy.copy(first)
    around._modules = {name: _stacked([part.get_submodule(name) for part in parts]) for name in first._modules}
    return around


def _together(weights: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.stack([weight.detach() for weight in weights]), weights[0].requires_grad)


class Linears(nn.Module):
    """(K * N, I) to (K * N, O), or the like with more dims: each trial's rows through its own matrix."""

    def __init__(self, parts: Sequence[Linear]):
        super().__init__()
        self.weight = _together([part.weight for part in parts])  # (K, O, I)

    def forward(self, x: Tensor) -> Tensor:
        y = x.reshape(len(self.weight), -1, x.shape[-1]) @ self.weight.mT
        return y.view(*x.shape[:-1], -1)


class Embeddings(nn.Module):
    """(K * B, S) tokens to (K * B, S, D): each trial's from its own table."""

    def __init__(self, parts: Sequence[nn.Embedding]):
        super().__init__()
        self.weight = _together([part.weight for part in parts])  # (K, V, D)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(in_tables(tokens, self.weight), self.weight.flatten(0, 1))


def in_tables(tokens: Tensor, tables_KV: Tensor) -> Tensor:
    """Where the row of each token is, with the trials' tables (K, V, ...) one under another."""
    K, V = tables_KV.shape[:2]
    first_K = torch.arange(0, K * V, V, device=tokens.device)
    return (tokens.reshape(K, -1) + first_K[:, None]).view_as(tokens)


class RMSNorms(nn.Module):
    """RMS normalization over the last dim, each trial's rows by its own weights."""

    def __init__(self, parts: Sequence[RMSNorm]):
        super().__init__()
        self.weight = _together([part.weight for part in parts])  # (K, D)
        self.eps = parts[0].eps
        self.ones = torch.ones_like(parts[0].weight, requires_grad=False)  # normed as a model alone does it, to the last bit

    def forward(self, x: Tensor) -> Tensor:
        K, D = self.weight.shape
        return (rms_norm(x, self.ones, self.eps).view(K, -1, D) * self.weight[:, None]).view_as(x)


class QKNorms(nn.Module):
    """RMSNorm of queries and of keys, each trial's by its own weights."""

    def __init__(self, parts: Sequence[QKNorm]):
        super().__init__()
        self.scaled = parts[0].scaled
        self.q_weight = _together([part.q_weight for part in parts])  # (K, 2, heads, C / 2)
        self.k_weight = _together([part.k_weight for part in parts])

    def forward(self, qk: Tensor) -> Tensor:
        qk = qk.unflatten(0, (len(self.q_weight), -1))
        return self.scaled(qk, self.q_weight[:, None, None], self.k_weight[:, None, None]).flatten(0, 1)


class Hashes(nn.Module):
    """Each trial's tokens by its own table."""

    table_VK: Tensor

    def __init__(self, parts: Sequence[Hash]):
        super().__init__()
        self.ffn = parts[0].ffn
        self.register_buffer("table_VK", torch.stack([part.table_VK for part in parts]))  # of each trial

    def forward(self, x_BSD: Tensor, tokens_BS: Tensor) -> Routing:
        expert_R = self.table_VK.flatten(0, 1)[in_tables(tokens_BS, self.table_VK).flatten()].flatten()
        weight_R = torch.full(expert_R.shape, 1 / self.ffn.top_k, device=x_BSD.device)
        return Routing(None, None, None, expert_R, weight_R, count(expert_R, self.ffn.n_experts))


class SparseFFNs(nn.Module):
    """The MoE layers: one call of a backend over the experts of all trials.

    In the routing that comes back, experts are numbered within their trial, as losses and statistics want them.
    """

    def __init__(self, parts: Sequence[SparseFFN]):
        super().__init__()
        first = parts[0]
        self.backend, self.gated = first.backend, first.gated
        self.router = _stacked([part.router for part in parts])
        self.up_EDU = _together([part.up_EDU for part in parts])  # (K, E, D, U)
        self.down_EFD = _together([part.down_EFD for part in parts])
        self.shared = None if first.shared is None else _stacked([part.shared for part in parts])

    def forward(self, x_BSD: Tensor, tokens_BS: Tensor) -> tuple[Tensor, Routing]:
        routing = self.router(x_BSD, tokens_BS)
        K, E = self.up_EDU.shape[:2]
        first_K = torch.arange(0, K * E, E, device=x_BSD.device)
        expert_R = (routing.expert_R.view(K, -1) + first_K[:, None]).flatten()
        all_experts = routing._replace(expert_R=expert_R, counts_E=count(expert_R, K * E), n_trials=K)
        weights = self.up_EDU.flatten(0, 1), self.down_EFD.flatten(0, 1)
        y_BSD = moe.run(self.backend, x_BSD.flatten(0, 1), all_experts, *weights, self.gated).view_as(x_BSD)
        return (y_BSD if self.shared is None else y_BSD + self.shared(x_BSD)), routing


STACKED: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    Linear: Linears,
    nn.Embedding: Embeddings,
    RMSNorm: RMSNorms,
    QKNorm: QKNorms,
    Hash: Hashes,
    SparseFFN: SparseFFNs,
}
"""What stands in for each part that has weights of its own."""
