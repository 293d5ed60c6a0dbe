"""Undirected graphs of one part or of two, as sequences, compiled by numba. An edge is written from either end, by a coin."""

import numpy as np
from numba import njit

from parrots.graphs import PATIENCE, begin, below, bit, coins, is_held_out, lowest, shuffle


@njit(cache=True)
def is_connected(out_n: np.ndarray, part: np.uint64) -> bool:
    """Whether these vertices hang together."""
    seen = frontier = part & (~part + np.uint64(1))
    while frontier:
        reached = np.uint64(0)
        while frontier:
            reached |= out_n[lowest(frontier)]
            frontier &= frontier - np.uint64(1)
        frontier = reached & ~seen
        seen |= reached
    return seen == part


@njit(cache=True)
def write_edges(state: np.ndarray, edges: np.ndarray, row: np.ndarray) -> None:
    """`(<edge> u v)*` from position 1 on, in random order, each from either end."""
    for e in range(len(edges) - 1, -1, -1):
        j, turned = below(state, e + 1), below(state, 2)
        at = 1 + 3 * (len(edges) - 1 - e)
        row[at + 1], row[at + 2] = edges[j, turned], edges[j, 1 - turned]
        edges[j, 0], edges[j, 1] = edges[e, 0], edges[e, 1]


@njit(cache=True)
def halves(state: np.ndarray, p: float, name_n: np.ndarray, edges: np.ndarray, out_n: np.ndarray) -> int:
    """Join vertices of each half of `name_n`, each half connected; returns the edges, or -1: no room, or not connected."""
    chance, half, count = np.uint64(p * 18446744073709551616.0), len(name_n) // 2, 0
    out_n[:] = 0
    for part in (name_n[:half], name_n[half:]):
        everyone = np.uint64(0)
        for i in range(half):
            u = part[i]
            heads = coins(state, chance, everyone)
            everyone |= bit(u)
            while heads:
                if count == len(edges):
                    return -1
                v = lowest(heads)
                edges[count, 0], edges[count, 1] = u, v
                out_n[u] |= bit(v)
                out_n[v] |= bit(u)
                heads &= heads - np.uint64(1)
                count += 1
        if not is_connected(out_n, everyone):
            return -1
    return count


@njit(cache=True)
def connectivity(
    seed: int, held_out: bool, p: float, most_edges: int, tokens_NS: np.ndarray, length_N: np.ndarray, n: int
) -> bool:
    """Fill a split with `<bos> (<edge> u v)* <sep> s t yes|no`; yes for every other example. False if no graph is found."""
    EDGE, BOS, PAD, SEP, NO = n, n + 1, n + 2, n + 3, n + 4
    edges, name_n = np.empty((most_edges, 2), np.uint8), np.arange(n)
    out_n, state = np.zeros(n, np.uint64), np.zeros(1, np.uint64)
    for i in range(len(tokens_NS)):
        begin(state, seed, held_out, i)
        name_n[:] = np.arange(n)
        count = -1
        for _ in range(PATIENCE):
            shuffle(state, name_n, n)
            count = halves(state, p, name_n, edges, out_n)
            if count > 0 and is_held_out(out_n) == held_out:
                break
            count = -1
        if count < 0:
            return False
        row, yes = tokens_NS[i], i % 2
        row[:] = PAD
        row[1 : 1 + 3 * count : 3] = EDGE
        write_edges(state, edges[:count], row)
        s = below(state, n)
        t = below(state, n // 2 - yes)  # of the same half, without s, or of the other
        t += yes * (t >= s % (n // 2))
        t += n // 2 * ((s >= n // 2) == yes)
        at = 1 + 3 * count
        row[0], row[at], row[at + 1], row[at + 2], row[at + 3] = BOS, SEP, name_n[s], name_n[t], NO + yes
        length_N[i] = at + 4
    return True


@njit(cache=True)
def cycles(seed: int, held_out: bool, tokens_NS: np.ndarray, n: int) -> bool:
    """Fill a split with `<bos> (<edge> u v)* <sep> one|two`; one for every other example. False if no graph is found."""
    EDGE, BOS, SEP, TWO = n, n + 1, n + 2, n + 3
    edges, name_n = np.empty((n, 2), np.uint8), np.arange(n)
    out_n, state = np.zeros(n, np.uint64), np.zeros(1, np.uint64)
    for i in range(len(tokens_NS)):
        begin(state, seed, held_out, i)
        name_n[:] = np.arange(n)
        one, found = i % 2, False
        length = n if one else n // 2
        for _ in range(PATIENCE):
            shuffle(state, name_n, n)
            out_n[:] = 0
            for j in range(n):
                u, v = name_n[j], name_n[j // length * length + (j + 1) % length]
                edges[j, 0], edges[j, 1] = u, v
                out_n[u] |= bit(v)
                out_n[v] |= bit(u)
            found = is_held_out(out_n) == held_out
            if found:
                break
        if not found:
            return False
        row = tokens_NS[i]
        row[1 : 1 + 3 * n : 3] = EDGE
        write_edges(state, edges, row)
        row[0], row[1 + 3 * n], row[2 + 3 * n] = BOS, SEP, TWO + one
    return True
