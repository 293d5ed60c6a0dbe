"""The edge probability at which reachable pairs of G(n, p) are 3.5 apart, as arXiv 2410.19034 asks, in each reading of that.

    python benchmarks/path_lengths.py [--out benchmarks/results/path_lengths.md]

Ours: edges, pooled over reachable ordered pairs s != t, on the supercritical branch; where no p gets that far, the p that
gets farthest. The others are printed beside it. Each is found roughly and then read off a parabola through points of ten times
as many graphs around it, other graphs for each, so that what is printed is known to some .03 %, and a peak to some .3 %.
"""

from collections.abc import Callable

import numpy as np
from bench import Table, arguments
from scipy.optimize import brentq

from parrots.graphs import lengths

GRAPHS = 100_000  # a point of a parabola
SIZES = (25, 30, 35, 40, 45, 50, 55)
POOLED, BY_GRAPH = 0, 1  # means over all pairs, and over graphs

Mean = Callable[[float, int, int], float]
"""The mean distance at an edge probability, over so many graphs of a seed."""


def mean_of(n: int, which: int) -> Mean:
    """Of graphs on n vertices."""
    return lambda p, graphs, seed: lengths(seed, n, p, graphs)[which]


def peak(mean: Mean, n: int, graphs: int) -> float:
    """The p at which the mean is largest."""
    p = np.linspace(0.8, 3.2, 49) / n
    highest = p[np.argmax([mean(one, graphs // 10, 0) for one in p])]
    near = p[np.abs(p - highest) < 0.35 / n]
    bend, slope, _ = np.polyfit(near, [mean(one, graphs, seed) for seed, one in enumerate(near)], 2)
    return float(-slope / (2 * bend))


def root(mean: Mean, target: float, low: float, high: float, graphs: int) -> float | None:
    """Where the mean crosses the target between two p, if it does."""

    def beyond(p: float) -> float:
        return mean(p, graphs // 10, 0) - target

    if beyond(low) * beyond(high) > 0:
        return None
    start = float(brentq(beyond, low, high, xtol=1e-4))
    near = start * np.linspace(0.96, 1.04, 9)
    crossings = np.roots(np.polyfit(near / start, [mean(p, graphs, seed) - target for seed, p in enumerate(near)], 2)).real
    return float(start * crossings[np.abs(crossings - 1).argmin()])


def readings(n: int, graphs: int) -> tuple[float, list[float | None]]:
    """Our p, and those of the other readings: the sparse branch, the mean over graphs, vertices counted in place of edges."""
    pooled, by_graph = mean_of(n, POOLED), mean_of(n, BY_GRAPH)
    top, top_by_graph = (peak(mean, n, graphs // 10) for mean in (pooled, by_graph))
    others = [
        root(pooled, 3.5, 0.3 / n, top, graphs),
        root(by_graph, 3.5, top_by_graph, 8 / n, graphs),
        root(pooled, 2.5, top, 12 / n, graphs),
    ]
    return root(pooled, 3.5, top, 8 / n, graphs) or peak(pooled, n, graphs), others


def main() -> None:
    """Print the table, and write it where asked."""
    args = arguments(__doc__)
    sizes, graphs = (SIZES[:1], 1000) if args.smoke else (SIZES, GRAPHS)
    table = Table(
        "Edge probability for a mean shortest path of 3.5",
        f"{graphs:,} graphs a point. c = p (n - 1) is the mean degree.",
        ("n", "p (ours)", "c", "mean", "reachable", "p, sparse branch", "p, mean over graphs", "p, counting vertices"),
    )
    for n in sizes:
        ours, others = readings(n, graphs)
        mean, _, share = lengths(0, n, ours, graphs)
        told = ("never" if p is None else f"{p:.5f}" for p in others)
        table.row(n, f"{ours:.5f}", f"{ours * (n - 1):.3f}", f"{mean:.3f}", f"{share:.1%}", *told)
    table.keep(args.out)


if __name__ == "__main__":
    main()
