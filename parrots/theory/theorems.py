"""The theorems in the order of the paper, each a function of sizes and seed that leaves a `Part`."""

from collections.abc import Callable

from parrots.theory import memory, reasoning
from parrots.theory.check import Part, Sizes

THEOREMS: tuple[Callable[[Sizes, int], Part], ...] = (
    reasoning.theorem_3_2,
    reasoning.theorem_3_3,
    reasoning.corollary_3_4,
    memory.lemmas,
    memory.theorem_c_9,
    memory.theorem_c_10,
    memory.theorem_3_5,
    memory.loads,
    memory.bits,
    memory.theorem_3_6,
)
