"""Gaussian sequences: memorize an arbitrary sign for each (arXiv 2410.19034, section 3.3; theorems 3.5, 3.6 and C.9 to C.11).

A sequence is N vectors of m independent normal numbers of variance 1/m, so that a vector is as long as one-hot tokens are
and its projection starts out like an embedding. Labels are coins; a model reads the vectors and says the label after the
last of them. Nothing but the weights can tell: the test asks for sequences of the training set.
"""

import math
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from parrots.measurement import Measurement, mean
from parrots.tasks.task import Examples, Scores, Split, Task, of_one_length


class Gaussian(Task):
    """`n_sequences` of `length` vectors of width `dim`, tested on `n_test` of them."""

    kind: Literal["gaussian"] = "gaussian"
    version: ClassVar[int] = 1
    one_length: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = (*Task.metrics, "memory_bits")
    n_sequences: Annotated[int, Field(ge=1)]
    length: Annotated[int, Field(ge=1)] = 4
    """N of the paper."""
    dim: Annotated[int, Field(ge=1)] = 16
    """m of the paper."""
    n_test: Annotated[int, Field(ge=1)] = 1000
    data_seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n_test > self.n_sequences:
            raise ValueError(f"n_test={self.n_test}: at most n_sequences={self.n_sequences}, the test asks for those")
        return self

    @property
    def vocab_size(self) -> int:
        return 2

    @property
    def vocabulary(self) -> list[str]:
        return ["-1", "+1"]

    @property
    def seq_len(self) -> int:
        return self.length + 1

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def n_counted(self) -> int:
        return 1

    def n_examples(self, split: Split) -> int:
        return self.n_sequences if split == "train" else self.n_test

    def make(self, split: Split) -> Examples:
        draw = np.random.default_rng([self.data_seed, 0])
        vectors_NSI = draw.standard_normal((self.n_sequences, self.length, self.dim), np.float32)
        vectors_NSI *= self.dim**-0.5
        tokens_NS = np.zeros((self.n_sequences, self.seq_len), np.uint8)
        tokens_NS[:, -1] = draw.integers(2, size=self.n_sequences)
        examples = of_one_length(tokens_NS, answer=self.length)._replace(vectors_NSI=vectors_NSI)
        if split == "train":
            return examples
        return examples.take(np.random.default_rng([self.data_seed, 1]).choice(self.n_sequences, self.n_test, replace=False))

    def counted(self, examples: Examples) -> np.ndarray:
        return examples.answers()

    def measure(self, examples: Examples, scores: Scores, step: int) -> list[Measurement]:
        """Also `memory_bits`, what the weights hold of the labels: of each, 1 bit less its negative log-likelihood."""
        bits = mean("memory_bits", step, 1 - scores.nll_NS[:, -1].astype(np.float64) / math.log(2))
        n = self.n_sequences
        return [
            *super().measure(examples, scores, step),
            replace(bits, value=n * max(0.0, bits.value), stderr=n * bits.stderr),
        ]
