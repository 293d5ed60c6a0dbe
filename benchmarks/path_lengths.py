"""The edge probability at which reachable pairs of G(n, p) are 3.5 apart, as arXiv 2410.19034 asks, in each reading of that.

    python benchmarks/path_lengths.py [--out benchmarks/results/path_lengths.md]

Ours: edges, pooled over reachable ordered pairs s != t, on the supercritical branch; where no p gets that far, the p that
gets farthest. The others are printed beside it. Common random numbers, 20,000 graphs a point.
"""

from collections.abc import Callable

import numpy as np
from bench import Table, arguments
from scipy.optimize import brentq

from parrots.graphs import lengths

GRAPHS = 20_000
SIZES = (25, 30, 35, 40, 45, 50, 55)


def peak(mean: Callable[[float], float], n: int) -> float:
    """The p at which the mean is largest: the top of the parabola through its highest points of a grid, noise and all."""
    p = np.linspace(0.8, 3.2, 49) / n
    heights = np.array([mean(one) for one in p])
    near = np.abs(p - p[heights.argmax()]) < 0.35 / n
    bend, slope, _ = np.polyfit(p[near], heights[near], 2)
    return float(-slope / (2 * bend))


def root(mean: Callable[[float], float], target: float, low: float, high: float) -> float | None:
    """Where the mean crosses the target between two p, if it does."""
    if (mean(low) - target) * (mean(high) - target) > 0:
        return None
    return float(brentq(lambda p: mean(p) - target, low, high, xtol=1e-6))


def main() -> None:
    """Print the table, and write it where asked."""
    args = arguments(__doc__)
    table = Table(
        "Edge probability for a mean shortest path of 3.5",
        f"{GRAPHS:,} graphs a point. c = p (n - 1) is the mean degree.",
        ("n", "p (ours)", "c", "mean", "reachable", "p, sparse branch", "p, mean over graphs", "p, counting vertices"),
    )
    for n in SIZES:

        def pooled(p: float, n: int = n) -> float:
            return lengths(0, n, p, GRAPHS)[0]

        def by_graph(p: float, n: int = n) -> float:
            return lengths(0, n, p, GRAPHS)[1]

        top = peak(pooled, n)
        ours = root(pooled, 3.5, top, 8 / n) or top
        others = (
            root(pooled, 3.5, 0.3 / n, top),
            root(by_graph, 3.5, peak(by_graph, n), 8 / n),
            root(pooled, 2.5, top, 12 / n),
        )
        mean, _, share = lengths(0, n, ours, GRAPHS)
        told = ("never" if p is None else f"{p:.5f}" for p in others)
        table.row(n, f"{ours:.5f}", f"{ours * (n - 1):.3f}", f"{mean:.3f}", f"{share:.1%}", *told)
    table.keep(args.out)


if __name__ == "__main__":
    main()
