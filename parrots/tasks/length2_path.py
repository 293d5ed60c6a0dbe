"""Length-2 path: between which vertices does the path from s to t run (the task of arXiv 2410.19034, theorem 3.2)?

A directed graph on n vertices is given edge by edge in random order, one token an edge. A query names two vertices that
exactly one path of two edges joins; the answer is the vertex in the middle. Every graph is new, so nothing can be learned
by heart: `<bos> edge* <sep> s t m`. In training a graph may be asked several queries, each with its answer. A vertex is
another token as source, as target and as answer: told apart by position alone, they are learned several times later.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from parrots.tasks.task import SPLITS, Examples, Split, Task, of_one_length

CHUNK = 16_384  # graphs drawn together: all their edges, then all their queries, then all their orders
PLACES = 1 << 22  # n^2 a graph, of those that are worked on at once: some 100 MB, whatever n is


class Length2Path(Task):
    """Graphs on `n_vertices` of which each has `out_degree` edges to others; tested on one query a graph."""

    kind: Literal["length2_path"] = "length2_path"
    version: ClassVar[int] = 1
    one_length: ClassVar[bool] = True
    validated: ClassVar[bool] = True
    n_vertices: Annotated[int, Field(ge=3, le=128)]
    out_degree: Annotated[int, Field(ge=1)] = 3
    n_train: Annotated[int, Field(ge=1)]
    """Training graphs; steps x batch_size of them make one epoch, in which no graph is seen twice."""
    train_queries: Annotated[int, Field(ge=1)] = 1
    n_test: Annotated[int, Field(ge=1)] = 2000
    data_seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.out_degree >= self.n_vertices:
            raise ValueError(f"out_degree={self.out_degree}: less than n_vertices={self.n_vertices}")
        if self.n_vertices > 3 and self.out_degree == self.n_vertices - 1:
            paths = f"with every edge there, {self.n_vertices - 2} paths join each pair and a query has one"
            raise ValueError(f"out_degree={self.out_degree}: at most n_vertices - 2 = {self.n_vertices - 2}; {paths}")
        if self.train_queries > (most := self.n_vertices * (self.n_vertices - 1)):
            raise ValueError(f"train_queries={self.train_queries}: at most {most}, the pairs of n_vertices={self.n_vertices}")
        return self

    @property
    def vocab_size(self) -> int:
        return self.n_vertices**2 + 3 * self.n_vertices + 2

    @property
    def vocabulary(self) -> list[str]:
        n = range(self.n_vertices)
        edges = [f"{u}-{v}" for u in n for v in n]
        return [*edges, *(f"{role}{v}" for role in "stm" for v in n), "<bos>", "<sep>"]

    @property
    def seq_len(self) -> int:
        return self._length(self.train_queries)

    def _length(self, queries: int) -> int:
        return 2 + self.n_vertices * self.out_degree + 3 * queries

    @property
    def n_counted(self) -> int:
        return self.train_queries

    def n_examples(self, split: Split) -> int:
        return self.n_train if split == "train" else self.n_test

    def make(self, split: Split) -> Examples:
        draw = np.random.default_rng([self.data_seed, SPLITS.index(split)])
        queries, made = self.train_queries if split == "train" else 1, 0
        tokens_NS = np.empty((self.n_examples(split), self._length(queries)), np.uint16)
        while made < len(tokens_NS):
            part = self._draw(draw, CHUNK, queries)[: len(tokens_NS) - made]
            if not len(part):
                raise ValueError(f"train_queries={queries}: of {CHUNK:,} graphs, none has so many pairs that one path joins")
            tokens_NS[made : made + len(part)] = part
            made += len(part)
        return of_one_length(tokens_NS, answer=self._length(1) - 1)

    def _draw(self, draw: np.random.Generator, N: int, queries: int) -> np.ndarray:
        """Up to N examples, (., S) tokens: graphs with fewer than `queries` pairs that one path joins are passed over."""
        n = self.n_vertices
        heads_Nno, one_path_Nnn = np.empty((N, n, self.out_degree), np.uint8), np.empty((N, n, n), bool)
        for some in self._some(N):
            heads_Nno[some] = self._heads(draw, some.stop - some.start)
            edge_Nnn = edges_to(heads_Nno[some], n)
            one_path_Nnn[some] = np.matmul(edge_Nnn, edge_Nnn) == 1
        one_path_Nnn[:, range(n), range(n)] = False
        enough = one_path_Nnn.sum((1, 2)) >= queries
        heads_Nno, one_path_Nnn = heads_Nno[enough], one_path_Nnn[enough]
        tokens_NS = np.empty((len(heads_Nno), self._length(queries)), np.uint16)
        sep = 1 + n * self.out_degree
        tokens_NS[:, 0], tokens_NS[:, sep] = n * n + 3 * n, n * n + 3 * n + 1
        for some in self._some(len(heads_Nno)):
            tokens_NS[some, sep + 1 :] = self._asked(draw, heads_Nno[some], one_path_Nnn[some], queries)
        for some in self._some(len(heads_Nno)):
            edges_NM = (np.arange(n)[:, None] * n + heads_Nno[some]).reshape(some.stop - some.start, -1)
            tokens_NS[some, 1:sep] = draw.permuted(edges_NM, axis=1)
        return tokens_NS

    def _some(self, N: int) -> Iterator[slice]:
        """N graphs in parts that are worked on at once; what is drawn does not depend on them."""
        each = max(1, PLACES // self.n_vertices**2)
        return (slice(at, min(at + each, N)) for at in range(0, N, each))

    def _heads(self, draw: np.random.Generator, N: int) -> np.ndarray:
        """(N, n, o) to which vertices each has its edges: any others."""
        n = self.n_vertices
        keys_Nnn = draw.random((N, n, n), dtype=np.float32)
        keys_Nnn[:, range(n), range(n)] = 2  # no edge from a vertex to itself
        return np.argpartition(keys_Nnn, self.out_degree, axis=2)[:, :, : self.out_degree]

    def _asked(self, draw: np.random.Generator, heads_Nno: np.ndarray, one_path_Nnn: np.ndarray, queries: int) -> np.ndarray:
        """(N, 3Q) tokens: of the pairs that one path joins any Q, each with the vertex in the middle."""
        N, n, _ = heads_Nno.shape
        keys = np.where(one_path_Nnn.reshape(N, -1), draw.random((N, n * n), dtype=np.float32), 2)
        pairs_NQ = np.argsort(keys, axis=1)[:, :queries]
        s_NQ, t_NQ = pairs_NQ // n, pairs_NQ % n
        edge_Nnn, rows = edges_to(heads_Nno, n), np.arange(N)[:, None]
        middle_NQ = (edge_Nnn[rows, s_NQ] & edge_Nnn.transpose(0, 2, 1)[rows, t_NQ]).argmax(2)
        return n * n + np.stack([s_NQ, n + t_NQ, 2 * n + middle_NQ], axis=2).reshape(N, -1)

    def counted(self, examples: Examples) -> np.ndarray:
        counted_NS = np.zeros(examples.tokens_NS.shape, bool)
        counted_NS[:, self._length(1) - 1 :: 3] = True
        return counted_NS


def edges_to(heads_Nno: np.ndarray, n: int) -> np.ndarray:
    """(N, n, n) 1 where a vertex has an edge to another."""
    edge_Nnn = np.zeros((len(heads_Nno), n, n), np.uint8)
    np.put_along_axis(edge_Nnn, heads_Nno, 1, axis=2)
    return edge_Nnn
