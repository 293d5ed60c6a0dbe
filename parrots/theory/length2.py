"""Theorem 3.3 of arXiv 2410.19034: a one-layer dense transformer of width |V| tells whether a path of length 2 joins s and d.

Uniform attention adds up the neighbours of s and those of d, one coordinate a vertex; a shared neighbour is the only one that
counts twice, and a ReLU with its threshold between one and two sees it. Everything here is a weight of a real transformer
layer (embedding, softmax attention, ReLU network). Like the paper's, it has no residual stream and no norm.
"""

# B graphs, V vertices, S = 2 (V - 1) tokens, T = 2 V kinds of token, D width, F neurons

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

THRESHOLD = 1.5
"""Between one neighbourhood and two."""


@dataclass(frozen=True)
class PathTransformer:
    """Weights of one attention layer and the ReLU network that reads it."""

    embedding_TD: Tensor
    query_DD: Tensor
    key_DD: Tensor
    value_DD: Tensor
    in_FD: Tensor
    bias_F: Tensor
    out_F: Tensor

    @property
    def width(self) -> int:
        """D, the paper's m."""
        return self.embedding_TD.shape[1]

    @property
    def total(self) -> int:
        """Parameters, without the embedding."""
        parts = (self.query_DD, self.key_DD, self.value_DD, self.in_FD, self.bias_F, self.out_F)
        return sum(part.numel() for part in parts)

    def __call__(self, tokens_BS: Tensor) -> Tensor:
        """(B,) bool: is there a path? Yes where the output at the last token is positive, so attention has its query alone."""
        x_BSD = self.embedding_TD[tokens_BS]
        attended_BD = attend_last(x_BSD, self.query_DD, self.key_DD, self.value_DD)
        hidden_BF = (attended_BD @ self.in_FD.T + self.bias_F).relu()
        return hidden_BF @ self.out_F > 0


def attend_last(x_BSD: Tensor, query_DD: Tensor, key_DD: Tensor, value_DD: Tensor) -> Tensor:
    """(B, D) softmax attention of the last token over all; with query = key = 0 it is the mean of the values."""
    query_BD1 = (x_BSD[:, -1] @ query_DD)[:, :, None]
    share_BS1 = ((x_BSD @ key_DD) @ query_BD1 / x_BSD.shape[2] ** 0.5).softmax(1)
    return (share_BS1.transpose(1, 2) @ (x_BSD @ value_DD))[:, 0]


def build(V: int, threshold: float = THRESHOLD) -> PathTransformer:
    """The theorem's weights for V vertices. ValueError for V < 3: s, d and somebody between them."""
    if V < 3:
        raise ValueError(f"V={V}: at least 3 vertices")
    S, eye = 2 * (V - 1), torch.eye(V)
    nobody_is_zero = eye.clone()
    nobody_is_zero[0] = 0
    return PathTransformer(
        embedding_TD=torch.cat([nobody_is_zero, nobody_is_zero]),
        query_DD=torch.zeros(V, V),
        key_DD=torch.zeros(V, V),
        value_DD=eye,
        in_FD=S * eye,  # undoes the mean: 0, 1 or 2 in exact arithmetic
        bias_F=torch.full((V,), -threshold),
        out_F=torch.ones(V),
    )


def tokens(edge_BVV: Tensor) -> Tensor:
    """(B, S) tokens of undirected graphs (bool, symmetric): (s, i) or (s, 0) for i from 1 to V - 1, then the same of d.

    s is vertex 0 and d the last. (d, s) cannot be said, since 0 means no edge; no path of length 2 needs it.
    """
    V = edge_BVV.shape[1]
    i_S = torch.arange(1, V)
    return torch.cat([i_S * edge_BVV[:, 0, 1:], V + i_S * edge_BVV[:, V - 1, 1:]], dim=1)


def joined(edge_BVV: Tensor) -> Tensor:
    """(B,) bool, by the square of the adjacency matrix: whether a path of length 2 joins the first vertex and the last."""
    adjacency_BVV = edge_BVV.float()
    return (adjacency_BVV[:, :1] @ adjacency_BVV[:, :, -1:]).flatten() > 0


def wrong(network: PathTransformer, edge_BVV: Tensor) -> int:
    """Graphs that the network answers wrongly."""
    return int((network(tokens(edge_BVV)) != joined(edge_BVV)).sum())


def graphs_of(pairs: list[tuple[int, int]], V: int) -> Tensor:
    """(2^len(pairs), V, V) every graph that has its edges among these pairs."""
    choice_BP = (torch.arange(2 ** len(pairs))[:, None] >> torch.arange(len(pairs))) & 1 == 1
    edge_BVV = torch.zeros(len(choice_BP), V, V, dtype=torch.bool)
    for p, (u, v) in enumerate(pairs):
        edge_BVV[:, u, v] = edge_BVV[:, v, u] = choice_BP[:, p]
    return edge_BVV


def all_graphs(V: int) -> Tensor:
    """Every undirected graph on V vertices: 2^15 for six."""
    return graphs_of(list(combinations(range(V), 2)), V)


def all_neighbourhoods(V: int) -> Tensor:
    """Every subset of the edges between s or d and the others: 2^16 for ten vertices."""
    return graphs_of([(u, v) for u in (0, V - 1) for v in range(1, V - 1)], V)


def random_graphs(count: int, V: int, draw: torch.Generator) -> Tensor:
    """(count, V, V) undirected graphs G(V, p), p such that half of them have a path of length 2 from s to d."""
    p = (1 - 0.5 ** (1 / (V - 2))) ** 0.5
    upper_BVV = (torch.rand(count, V, V, generator=draw) < p).triu(1)
    return upper_BVV | upper_BVV.transpose(1, 2)
