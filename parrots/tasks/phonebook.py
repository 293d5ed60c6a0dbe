"""Phone-book: memorize which number belongs to which name (arXiv 2410.19034, section 4; the task of figure 4a).

An entry is `<bos> 5 letters <sep> 8 digits <eos>`; names are unique and so are numbers. The loss is on every token,
so names are learned too, and what a model has stored can be counted in bits.
"""

import math
from dataclasses import replace
from string import ascii_lowercase, digits
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from parrots.measurement import Measurement, mean
from parrots.tasks.task import Examples, Scores, Split, Task, of_one_length

LETTERS, DIGITS = 5, 8
N_NAMES, N_NUMBERS = 26**LETTERS, 10**DIGITS
BOS, EOS, SEP = 36, 37, 38
NAME, NUMBER = slice(1, 1 + LETTERS), slice(2 + LETTERS, 2 + LETTERS + DIGITS)


class PhoneBook(Task):
    """A book of `n_entries`, tested on `n_test` of its own entries."""

    kind: Literal["phonebook"] = "phonebook"
    version: ClassVar[int] = 1
    one_length: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = (*Task.metrics, "memory_bits", "number_bits", "name_bits")
    n_entries: Annotated[int, Field(ge=1, le=N_NAMES)]
    n_test: Annotated[int, Field(ge=1)] = 1000
    data_seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n_test > self.n_entries:
            raise ValueError(f"n_test={self.n_test}: at most n_entries={self.n_entries}, the test asks for names in the book")
        return self

    @property
    def vocab_size(self) -> int:
        return 39

    @property
    def vocabulary(self) -> list[str]:
        return [*ascii_lowercase, *digits, "<bos>", "<eos>", "<sep>"]

    @property
    def seq_len(self) -> int:
        return 3 + LETTERS + DIGITS

    def n_examples(self, split: Split) -> int:
        return self.n_entries if split == "train" else self.n_test

    def make(self, split: Split) -> Examples:
        draw = np.random.default_rng([self.data_seed, 0])
        names_N = draw.choice(N_NAMES, self.n_entries, replace=False)
        numbers_N = draw.choice(N_NUMBERS, self.n_entries, replace=False)
        if split == "test":
            asked = np.random.default_rng([self.data_seed, 1]).choice(self.n_entries, self.n_test, replace=False)
            names_N, numbers_N = names_N[asked], numbers_N[asked]
        tokens_NS = np.empty((len(names_N), self.seq_len), np.uint16)
        tokens_NS[:, 0], tokens_NS[:, 1 + LETTERS], tokens_NS[:, -1] = BOS, SEP, EOS
        tokens_NS[:, NAME] = names_N[:, None] // 26 ** np.arange(LETTERS)[::-1] % 26
        tokens_NS[:, NUMBER] = 26 + numbers_N[:, None] // 10 ** np.arange(DIGITS)[::-1] % 10
        return of_one_length(tokens_NS, answer=2 + LETTERS)

    def counted(self, examples: Examples) -> np.ndarray:
        counted_NS = np.ones(examples.tokens_NS.shape, bool)
        counted_NS[:, 0] = False
        return counted_NS

    def measure(self, examples: Examples, scores: Scores, step: int) -> list[Measurement]:
        """Also `memory_bits`, what the weights hold of the book, and its parts in bits an entry, `name_bits`, `number_bits`.

        Names and numbers are N draws without replacement, so the book holds log2 M!/(M - N)! bits of each (M = 26^5, 10^8),
        and a model holds what it saves of them: that less N times its negative log-likelihood, not below 0. One that knows
        the format alone holds nothing. A perfect one still spends log2 N on which name comes next, which is the order of
        the book and not the book: it holds all of it but log2 e = 1.44 bits an entry (cf. arXiv 2404.05405, theorem 3.2).
        """
        N = self.n_entries
        number_n = log2_draws(N_NUMBERS, N) / N - scores.nll_NS[:, NUMBER].sum(1, dtype=np.float64) / math.log(2)
        name_n = log2_draws(N_NAMES, N) / N - scores.nll_NS[:, NAME].sum(1, dtype=np.float64) / math.log(2)
        held_n = number_n * (number_n.mean() > 0) + name_n * (name_n.mean() > 0)
        bits = mean("memory_bits", step, held_n)
        return [
            *super().measure(examples, scores, step),
            replace(bits, value=N * bits.value, stderr=N * bits.stderr),
            mean("number_bits", step, number_n),
            mean("name_bits", step, name_n),
        ]


def log2_draws(M: int, N: int) -> float:
    """log2 of the number of ordered draws of N things out of M without replacement, M! / (M - N)!."""
    return (math.lgamma(M + 1) - math.lgamma(M - N + 1)) / math.log(2)
