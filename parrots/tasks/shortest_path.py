"""Shortest path in a random directed graph (arXiv 2410.19034, section 4; the task of figure 4b).

A graph on n vertices is given edge by edge in random order, then a query s, t and a shortest path between them:
`<bos> (<edge> u v)* <sep> s t / v0 v1 ... vk <eos>`, with s = v0 and t = vk; the loss is on the path. Queries are uniform
among the ordered pairs that a path joins. No graph that is tested was trained on, whatever kind of graph either was.

Graphs are Erdos-Renyi in the paper. Others with as many edges ask how a model of those does elsewhere: give the test's task
the `labels` of the trained one, and a `room` that is not larger than its own.
"""

import math
from typing import Annotated, ClassVar, Literal, Self, get_args

import numpy as np
from pydantic import Field, model_validator

from parrots.measurement import Measurement, mean, proportion
from parrots.tasks.task import Examples, Scores, Split, Task, most_successes, seed_of

PROBABILITY = {25: 0.07149, 30: 0.07710, 35: 0.07315, 40: 0.06838, 45: 0.06399, 50: 0.06010, 55: 0.05672}
"""At this edge probability, reachable pairs of Erdos-Renyi graphs are 3.5 edges apart (benchmarks/results/path_lengths.md)."""


Graph = Literal["erdos_renyi", "regular", "barabasi_albert", "watts_strogatz"]


class ShortestPath(Task):
    """Graphs on `n_vertices` whose vertices have `p * (n_vertices - 1)` edges to others on average, as near as can be."""

    kind: Literal["shortest_path"] = "shortest_path"
    version: ClassVar[int] = 3
    metrics: ClassVar[tuple[str, ...]] = (*Task.metrics, "valid_path", "tie_ceiling")
    validated: ClassVar[bool] = True
    n_vertices: Annotated[int, Field(ge=4, le=64)]
    p: Annotated[float, Field(gt=0, lt=1)] | None = None
    """By default such that reachable pairs of erdos_renyi are 3.5 edges apart on average, as in the paper."""
    graph: Graph = "erdos_renyi"
    """erdos_renyi: an edge wherever a coin of probability p says so. regular: p (n - 1), rounded, edges out of each vertex,
    to any others. barabasi_albert: each new vertex is joined to m others in proportion to the edges that they have, and a
    coin turns each edge one way; m such that there are about p n (n - 1). watts_strogatz: each vertex has edges to the next
    p (n - 1), rounded, on a ring, all clockwise, of which some are led elsewhere."""
    rewiring: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Probability that an edge of watts_strogatz is led to a uniformly random vertex."""
    labels: Annotated[int, Field(ge=4, le=64)] | None = None
    """Vertices that have a token, of which a graph has any `n_vertices`; by default just those."""
    room: Annotated[int, Field(ge=1)] | None = None
    """Tokens of the longest example, graphs that need more being drawn again; by default what almost none exceeds."""
    ties: Literal["smallest", "random"] = "smallest"
    """Which of several shortest paths is the answer: the lexicographically smallest, or any of them alike."""
    n_train: Annotated[int, Field(ge=1)]
    n_test: Annotated[int, Field(ge=1)] = 1000
    data_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.p is None and self.n_vertices not in PROBABILITY:
            known = ", ".join(map(str, PROBABILITY))
            raise ValueError(f"n_vertices={self.n_vertices}: give p; it is calibrated for {known}")
        if self.n_labels < self.n_vertices:
            raise ValueError(f"labels={self.labels}: at least n_vertices={self.n_vertices}")
        if self.graph != "watts_strogatz" and self.rewiring != 0.1:
            raise ValueError(f"rewiring={self.rewiring}: graph={self.graph!r} has none; watts_strogatz has")
        if self.room is not None and self.room < (least := self._length(self._edges(deviations=3))):
            raise ValueError(f"room={self.room}: its graphs need {least}; fewer tokens would leave only the sparse ones")
        return self

    @property
    def n_labels(self) -> int:
        """Vertices that have a token."""
        return self.n_vertices if self.labels is None else self.labels

    @property
    def edge_probability(self) -> float:
        """p, given or calibrated."""
        return PROBABILITY[self.n_vertices] if self.p is None else self.p

    @property
    def degree(self) -> int:
        """Edges that each vertex brings along, where that is a fixed number."""
        n, p = self.n_vertices, self.edge_probability
        if self.graph == "barabasi_albert":
            return min(range(1, n), key=lambda m: abs(m * (n - m) - p * n * (n - 1)))
        return max(1, round(p * (n - 1)))

    def _edges(self, deviations: int) -> int:
        """Edges of a graph: exactly, or so many standard deviations above the mean, or all there can be."""
        if self.graph != "erdos_renyi":
            return self.degree * (self.n_vertices - self.degree * (self.graph == "barabasi_albert"))
        pairs, p = self.n_vertices * (self.n_vertices - 1), self.edge_probability
        return min(pairs, math.ceil(pairs * p + deviations * (math.sqrt(pairs * p * (1 - p)) + 1)))

    def _length(self, edges: int) -> int:
        """Tokens of an example with so many edges and the longest path that there can be."""
        return 5 + 3 * edges + self.n_vertices + 1

    @property
    def most_edges(self) -> int:
        """Edges of the largest graph that is drawn."""
        most = self._edges(deviations=6)
        return most if self.room is None else min(most, (self.room - self._length(0)) // 3)

    @property
    def vocab_size(self) -> int:
        return self.n_labels + 6

    @property
    def vocabulary(self) -> list[str]:
        return [*map(str, range(self.n_labels)), "<edge>", "<bos>", "<eos>", "<pad>", "<sep>", "/"]

    @property
    def seq_len(self) -> int:
        return self._length(self.most_edges) if self.room is None else self.room

    def padded_len(self, batch: int) -> int:
        n, p = self.n_vertices, self.edge_probability
        edges = self._edges(0) if self.graph != "erdos_renyi" else most_successes(batch, n * (n - 1), p)
        far = min(n - 1, math.log(n) / math.log1p(p * (n - 1)))  # edges of a path, as in a tree of that degree
        return min(self.seq_len, round(5 + 3 * edges + far + 1))

    @property
    def n_counted(self) -> int:
        return self.n_vertices + 1

    @property
    def decoded(self) -> int:
        return self.n_vertices + 1

    def n_examples(self, split: Split) -> int:
        return self.n_train if split == "train" else self.n_test

    def make(self, split: Split) -> Examples:
        from parrots import graphs  # numba, which takes a second

        N = self.n_examples(split)
        # a byte a token: of a million graphs, memory is what takes long
        made = Examples(np.empty((N, self.seq_len), np.uint8), np.empty(N, np.int32), np.empty(N, np.int32))
        kind = get_args(Graph).index(self.graph)
        how = (self.n_vertices, self.n_labels, self.edge_probability, self.degree, self.rewiring, self.ties == "random")
        if not graphs.examples(seed_of(split, self.data_seed), split != "train", kind, *how, self.most_edges, *made[:3]):
            raise ValueError(f"n_vertices={self.n_vertices}, p={self.edge_probability:g}: no graph with a path for {split}")
        return made

    def counted(self, examples: Examples) -> np.ndarray:
        return examples.answers()

    def measure(self, examples: Examples, scores: Scores, step: int) -> list[Measurement]:
        """Also `valid_path`, whether what is decoded is any shortest path, and `tie_ceiling`.

        The ceiling is the exact match of a solver that takes any shortest path, of which the given one is 1 / their number.
        """
        assert scores.decoded_NS is not None
        edge_Nnn, ways_N, distance_N = self.solve(examples)
        each = zip(examples.tokens_NS, examples.answer_N, scores.decoded_NS, edge_Nnn, distance_N, strict=True)
        valid_N = np.array([self._is_path(*one) for one in each])
        return [
            *super().measure(examples, scores, step),
            proportion("valid_path", step, valid_N),
            mean("tie_ceiling", step, 1 / ways_N),
        ]

    def solve(self, examples: Examples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(N, n, n) whether labels are joined, (N,) how many shortest paths answer each query, (N,) how long they are."""
        n, N = self.n_labels, examples.n
        row_M, at_M = np.nonzero(examples.tokens_NS[:, :-2] == n)
        edge_Nnn = np.zeros((N, n, n))
        edge_Nnn[row_M, examples.tokens_NS[row_M, at_M + 1], examples.tokens_NS[row_M, at_M + 2]] = 1
        rows = np.arange(N)
        s_N, t_N = (examples.tokens_NS[rows, examples.answer_N - back] for back in (3, 2))
        ways_N, distance_N = np.zeros(N), np.zeros(N, int)
        walks_Nn = np.zeros((N, n))
        walks_Nn[rows, s_N] = 1
        for length in range(1, n):
            walks_Nn = np.einsum("Nu,Nuv->Nv", walks_Nn, edge_Nnn)
            found_N = (distance_N == 0) & (walks_Nn[rows, t_N] > 0)
            distance_N[found_N], ways_N[found_N] = length, walks_Nn[rows, t_N][found_N]
        return edge_Nnn, ways_N, distance_N

    def _is_path(self, tokens_S: np.ndarray, answer: int, decoded_S: np.ndarray, edge_nn: np.ndarray, distance: int) -> bool:
        """Whether decoded tokens are a path of this length from s to t along edges, and then `<eos>`."""
        path = decoded_S[: distance + 1]
        if len(decoded_S) < distance + 2 or decoded_S[distance + 1] != self.n_labels + 2 or (path >= self.n_labels).any():
            return False
        joined = path[0] == tokens_S[answer - 3] and path[-1] == tokens_S[answer - 2]
        return bool(joined and edge_nn[path[:-1], path[1:]].all())
