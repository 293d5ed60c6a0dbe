"""Decoding on a CPU with a sequence to each lane of a vector: parrots/models/compiled/decoding.py, and what it is given.

All sequences read one token at a time, prompts too, so that none waits for another and prompts may differ in length.
"""

# N sequences, V vocabulary, L layers, G key-value heads, C head width, W lanes

import torch
from torch import Tensor, nn

from parrots.models import fused
from parrots.models.config import MoE
from parrots.models.moe import AUTO, COMPILED, SparseFFN
from parrots.models.routers import TopK
from parrots.models.transformer import Block, Transformer

FEWEST = 8  # sequences for which it is worth that most lanes may be empty


def take(model: Transformer, N: int) -> bool:
    """Whether N sequences are decoded faster this way: float32 on a CPU, whole weights, and only common choices."""
    c = model.config
    if N < FEWEST or c.qk_norm != "none" or torch.is_autocast_enabled("cpu") or not fused.takes(model.head.weight):
        return False
    ffns = [block.ffn for block in model.blocks]
    if any(ffn.backend not in (AUTO, COMPILED) or type(ffn.router) is not TopK for ffn in ffns if isinstance(ffn, SparseFFN)):
        return False
    return all(type(weight) is nn.Parameter and weight.is_contiguous() for weight in model.parameters())


class Lanes:
    """What N sequences have read, `capacity` tokens at most, and what the model says next."""

    def __init__(self, model: Transformer, N: int, capacity: int):
        from parrots.models import compiled

        self.kernels, self.model, self.past = compiled, model, 0
        c, ffn = model.config, model.config.ffn
        self.gated = ffn.activation == "swiglu"
        self.sparse = (ffn.d_ff, ffn.n_experts, ffn.top_k) if isinstance(ffn, MoE) else (0, 0, 0)
        self.dense = ffn.n_shared * ffn.d_ff if isinstance(ffn, MoE) else ffn.d_ff
        self.renormalize = isinstance(ffn, MoE) and ffn.renormalize
        self.addresses = torch.tensor([addresses(block) for block in model.blocks])  # type: ignore[arg-type]
        self.heads = c.n_heads, c.n_kv_heads, c.d_head
        self.resize(N, capacity)

    def resize(self, N: int, capacity: int) -> None:
        """Room for N sequences of so many tokens, which is taken four at a time."""
        self.N, blocks, M, D = N, fused.blocks(N), -(-capacity // 4) * 4, self.model.config.d_model
        (H, G, C), (F, E, K) = self.heads, self.sparse
        shape = len(self.addresses), blocks, M, G * C, fused.LANES
        self.keys, self.values = torch.empty(shape), torch.empty(shape)
        strip = self.kernels.STRIP * (max((H + 2 * G) * C, 2 * self.dense, E) + H * C) + M
        sparse = (2 * blocks + 3) * D + 2 * F + 1 if E else 0
        self.residual = torch.empty(blocks, D, fused.LANES)
        self.room = torch.empty(blocks * (D + 2 * K) + max(strip, sparse), fused.LANES)

    def spread(self, index_N: Tensor, capacity: int) -> None:
        """Let sequence n go on from where `index_N[n]` is, to read so many tokens at most."""
        before, held = self.N, [self.keys, self.values]
        self.resize(len(index_N), capacity)
        for old, new in zip(held, (self.keys, self.values), strict=True):
            L, _, M, width, _ = new.shape
            sizes = before, self.N, L, self.past, old.shape[2], M, width
            self.kernels.spread(fused.at(old), fused.at(new), fused.at(index_N), *sizes)

    def read(self, token_N: Tensor, wanted: bool) -> None:
        """One more token of each sequence; wanted: whether it will be asked what follows."""
        model, D, (H, G, C), (F, E, K) = self.model, self.model.config.d_model, self.heads, self.sparse
        L, _, M, _, _ = self.keys.shape
        assert self.past < min(M, len(model.cos)), "no room for another token"
        kept = self.keys, self.values, self.residual, self.room
        given = map(fused.at, (token_N, model.embedding.weight, self.addresses, model.cos, model.sin, *kept))
        shape = self.N, self.past, M, L, D, H, G, C, F, self.dense, E, K
        self.kernels.read(*given, *shape, self.gated, self.renormalize, model.config.norm_eps, wanted)
        self.past += 1

    def say(self, logits: bool) -> Tensor:
        """(N, V) logits of the next token of each sequence, or (N,) the most probable ones."""
        V, D = self.model.head.weight.shape
        said = torch.empty(self.N, V) if logits else torch.empty(self.N, dtype=torch.int64)
        room = torch.empty(D + V + 1, fused.LANES)
        given = (self.residual, self.model.norm.weight, self.model.head.weight, room, said)
        self.kernels.say(*(fused.at(x) for x in given), self.N, D, V, self.model.config.norm_eps, logits)
        return said


def addresses(block: Block) -> list[int]:
    """Of a layer's weights, as `decoding.read` wants them; 0 for what it has not."""
    ffn, attention = block.ffn, block.attention
    weights: list[Tensor | None] = [block.attention_norm.weight, attention.qkv.weight, attention.out.weight]
    weights.append(block.ffn_norm.weight)
    if isinstance(ffn, SparseFFN):
        assert isinstance(ffn.router, TopK)
        weights += [ffn.up_EDU, ffn.down_EFD, ffn.router.linear.weight]
    else:
        weights += [None] * 3
    dense = ffn.shared if isinstance(ffn, SparseFFN) else ffn
    weights += [dense.up.weight, dense.down.weight] if dense is not None else [None] * 2
    return [0 if weight is None else fused.at(weight) for weight in weights]
