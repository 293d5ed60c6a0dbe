"""Making data: a million shortest-path examples beside rustworkx and networkx, the paper's largest phone-book, and every name.

    python benchmarks/generate.py [--out benchmarks/results/generate-cpu.md]

One core. A graph's job: draw G(50, p), draw queries until a path joins one, find a shortest path and write the tokens. Peers
draw with their own generators, search from s to t, and are asked for fewer graphs. Each job has a process of its own, whose
peak of memory is the operating system's word; compiled code is loaded before. CPU seconds are user's and system's together:
on a busy machine the clock says more.
"""

import multiprocessing
import random
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import numpy as np
from bench import Table, arguments

from parrots.provenance import processor
from parrots.tasks.phonebook import N_NAMES, PhoneBook
from parrots.tasks.shortest_path import ShortestPath

N_VERTICES = 50
PEERS = {"rustworkx": 20_000, "networkx": 2_000}  # graphs


class Cost(NamedTuple):
    """What a call took."""

    cpu_s: float
    wall_s: float
    gb: float
    """The process's peak of memory."""


def ours(n: int) -> Cost:
    ShortestPath(n_vertices=N_VERTICES, n_train=10).make("train")
    return timed(lambda: ShortestPath(n_vertices=N_VERTICES, n_train=n).make("train"))


def book(n: int) -> Cost:
    return timed(lambda: PhoneBook(n_entries=n, n_test=1).make("train"))


def rustworkx(n: int) -> Cost:
    import rustworkx as rx

    def sample(seed: int) -> tuple[list, Callable[[int, int], list[int]]]:
        graph = rx.directed_gnp_random_graph(N_VERTICES, p(), seed=seed)
        return graph.edge_list(), lambda s, t: list(rx.dijkstra_shortest_paths(graph, s, t).values())

    return timed(lambda: [written(sample, seed) for seed in range(n)])


def networkx(n: int) -> Cost:
    """By the faster of its generators and its search from both ends."""
    import networkx as nx

    def sample(seed: int) -> tuple[list, Callable[[int, int], list[int]]]:
        graph = nx.fast_gnp_random_graph(N_VERTICES, p(), seed=seed, directed=True)

        def path(s: int, t: int) -> list:
            try:
                return [nx.bidirectional_shortest_path(graph, s, t)]
            except nx.NetworkXNoPath:
                return []

        return list(graph.edges), path

    return timed(lambda: [written(sample, seed) for seed in range(n)])


def p() -> float:
    """The calibrated edge probability."""
    return ShortestPath(n_vertices=N_VERTICES, n_train=1).edge_probability


def written(sample: Callable[[int], tuple[list, Callable[[int, int], list]]], seed: int) -> np.ndarray:
    """An example's tokens."""
    edges, paths = sample(seed)
    draw = random.Random(seed)  # nosec B311 # draws graphs
    found: list = []
    while not found:
        found = paths(*draw.sample(range(N_VERTICES), 2))
    edges = list(edges)
    draw.shuffle(edges)
    path = list(found[0])
    tokens = [51, *(x for edge in edges for x in (50, *edge)), 54, path[0], path[-1], 55, *path, 52]
    return np.array(tokens, np.uint8)


def timed(call: Callable[[], object]) -> Cost:
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(cpu, wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def alone(job: Callable[[int], Cost], n: int, times: int) -> Cost:
    """The best time of so many processes that do nothing else."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return min(pool.apply(job, (n,)) for _ in range(times))


def main() -> None:
    """Print the table, and write it where asked."""
    args = arguments(__doc__)
    times, part = (1, 1000) if args.smoke else (3, 1)
    table = Table(
        f"Making data: {datetime.now(UTC):%Y-%m-%d}, one core of {processor()}, numpy {np.__version__}",
        f"Shortest paths at n = {N_VERTICES}; phone-book. The best of {times}. Factor: their CPU time an example over ours.",
        ("data", "by", "examples", "CPU s", "wall s", "GB at the peak", "CPU us an example", "factor"),
    )

    def row(data: str, by: str, job: Callable[[int], Cost], n: int, base: float | None) -> float:
        n = max(1, n // part)
        cost = alone(job, n, times)
        us = 1e6 * cost.cpu_s / n
        cells = (f"{n:,}", f"{cost.cpu_s:.2f}", f"{cost.wall_s:.2f}", f"{cost.gb:.2f}", f"{us:.2f}")
        table.row(data, by, *cells, "" if base is None else f"{us / base:.1f}")
        return us

    base = row("shortest_path", "ours", ours, 1_000_000, None)
    for (name, n), job in zip(PEERS.items(), (rustworkx, networkx), strict=True):
        try:
            row("shortest_path", f"{name} {version(name)}", job, n, base)
        except PackageNotFoundError:
            table.row("shortest_path", name, "not installed", *[""] * 5)
    for entries in (1_000_000, 3_000_000, N_NAMES)[: 1 if args.smoke else None]:
        row("phonebook", "ours", book, entries, None)
    table.keep(args.out)


if __name__ == "__main__":
    main()
