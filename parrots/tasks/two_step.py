"""Two steps: does a path of length 2 join s and d, asked in the form of theorem 3.3 (arXiv 2410.19034)?

Every vertex i between them has two tokens, one that says whether s - i is an edge and one for i - d; then the answer is asked:
`<bos> (s-i | s-)* (d-i | d-)* <sep> yes|no`. s and d have `degree` neighbours each, of which they share one (yes) or none
(no), as often: the hard case of set disjointness, from which theorem 3.2 has its bound. No count tells the answer.
"""

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from parrots.tasks.task import SPLITS, Examples, Split, Task, of_one_length


class TwoStep(Task):
    """`n_vertices` between s and d, any of which may be a neighbour of each."""

    kind: Literal["two_step"] = "two_step"
    version: ClassVar[int] = 1
    one_length: ClassVar[bool] = True
    validated: ClassVar[bool] = True
    n_vertices: Annotated[int, Field(ge=3, le=512)]
    degree: Annotated[int, Field(ge=1)] | None = None
    """Neighbours of s, and of d; by default a third of the vertices."""
    n_train: Annotated[int, Field(ge=1)]
    n_test: Annotated[int, Field(ge=1)] = 1000
    data_seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if 2 * self.neighbours > self.n_vertices:
            raise ValueError(f"degree={self.degree}: at most half of n_vertices={self.n_vertices}, or some must be shared")
        return self

    @property
    def neighbours(self) -> int:
        """Neighbours of s, and of d."""
        return self.n_vertices // 3 if self.degree is None else self.degree

    @property
    def vocab_size(self) -> int:
        return 2 * self.n_vertices + 6

    @property
    def vocabulary(self) -> list[str]:
        vertices = range(self.n_vertices)
        return [*(f"{end}-{i}" for end in "sd" for i in vertices), "s-", "d-", "<bos>", "<sep>", "no", "yes"]

    @property
    def seq_len(self) -> int:
        return 2 * self.n_vertices + 3

    @property
    def n_counted(self) -> int:
        return 1

    def n_examples(self, split: Split) -> int:
        return self.n_train if split == "train" else self.n_test

    def make(self, split: Split) -> Examples:
        n, m, N = self.n_vertices, self.neighbours, self.n_examples(split)
        draw = np.random.default_rng([self.data_seed, SPLITS.index(split)])
        yes_N = draw.random(N) < 0.5
        # a random order of the vertices: the first m are neighbours of s, and d has the m after them, or from the last on
        rank_Nn = draw.permuted(np.tile(np.arange(n, dtype=np.int16), (N, 1)), axis=1)
        of_s_Nn = rank_Nn < m
        from_N1 = m - yes_N[:, None]
        of_d_Nn = (rank_Nn >= from_N1) & (rank_Nn < from_N1 + m)
        vertex_n, none, (bos, sep) = np.arange(n), 2 * n, (2 * n + 2, 2 * n + 3)
        parts = [np.where(of_s_Nn, vertex_n, none), np.where(of_d_Nn, n + vertex_n, none + 1)]
        ends = [np.full((N, 1), token) for token in (bos, sep)]
        answer_N1 = 2 * n + 4 + yes_N[:, None]
        return of_one_length(np.concatenate([ends[0], *parts, ends[1], answer_N1], axis=1), answer=self.seq_len - 1)

    def counted(self, examples: Examples) -> np.ndarray:
        return examples.answers()
