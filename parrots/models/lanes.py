"""Decoding on a CPU with a sequence to each lane of a vector: parrots/models/compiled/decoding.py, and what it is given.

All sequences read one token at a time, prompts too, so that none waits for another and prompts may differ in length.
"""

# N sequences, V vocabulary, L layers, G key-value heads, C head width, W lanes

import math
import threading

import torch
from torch import Tensor, nn

from parrots.models import fused
from parrots.models.config import MoE
from parrots.models.moe import AUTO, COMPILED, SparseFFN
from parrots.models.routers import TopK
from parrots.models.transformer import Block, Transformer

FEWEST = 8  # sequences for which it is worth that most lanes may be empty
LARGEST = (
    1 << 24
)  # numbers of keys and values that a thread keeps room for: a page's first touch takes a fifth of a batch's time


class Room(threading.local):
    """What the last batch's keys and values stood in, for the next one."""

    def __init__(self) -> None:
        self.free = torch.empty(0)

    def take(self, n: int) -> Tensor:
        """(at least n,) numbers, whatever they are, which are the taker's alone until they are given back."""
        if not n <= len(self.free) <= 2 * n:  # the large room is not for the few that begin
            return torch.empty(n)
        taken, self.free = self.free, torch.empty(0)
        return taken

    def give(self, room: Tensor) -> None:
        """Back, or for the first time; the largest is kept."""
        if len(self.free) < len(room) <= LARGEST:
            self.free = room


ROOM = Room()


def take(model: Transformer, N: int) -> bool:
    """Whether N sequences are decoded faster this way: float32 on a CPU, whole weights, and only common choices."""
    c = model.config
    if N < FEWEST or c.qk_norm != "none" or torch.is_autocast_enabled("cpu") or not fused.takes(model.head.weight):
        return False
    ffns = [block.ffn for block in model.blocks]
    if any(ffn.backend not in (AUTO, COMPILED) or type(ffn.router) is not TopK for ffn in ffns if isinstance(ffn, SparseFFN)):
        return False
    others = model.embedding.weight, model.norm.weight, model.head.weight
    each = (*others, *(weight for block in model.blocks for weight in weights(block) if weight is not None))
    return all(type(weight) is nn.Parameter and weight.is_contiguous() for weight in each)


class Lanes:
    """What N sequences have read, `capacity` tokens at most, and what the model says next.

    most: sequences that there will be. From as many on as there are tokens, what the first layer's attention makes of each
    token, before it is turned, is the same row for all of them.
    """

    def __init__(self, model: Transformer, N: int, capacity: int, most: int):
        from parrots.models import compiled

        self.kernels, self.model, self.past = compiled, model, 0
        c, ffn = model.config, model.config.ffn
        self.gated = ffn.activation == "swiglu"
        self.sparse = (ffn.d_ff, ffn.n_experts, ffn.top_k) if isinstance(ffn, MoE) else (0, 0, 0)
        self.dense = ffn.n_shared * ffn.d_ff if isinstance(ffn, MoE) else ffn.d_ff
        self.renormalize = isinstance(ffn, MoE) and ffn.renormalize
        self.addresses = torch.tensor([[0 if w is None else fused.at(w) for w in weights(block)] for block in model.blocks])
        self.heads = c.n_heads, c.n_kv_heads, c.d_head
        first = model.blocks[0]
        assert isinstance(first, Block)
        of_V = model.embedding.weight if most >= len(model.embedding.weight) else model.embedding.weight[:0]
        self.first = first.attention.qkv(first.attention_norm(of_V))
        self.resize(N, capacity)

    def resize(self, N: int, capacity: int) -> None:
        """Room for N sequences of so many tokens, which is taken four at a time."""
        self.N, blocks, M, D = N, fused.blocks(N), -(-capacity // 4) * 4, self.model.config.d_model
        (H, G, C), (F, E, K) = self.heads, self.sparse
        shape = len(self.addresses), blocks, M, G * C, fused.LANES
        self.kept = ROOM.take(2 * math.prod(shape))
        self.keys, self.values = self.kept[: 2 * math.prod(shape)].view(2, *shape)
        strip = self.kernels.STRIP * (max((H + 2 * G) * C, 2 * self.dense, E) + H * C) + M
        sparse = (2 * blocks + 3) * D + 2 * F + 1 if E else 0
        self.residual = torch.empty(blocks, D, fused.LANES)
        self.room = torch.empty(blocks * (D + 2 * K) + max(strip, sparse), fused.LANES)

    def spread(self, index_N: Tensor, capacity: int) -> None:
        """Let sequence n go on from where `index_N[n]` is, to read so many tokens at most."""
        before, kept, held = self.N, self.kept, [self.keys, self.values]
        self.resize(len(index_N), capacity)
        for old, new in zip(held, (self.keys, self.values), strict=True):
            L, _, M, width, _ = new.shape
            sizes = before, self.N, L, self.past, old.shape[2], M, width
            self.kernels.spread(fused.at(old), fused.at(new), fused.at(index_N), *sizes)
        ROOM.give(kept)

    def read(self, token_N: Tensor, wanted: bool) -> None:
        """One more token of each sequence; wanted: whether it will be asked what follows."""
        assert self.past < min(self.keys.shape[2], len(self.model.cos)), "no room for another token"
        self.kernels.read(fused.at(token_N), *self.given(), wanted)
        self.past += 1

    def decode(self, tokens_SN: Tensor, length_N: Tensor, new: int, stop: int, heat: float, drawn: Tensor) -> None:
        """Write in (longest prompt + new, N) tokens behind each prompt up to `new`, fewer when all have said `stop`.

        heat: one over the temperature. drawn: empty, or (tokens that are said at most, blocks, LANES) numbers in (0, 1].
        """
        V, D = self.model.head.weight.shape
        assert len(tokens_SN) <= self.keys.shape[2], "no room for so many tokens"
        said, room = torch.empty(self.N, dtype=torch.int64), torch.empty(D + V + 1, fused.LANES)
        addresses = [fused.at(x) for x in (tokens_SN, length_N, drawn, said)]
        lengths = int(length_N.min()), len(tokens_SN) - new, new, stop
        head = (fused.at(x) for x in (self.model.norm.weight, self.model.head.weight, room))
        self.kernels.decode(*addresses, *lengths, *head, V, heat, *self.given())
        ROOM.give(self.kept)

    def given(self) -> tuple[int | float, ...]:
        """What the kernels want of the model and of what was read."""
        model, (H, G, C), (F, E, K) = self.model, self.heads, self.sparse
        L, _, M, _, _ = self.keys.shape
        tensors = model.embedding.weight, self.first, self.addresses, model.cos, model.sin, self.keys, self.values
        places = [fused.at(x) for x in (*tensors, self.residual, self.room)]
        shape = self.N, self.past, M, L, model.config.d_model, H, G, C, F, self.dense, E, K
        return *places, *shape, self.gated, self.renormalize, model.config.norm_eps


def weights(block: nn.Module) -> list[Tensor | None]:
    """A layer's, as `decoding.read` wants their addresses; None for what it has not."""
    assert isinstance(block, Block)
    ffn, attention = block.ffn, block.attention
    found: list[Tensor | None] = [block.attention_norm.weight, attention.qkv.weight, attention.out.weight]
    found.append(block.ffn_norm.weight)
    if isinstance(ffn, SparseFFN):
        assert isinstance(ffn.router, TopK)
        found += [ffn.up_EDU, ffn.down_EFD, ffn.router.linear.weight]
    else:
        found += [None] * 3
    dense = ffn.shared if isinstance(ffn, SparseFFN) else ffn
    return found + ([dense.up.weight, dense.down.weight] if dense is not None else [None] * 2)
