"""Cycle: is a graph one cycle through all vertices, or two through half of them each?

The theory papers' "one cycle or two" problem (cf. Sanford et al. 2024, arXiv 2402.09268: under its conjecture, log depth is
needed), undirected: every vertex has two edges either way, so that only what hangs together tells. (Of directed cycles the
parity of a permutation would.) Edges come in random order, each from either end: `<bos> (<edge> u v)* <sep> one|two`.
"""

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from parrots.tasks.task import Examples, Split, Task, of_one_length, seed_of


class Cycle(Task):
    """`n_vertices` on one cycle or, as often, on two."""

    kind: Literal["cycle"] = "cycle"
    version: ClassVar[int] = 1
    one_length: ClassVar[bool] = True
    validated: ClassVar[bool] = True
    n_vertices: Annotated[int, Field(ge=8, le=64)]
    """Even. Of six there are 70 graphs, too few to hold some out."""
    n_train: Annotated[int, Field(ge=1)]
    n_test: Annotated[int, Field(ge=1)] = 1000
    data_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n_vertices % 2:
            raise ValueError(f"n_vertices={self.n_vertices}: has to be even, for two cycles of the same length")
        return self

    @property
    def vocab_size(self) -> int:
        return self.n_vertices + 5

    @property
    def vocabulary(self) -> list[str]:
        return [*map(str, range(self.n_vertices)), "<edge>", "<bos>", "<sep>", "two", "one"]

    @property
    def seq_len(self) -> int:
        return 3 + 3 * self.n_vertices

    @property
    def n_counted(self) -> int:
        return 1

    def n_examples(self, split: Split) -> int:
        return self.n_train if split == "train" else self.n_test

    def make(self, split: Split) -> Examples:
        from parrots import parts  # numba, which takes a second

        tokens_NS = np.empty((self.n_examples(split), self.seq_len), np.uint8)
        if not parts.cycles(seed_of(split, self.data_seed), split != "train", tokens_NS, self.n_vertices):
            raise ValueError(f"n_vertices={self.n_vertices}: no graph for {split}, there being too few of them")
        return of_one_length(tokens_NS, answer=self.seq_len - 1)

    def counted(self, examples: Examples) -> np.ndarray:
        return examples.answers()
