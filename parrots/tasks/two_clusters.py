"""Two clusters of tokens, each with a table of its own: do two experts divide them between themselves?

A token x stands for another value y in either cluster: `<bos> a|b x y`, from two tables that were drawn once and for all. An
expert that has one cluster to itself looks x up and nothing else. The tables are learned by heart, so all of them are the test.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from parrots.measurement import Measurement, proportion
from parrots.tasks.task import Examples, Scores, Split, Task, of_one_length


class TwoClusters(Task):
    """`n_tokens` in either cluster, and as many values."""

    kind: Literal["two_clusters"] = "two_clusters"
    version: ClassVar[int] = 1
    one_length: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = (*Task.metrics, "separation")
    n_tokens: Annotated[int, Field(ge=2, le=10_000)]
    data_seed: Annotated[int, Field(ge=0)] = 0

    @property
    def vocab_size(self) -> int:
        return 2 * self.n_tokens + 3

    @property
    def vocabulary(self) -> list[str]:
        return [*(f"{kind}{i}" for kind in "xy" for i in range(self.n_tokens)), "a", "b", "<bos>"]

    @property
    def seq_len(self) -> int:
        return 4

    @property
    def routed(self) -> bool:
        return True

    @property
    def n_counted(self) -> int:
        return 1

    def n_examples(self, split: Split) -> int:
        return 2 * self.n_tokens

    def make(self, split: Split) -> Examples:
        n = self.n_tokens
        cluster_N, x_N = np.divmod(np.arange(2 * n), n)
        y_N = np.random.default_rng(self.data_seed).integers(n, size=2 * n)
        return of_one_length(np.stack([np.full(2 * n, 2 * n + 2), 2 * n + cluster_N, x_N, n + y_N], axis=1), answer=3)

    def counted(self, examples: Examples) -> np.ndarray:
        return examples.answers()

    def measure(self, examples: Examples, scores: Scores, step: int) -> list[Measurement]:
        """Also `separation`: how often the expert of x tells its cluster, guessing the one that the expert has more of.

        In the layer that separates best; .5 when experts do not care or there is one, 1 when each has one cluster.
        """
        assert scores.expert_NSL is not None
        b_N = examples.tokens_NS[:, 1] == 2 * self.n_tokens + 1
        told = [guessed(expert_N, b_N) for expert_N in scores.expert_NSL[:, 2].T] or [guessed(np.zeros(examples.n, int), b_N)]
        best = max(told, key=lambda right_N: right_N.mean())
        return [*super().measure(examples, scores, step), proportion("separation", step, best)]


def guessed(expert_N: np.ndarray, b_N: np.ndarray) -> np.ndarray:
    """Whether each token is of the cluster that its expert has more of."""
    share_E = np.bincount(expert_N, weights=b_N) / np.maximum(np.bincount(expert_N), 1)
    return (share_E[expert_N] > 0.5) == b_N
