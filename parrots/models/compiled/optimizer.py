"""AdamW over all weights in one call."""

from typing import Any

import numpy as np

from parrots.models.compiled.vectors import ONE, ZERO, kernel, vector


@kernel
def square(x: np.ndarray) -> Any:
    """The sum of squares of a few numbers."""
    total = ZERO
    for i in range(len(x)):
        total += x[i] * x[i]
    return total


@kernel
def norm(addresses: np.ndarray, sizes: np.ndarray) -> float:
    """Of all these vectors as one."""
    total = 0.0
    for w in range(len(sizes)):
        x = vector(addresses[w], sizes[w])
        for first in range(0, sizes[w], 4096):
            total += square(x[first : first + 4096])
    return np.sqrt(total)


@kernel
def adamw(
    at: np.ndarray, sizes: np.ndarray, clip: float, lr: float, beta1: float, beta2: float, eps: float, decay: float
) -> None:
    """A step of AdamW on gradients times `clip`: at[0] to at[4] are where weights, means, squares, gradients and steps are."""
    b1, b2, c = np.float32(1 - beta1), np.float32(beta2), np.float32(clip)
    keep, tiny = np.float32(1 - lr * decay), np.float32(eps)
    for w in range(len(sizes)):
        n, steps = sizes[w], vector(at[4, w], 1)
        steps[0] += ONE
        t = np.float64(steps[0])
        rate, root = np.float32(lr / (1 - beta1**t)), np.float32(1 / np.sqrt(1 - beta2**t))
        p, m, v, g = vector(at[0, w], n), vector(at[1, w], n), vector(at[2, w], n), vector(at[3, w], n)
        for i in range(n):
            x = g[i] * c
            mean = m[i] + b1 * (x - m[i])
            square = b2 * v[i] + (ONE - b2) * x * x
            m[i] = mean
            v[i] = square
            p[i] = p[i] * keep - rate * mean / (np.sqrt(square) * root + tiny)
