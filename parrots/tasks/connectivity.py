"""Connectivity: does a path join s and t (the task of, among others, Sanford et al. 2024, arXiv 2405.18512)?

The vertices fall at random into two halves of the same size, each a connected random graph; s and t are any two of one half
(yes) or of both (no), as often. The graph is drawn before the question and knows nothing of it, and s and t are each uniform
over all vertices, so that neither edges nor degrees tell the answer: `<bos> (<edge> u v)* <sep> s t yes|no`.
"""

import math
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from parrots.tasks.task import Examples, Split, Task, most_successes, seed_of


class Connectivity(Task):
    """Undirected graphs on `n_vertices`, an edge wherever a coin says so between vertices of the same half."""

    kind: Literal["connectivity"] = "connectivity"
    version: ClassVar[int] = 1
    validated: ClassVar[bool] = True
    n_vertices: Annotated[int, Field(ge=6, le=64)]
    """Even."""
    mean_degree: Annotated[float, Field(ge=1)] = 2.5
    """Edges of a vertex on average, before the halves that are not connected are thrown away (which leaves more)."""
    n_train: Annotated[int, Field(ge=1)]
    n_test: Annotated[int, Field(ge=1)] = 1000
    data_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n_vertices % 2:
            raise ValueError(f"n_vertices={self.n_vertices}: has to be even, for two halves of the same size")
        if self.mean_degree >= (most := self.n_vertices // 2 - 1):
            where = f"for n_vertices={self.n_vertices}"
            raise ValueError(f"mean_degree={self.mean_degree}: less than n_vertices / 2 - 1 = {most} {where}")
        return self

    @property
    def p(self) -> float:
        """Probability of an edge between two vertices of one half."""
        return self.mean_degree / (self.n_vertices // 2 - 1)

    @property
    def most_edges(self) -> int:
        """Edges of the largest graph that is drawn: far above the mean, or all there can be."""
        half = self.n_vertices // 2
        pairs = half * (half - 1)
        return min(pairs, math.ceil(pairs * self.p + 8 * math.sqrt(pairs * self.p * (1 - self.p)) + 8))

    @property
    def vocab_size(self) -> int:
        return self.n_vertices + 6

    @property
    def vocabulary(self) -> list[str]:
        return [*map(str, range(self.n_vertices)), "<edge>", "<bos>", "<pad>", "<sep>", "no", "yes"]

    @property
    def seq_len(self) -> int:
        return 5 + 3 * self.most_edges

    def padded_len(self, batch: int) -> int:
        half, p = self.n_vertices // 2, self.p
        connected = p / (1 - (1 - p) ** (half - 1))  # where each vertex has an edge
        return min(self.seq_len, round(5 + 3 * most_successes(batch, half * (half - 1), connected)))

    @property
    def n_counted(self) -> int:
        return 1

    def n_examples(self, split: Split) -> int:
        return self.n_train if split == "train" else self.n_test

    def make(self, split: Split) -> Examples:
        from parrots import parts  # numba, which takes a second

        N = self.n_examples(split)
        tokens_NS, length_N = np.empty((N, self.seq_len), np.uint8), np.empty(N, np.int32)
        how = (seed_of(split, self.data_seed), split != "train", self.p, self.most_edges)
        if not parts.connectivity(*how, tokens_NS, length_N, self.n_vertices):
            raise ValueError(f"n_vertices={self.n_vertices}, mean_degree={self.mean_degree:g}: no connected graph for {split}")
        return Examples(tokens_NS, length_N - 1, length_N)

    def counted(self, examples: Examples) -> np.ndarray:
        return examples.answers()
