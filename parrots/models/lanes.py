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
    if N < FEWEST or c.qk_norm != "none" or not fused.takes(model.head.weight):
        return False
    ffns = [block.ffn for block in model.blocks]
    if any(ffn.backend not in (AUTO, COMPILED) or type(ffn.router) is not TopK for ffn in ffns if isinstance(ffn, SparseFFN)):
        return False
    return all(type(weight) is nn.Parameter and weight.is_contiguous() for weight in model.parameters())


class Lanes:
    """What N sequences have read, `capacity` tokens at most, and what the model says next."""

    def __init__(self, model: Transformer, N: int, capacity: int):
        from parrots.models import compiled

        self.kernels, self.model, self.N, self.capacity, self.past = compiled, model, N, capacity, 0
        c, ffn = model.config, model.config.ffn
        self.gated = ffn.activation == "swiglu"
        self.sparse = (ffn.d_ff, ffn.n_experts, ffn.top_k) if isinstance(ffn, MoE) else (0, 0, 0)
        self.dense = ffn.n_shared * ffn.d_ff if isinstance(ffn, MoE) else ffn.d_ff
        self.renormalize = isinstance(ffn, MoE) and ffn.renormalize
        self.addresses = torch.tensor([addresses(block) for block in model.blocks])  # type: ignore[arg-type]
        self.heads = c.n_heads, c.n_kv_heads, c.d_head
        self.keys, self.values = self.room(), self.room()

    def room(self) -> Tensor:
        """For keys or values, of four positions at a time."""
        _, G, C = self.heads
        return torch.empty(len(self.addresses), fused.blocks(self.N), -(-self.capacity // 4) * 4, G * C, fused.LANES)

    def spread(self, index_N: Tensor, capacity: int) -> None:
        """Let sequence n go on from where `index_N[n]` is, to read so many tokens at most."""
        before, (_, G, C) = self.N, self.heads
        self.N, self.capacity = len(index_N), capacity
        for name in ("keys", "values"):
            old, new = getattr(self, name), self.room()
            sizes = before, self.N, len(new), self.past, old.shape[2], new.shape[2], G * C
            self.kernels.spread(fused.at(old), fused.at(new), fused.at(index_N), *sizes)
            setattr(self, name, new)

    def read(self, token_N: Tensor, wanted: bool) -> None:
        """One more token of each sequence; wanted: whether it will be asked what follows."""
        model, D, (H, G, C), (F, E, K) = self.model, self.model.config.d_model, self.heads, self.sparse
        L, blocks, M, _, _ = self.keys.shape
        self.residual = torch.empty(blocks, D, fused.LANES)
        strip = self.kernels.STRIP * (max((H + 2 * G) * C, 2 * self.dense, E) + H * C) + M
        room = torch.empty(blocks * (D + 2 * K) + max(strip, 2 * D + 2 * F + 1), fused.LANES)
        embedding = model.embedding.weight
        kept = self.keys, self.values, self.residual, room
        given = map(fused.at, (token_N, embedding, self.addresses, model.cos, model.sin, *kept))
        shape = self.N, self.past, M, L, D, H, G, C, F, self.dense, E, K, len(embedding)
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
