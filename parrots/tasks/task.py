"""What a task is: data by global example index, which tokens count, and what a score means. No torch.

A task is one file in this folder that declares one `Task`; the file's name is its `kind`.
"""

import math
from statistics import NormalDist
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np

from parrots.frozen import Frozen
from parrots.measurement import Measurement, mean, proportion

# N examples, S tokens of the longest example, I width of an input that is no token

Split = Literal["train", "test", "validation"]
SPLITS: tuple[Split, ...] = get_args(Split)


class Examples(NamedTuple):
    """One row an example: `tokens[:answer]` is the prompt, `tokens[answer:length]` the answer, the rest padding."""

    tokens_NS: np.ndarray
    """uint16, or uint8 where the vocabulary allows it; padding may be any token and never counts."""
    answer_N: np.ndarray
    """int32."""
    length_N: np.ndarray
    """int32."""
    vectors_NSI: np.ndarray | None = None
    """float32, one fewer than tokens: what a model reads instead of them where `Task.input_dim` says so."""

    @property
    def n(self) -> int:
        """Examples held."""
        return len(self.tokens_NS)

    def take(self, at: np.ndarray | slice) -> "Examples":
        """The rows at these indices."""
        vectors_NSI = None if self.vectors_NSI is None else self.vectors_NSI[at]
        return Examples(self.tokens_NS[at], self.answer_N[at], self.length_N[at], vectors_NSI)

    def inputs(self, length: int | None = None) -> np.ndarray:
        """What a model reads of the first `length` tokens, by default all: those before the last, or their vectors."""
        before = slice((length or self.tokens_NS.shape[1]) - 1)
        read = self.tokens_NS if self.vectors_NSI is None else self.vectors_NSI
        return read[:, before].astype(np.int64 if self.vectors_NSI is None else np.float32)

    def answers(self) -> np.ndarray:
        """(N, S) True where a token belongs to the answer."""
        at_S = np.arange(self.tokens_NS.shape[1])
        return (at_S >= self.answer_N[:, None]) & (at_S < self.length_N[:, None])


def seed_of(split: Split, data_seed: int) -> int:
    """The seed of a split: one that validates is drawn as the test is, by another than any that is declared (below 2^31)."""
    return data_seed + 2**31 * (split == "validation")


def of_one_length(tokens_NS: np.ndarray, answer: int) -> Examples:
    """Examples without padding whose answers all begin at the same position."""
    n, length = tokens_NS.shape
    return Examples(tokens_NS, np.full(n, answer, np.int32), np.full(n, length, np.int32))


def most_successes(draws: int, trials: int, p: float) -> float:
    """The median of the largest of so many draws from a binomial distribution, by its normal limit."""
    below = 0.5 ** (1 / draws)
    return NormalDist(trials * p, math.sqrt(trials * p * (1 - p))).inv_cdf(below) if below < 1 else trials


class Scores(NamedTuple):
    """What one teacher-forced pass says of each token, given the right tokens before it."""

    nll_NS: np.ndarray
    """Negative log-likelihood in nats, float32; 0 at the first position, which nothing predicts."""
    right_NS: np.ndarray
    """Whether the most probable token is the given one; True at the first position."""
    decoded_NS: np.ndarray | None = None
    """What the model says after each prompt, token by token, as far as `Task.decoded`; None where that is 0."""
    expert_NSL: np.ndarray | None = None
    """The expert that each token but the last is sent to first, in each layer (no layers: dense); None unless `Task.routed`."""


class Task(Frozen):
    """Declared data and its meaning."""

    kind: str
    version: ClassVar[int]
    """Part of every trial_id: bumped when the data or the scores change meaning."""
    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "test_loss")
    """What `measure` gives."""
    validated: ClassVar[bool] = False
    """Whether there is a split that validates: not where the test asks for what was trained on, as of a book."""

    one_length: ClassVar[bool] = False
    """Whether all examples are as long as the longest, so that every step has the same shapes."""

    @property
    def vocab_size(self) -> int:
        """Tokens are 0 to vocab_size - 1."""
        raise NotImplementedError

    @property
    def vocabulary(self) -> list[str]:
        """The text of each token, without spaces; `<bos>`, `<eos>` and `<pad>` mean what they say."""
        raise NotImplementedError

    @property
    def seq_len(self) -> int:
        """S, the tokens of the longest example; a model reads at most S - 1 of them."""
        raise NotImplementedError

    def padded_len(self, batch: int) -> int:
        """Tokens of the longest of `batch` examples, to which a step pads the others: the median of steps.

        Of a step that is cut into micro-batches, or shared by workers, it is more than each of them pads to.
        """
        return self.seq_len

    @property
    def n_counted(self) -> int:
        """Tokens of an example that count in the training loss, at most."""
        return self.seq_len - 1

    @property
    def routed(self) -> bool:
        """Whether the scores ask which experts tokens are sent to."""
        return False

    @property
    def input_dim(self) -> int:
        """I, where inputs are vectors; 0 where they are tokens."""
        return 0

    @property
    def decoded(self) -> int:
        """Tokens of an answer that have to be decoded for the scores; 0 where one answer is right and one pass tells."""
        return 0

    def n_examples(self, split: Split) -> int:
        """Examples in a split."""
        raise NotImplementedError

    def make(self, split: Split) -> Examples:
        """A whole split, from the declared fields alone."""
        raise NotImplementedError

    def counted(self, examples: Examples) -> np.ndarray:
        """(N, S) True where a token counts in the training loss; never the first position."""
        raise NotImplementedError

    def measure(self, examples: Examples, scores: Scores, step: int) -> list[Measurement]:
        """Final scores of the test split: exact match of the whole answer, and the loss on the tokens that count.

        With one right answer, greedy decoding gives it exactly when every teacher-forced argmax is right, so one forward
        pass scores what decoding would.
        """
        exact_N = (scores.right_NS | ~examples.answers()).all(1)
        return [proportion("exact_match", step, exact_N), mean("test_loss", step, scores.nll_NS[self.counted(examples)])]
