"""Which experts a token goes to and with what weight, and what is said about that choice afterwards.

Routers have one signature: hidden states and token ids in, a `Routing` out. Nothing is stashed: losses and statistics are
computed from what a layer returns.
"""

# B batch, S sequence, T = B*S tokens, D model, V vocabulary, E experts, K experts a token, R rows (a token at an expert),
# P places that an expert has in a sequence, G balancing groups

from typing import NamedTuple

import torch
from torch import Tensor, nn

from parrots.models import fused
from parrots.models.config import MoE
from parrots.models.kernels import Linear, widened

THRESHOLD_DECAY = 0.99


class Routing(NamedTuple):
    """One layer's choice for T tokens."""

    logits_TE: Tensor | None
    """float32 at least; None where there are none (hash). Without gradient where the router is never trained."""
    probs_TE: Tensor | None
    """Their softmax over all experts."""
    token_R: Tensor | None
    """The token of each row; None where every token has K rows, in the order of the tokens."""
    expert_R: Tensor
    """The expert of each row, int64."""
    weight_R: Tensor
    """What that expert's output is multiplied by."""
    counts_E: Tensor
    """Rows of each expert, int64."""
    cutoff_E: Tensor | None = None
    """Where experts chose: the least probability that each took, mean over sequences."""
    n_trials: int = 1
    """Models whose tokens and experts stand in it one after another, each with as many (parrots/models/stacked.py)."""

    def tokens(self, T: int) -> Tensor:
        """The token of each row; there may be none of either."""
        R = len(self.expert_R)
        return torch.arange(R, device=self.expert_R.device) // (R // max(T, 1)) if self.token_R is None else self.token_R


def count(index: Tensor, n: int) -> Tensor:
    """(n,) how often each of 0 to n - 1 stands in `index`; unlike bincount, without waiting for a GPU."""
    return torch.zeros(n, dtype=torch.int64, device=index.device).scatter_add_(0, index, torch.ones_like(index))


def softmax_top_k(logits_TE: Tensor, k: int, renormalize: bool) -> Routing:
    """The `k` most probable experts a token (Shazeer 2017, as in Mixtral); ties go to either."""
    logits_TE = widened(logits_TE)
    if fused.takes(logits_TE):
        probs_TE, weight_R, expert_R, counts_E = fused.TopK.apply(logits_TE, k, renormalize)
        return Routing(logits_TE, probs_TE, None, expert_R, weight_R, counts_E)
    probs_TE = logits_TE.softmax(-1)
    weights_TK, experts_TK = probs_TE.topk(k, dim=-1)
    if renormalize:
        weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True)
    expert_R = experts_TK.flatten()
    return Routing(logits_TE, probs_TE, None, expert_R, weights_TK.flatten(), count(expert_R, logits_TE.shape[1]))


class TopK(nn.Module):
    """Token choice by a linear router: learned, or drawn once and fixed (`random`)."""

    def __init__(self, d_model: int, ffn: MoE):
        super().__init__()
        self.ffn = ffn
        self.linear = Linear(d_model, ffn.n_experts).requires_grad_(ffn.router == "top_k")

    def forward(self, x_BSD: Tensor, tokens_BS: Tensor) -> Routing:
        routing = softmax_top_k(self.linear(x_BSD.flatten(0, 1)), self.ffn.top_k, self.ffn.renormalize)
        if self.ffn.router == "top_k":
            return routing
        # An auxiliary loss would otherwise move the hidden states towards a matrix that means nothing.
        assert routing.logits_TE is not None and routing.probs_TE is not None
        return routing._replace(logits_TE=routing.logits_TE.detach(), probs_TE=routing.probs_TE.detach())


class ExpertChoice(nn.Module):
    """Each expert takes its most probable tokens of every sequence (arXiv 2202.09368), so load is even by construction.

    In training a choice looks at later tokens; `eval()` makes it causal: a token goes to the experts that hold it more
    probable than the least they took in training, on a running mean (arXiv 2404.02258, section 3.5, has the problem).
    """

    threshold_E: Tensor

    def __init__(self, d_model: int, ffn: MoE):
        super().__init__()
        self.ffn = ffn
        self.linear = Linear(d_model, ffn.n_experts)
        self.register_buffer("threshold_E", torch.full((ffn.n_experts,), torch.nan))

    def forward(self, x_BSD: Tensor, tokens_BS: Tensor) -> Routing:
        B, S, _ = x_BSD.shape
        E, k = self.ffn.n_experts, self.ffn.top_k
        logits_TE = widened(self.linear(x_BSD.flatten(0, 1)))
        probs_TE = logits_TE.softmax(-1)
        if not self.training:
            return self.above_threshold(logits_TE, probs_TE)
        places = max(1, round(S * k / E))
        weight_BEP, at_BEP = probs_TE.unflatten(0, (B, S)).transpose(1, 2).topk(places, dim=-1)
        token_R = (at_BEP + S * torch.arange(B, device=x_BSD.device)[:, None, None]).flatten()
        expert_R = torch.arange(E, device=x_BSD.device)[:, None].expand_as(at_BEP).flatten()
        cutoff_E = weight_BEP[..., -1].detach().mean(0)
        return Routing(logits_TE, probs_TE, token_R, expert_R, weight_BEP.flatten(), count(expert_R, E), cutoff_E)

    def above_threshold(self, logits_TE: Tensor, probs_TE: Tensor) -> Routing:
        """The causal choice. ValueError before any training, which is where the thresholds come from."""
        if self.threshold_E.isnan().any():
            raise ValueError("router='expert_choice': no thresholds yet; they are learned in training")
        token_R, expert_R = (probs_TE >= self.threshold_E).nonzero(as_tuple=True)
        counts_E = count(expert_R, self.ffn.n_experts)
        return Routing(logits_TE, probs_TE, token_R, expert_R, probs_TE[token_R, expert_R], counts_E)

    def learn(self, cutoff_E: Tensor) -> None:
        """Take a step's mean cutoff into the running mean."""
        first = self.threshold_E.isnan()
        self.threshold_E.lerp_(cutoff_E, 1 - THRESHOLD_DECAY)
        self.threshold_E[first] = cutoff_E[first]


class Hash(nn.Module):
    """The token's id decides (arXiv 2106.04426): K different experts from a table drawn once, each with weight 1 / K."""

    table_VK: Tensor

    def __init__(self, vocab_size: int, ffn: MoE):
        super().__init__()
        self.ffn = ffn
        self.register_buffer("table_VK", torch.zeros(vocab_size, ffn.top_k, dtype=torch.int64))

    def draw(self, generator: torch.Generator) -> None:
        """Fill the table."""
        keys_VE = torch.rand(len(self.table_VK), self.ffn.n_experts, generator=generator, device=generator.device)
        self.table_VK.copy_(keys_VE.argsort(1)[:, : self.ffn.top_k])

    def forward(self, x_BSD: Tensor, tokens_BS: Tensor) -> Routing:
        expert_R = self.table_VK[tokens_BS.flatten()].flatten()
        weight_R = torch.full(expert_R.shape, 1 / self.ffn.top_k, device=x_BSD.device)
        return Routing(None, None, None, expert_R, weight_R, count(expert_R, self.ffn.n_experts))


def build_router(d_model: int, vocab_size: int, ffn: MoE) -> TopK | ExpertChoice | Hash:
    """The router that the spec names."""
    match ffn.router:
        case "top_k" | "random":
            return TopK(d_model, ffn)
        case "expert_choice":
            return ExpertChoice(d_model, ffn)
        case "hash":
            return Hash(vocab_size, ffn)


def load_balance_loss(probs_TE: Tensor, counts_GE: Tensor, k: int, group_T: Tensor | None = None) -> Tensor:
    """Switch auxiliary loss, eq. 4 of arXiv 2101.03961, of each balancing group, averaged over groups; 1.0 when balanced.

    probs_TE: router probabilities of the tokens at hand, which have `k` experts each. counts_GE: rows sent to each expert
    over the whole of each group. group_T: the group of each token, G for one that has none (padding); None: one group for all.
    What micro-batches and workers get adds up to the loss, however they share the tokens out. (With counts that each takes
    from its own tokens alone, two workers drift from one by 2e-3 over 20 steps.)
    """
    G, E = counts_GE.shape
    rows_G1 = counts_GE.sum(1, keepdim=True).clamp(min=1)
    # E * share of rows * mean probability; the mean is over rows / k tokens
    slope_GE = E * k / G * counts_GE / rows_G1.square()
    if group_T is not None:
        slope_GE = nn.functional.pad(slope_GE, (0, 0, 0, 1))[group_T]
    return (probs_TE * slope_GE).sum()


def z_loss(logits_TE: Tensor) -> Tensor:
    """(T,) squared log-partition of each token (ST-MoE, arXiv 2202.08906, eq. 5), which keeps router logits small."""
    return logits_TE.logsumexp(-1).square()
