"""Theorem 3.2 and corollary 3.4 of arXiv 2410.19034: what is lost before the experts, no expert brings back.

Attention adds up what the neighbours of s say and what those of d say, in `width` numbers. Two sets of neighbours that say the
same are not told apart by anything that follows, so the best of all read-outs can be computed: a majority among the graphs that
look alike. That takes the place of every number of experts. It is a look at some embeddings, the same for neighbours of s and
of d and summed with equal weights; the theorem is on all.
"""

# B graphs, V vertices between s and d, W width

import math

import numpy as np


def bits(V: int, largest: int) -> float:
    """Bits of one coordinate of what up to V vertices say together, with entries from 0 to `largest`."""
    return math.log2(V * largest + 1)


def least_wrong(embedding_VW: np.ndarray) -> float:
    """Share of all pairs of neighbourhoods that the best function of their summed embeddings still answers wrongly.

    embedding_VW: integers from 0, so that equal sums are equal. Theorem 3.2's argument: 2^V sets of neighbours have to say
    something different each, so 0 takes width x bits >= V.
    """
    V, W = embedding_VW.shape
    radix = 2 * V * int(embedding_VW.max()) + 1
    assert radix**W < 2**63, "two sums would share a code"
    say_V = embedding_VW.astype(np.int64) @ radix ** np.arange(W, dtype=np.int64)
    sets_A = np.arange(2**V)
    said_A = (sets_A[:, None] >> np.arange(V) & 1) @ say_V
    joined_B = (sets_A[:, None] & sets_A).ravel() > 0
    _, alike_B = np.unique((said_A[:, None] + said_A).ravel(), return_inverse=True)
    graphs, yes = np.bincount(alike_B), np.bincount(alike_B, weights=joined_B)
    return float(np.minimum(yes, graphs - yes).sum() / len(joined_B))


def widest(V: int, n_experts: int) -> float:
    """Width of the layer with so many experts (1: dense) that has the parameters of theorem 3.3's one for V vertices.

    Counted as built in `length2`: query, key, value (3 m^2) and a ReLU network of m neurons (m^2 + 2 m); an MoE has one
    such network an expert, and a router (m K). Embeddings are left out of both.
    """
    budget = 4 * V**2 + 2 * V
    square, linear = 3 + n_experts, (2 + (n_experts > 1)) * n_experts
    return (-linear + math.sqrt(linear**2 + 4 * square * budget)) / (2 * square)


def log_length(V: int) -> float:
    """log2 N: the bits of a number in theorem 3.2, for the N = 2 (V - 1) tokens that say a graph."""
    return math.log2(2 * (V - 1))


def needed(V: int) -> float:
    """Theorem 3.2's width of one head, |V| / log N, with its constant taken as 1."""
    return V / log_length(V)


def too_many(V: int) -> int:
    """The fewest experts with which the layer of as many parameters is narrower than theorem 3.2 asks."""
    low, high = 1, 2
    while widest(V, high) >= needed(V):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if widest(V, middle) >= needed(V) else (low, middle)
    return high
