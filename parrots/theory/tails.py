"""Bounds that the proofs of arXiv 2410.19034, appendix C, lean on, and what is drawn beside them.

Lemmas C.6 to C.8 are read as the tails of a Gaussian vector's squared norm and of two vectors' inner product, over all n
vectors and all pairs. Their constants here are the textbook ones cited below.
"""

# B vectors, D width, E experts

import math
from typing import NamedTuple

from torch import Tensor

from parrots.theory.memorization import Experts, relu_network, wrong

DELTA = 0.01
"""Probability with which a bound may be exceeded by chance."""


def width_for(n: int, per_log: float = 32.0) -> int:
    """The width that theorem C.9 needs for n vectors: about 32 ln n."""
    return math.ceil(per_log * math.log(n))


def norm_bounds(n: int, D: int, delta: float = DELTA) -> tuple[float, float]:
    """Between which all n squared norms / D lie with probability 1 - delta (Laurent & Massart 2000, lemma 1)."""
    t = math.log(2 * n / delta) / D
    return 1 - 2 * math.sqrt(t), 1 + 2 * math.sqrt(t) + 2 * t


def inner_bound(n: int, D: int, delta: float = DELTA) -> float:
    """Below which all |inner products| / D of n vectors lie with probability 1 - delta.

    Chernoff's bound with the moment generating function of a product of two Gaussians, (1 - a^2)^(-1/2): for the best a it
    is -(a t + ln(1 - a^2) / 2) D, a = (sqrt(1 + 4 t^2) - 1) / 2 t. Solved for t by bisection.
    """
    wanted = math.log(n * (n - 1) / delta) / D  # both signs of n (n - 1) / 2 pairs
    low, high = 1e-9, 1e3
    for _ in range(100):
        t = (low + high) / 2
        a = (math.sqrt(1 + 4 * t**2) - 1) / (2 * t)
        low, high = (t, high) if a * t + math.log1p(-(a**2)) / 2 < wanted else (low, t)
    return high


def hoeffding(n: int, E: int, delta: float = DELTA) -> float:
    """The load that none of E experts exceeds with probability 1 - delta, were each of n sequences sent anywhere with 1 / E.

    Hoeffding (1963), both sides, over all experts.
    """
    return n / E + math.sqrt(n / 2 * math.log(2 * E / delta))


class Spread(NamedTuple):
    """How far n Gaussian vectors are from orthogonal, and what theorem C.9's network makes of it."""

    smallest_norm: float
    """Squared, over D; so is the next."""
    largest_norm: float
    largest_inner: float
    """Absolute, over D."""
    leaks: int
    """Neurons that another vector than their own gets through, over all vectors: 0 makes every output exact."""
    wrong: int
    """Labels."""


def spread(x_BD: Tensor, y_B: Tensor) -> Spread:
    """Measure vectors of unit variance and the network that memorizes them."""
    B, D = x_BD.shape
    network: Experts = relu_network(x_BD, y_B)
    inner_BB = x_BD @ x_BD.T
    norm_B = inner_BB.diagonal().clone()
    # a neuron lets everybody through whose inner product with its own vector is above |x|^2 - D / 2
    leaks = int((inner_BB + network.bias_EF[0, :, None] > 0).sum()) - B
    outputs_B = network(x_BD, y_B.new_zeros(B).long())
    inner_BB.fill_diagonal_(0)
    largest = float(inner_BB.abs().max()) / D
    return Spread(float(norm_B.min()) / D, float(norm_B.max()) / D, largest, leaks, wrong(outputs_B, y_B))
