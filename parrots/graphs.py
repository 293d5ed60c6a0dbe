"""Random directed graphs on at most 64 vertices and their shortest paths, a word of bits a vertex, compiled by numba.

Every example has a generator of its own, seeded with its global index, so that any part of a split can be made alone and
numbers never change with a library's.
"""

import math

import numpy as np
from numba import njit

MOST = 64  # vertices that one word holds
PATIENCE = 1_000_000  # draws for one example
HELD_OUT = 64  # one graph in so many, by a hash of its edges, is never trained on and is all that is tested


@njit(cache=True)
def mix(x: np.uint64) -> np.uint64:
    """SplitMix64's output function (Steele, Lea & Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def uniform(state: np.ndarray) -> float:
    """The next number of a generator, in (0, 1]."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    return ((mix(state[0]) >> np.uint64(11)) + np.uint64(1)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def below(state: np.ndarray, n: int) -> int:
    """A number from 0 to n - 1; the bias of 2^-53 n is far below what could be seen."""
    return min(int(uniform(state) * n), n - 1)


@njit(cache=True)
def lowest(bits: np.uint64) -> int:
    """The place of the lowest bit that is set."""
    place = 0
    while not bits & np.uint64(1):
        bits >>= np.uint64(1)
        place += 1
    return place


@njit(cache=True)
def erdos_renyi(state: np.ndarray, n: int, log_q: float, edges: np.ndarray, out_n: np.ndarray, in_n: np.ndarray) -> int:
    """Draw G(n, p), log_q = log(1 - p): fills `edges` (., 2) and both neighbourhoods; returns the edges, or -1: no room."""
    out_n[:n] = 0
    in_n[:n] = 0
    count, at, pairs = 0, -1, n * (n - 1)
    while True:
        # the gap to the next edge is geometric (Batagelj & Brandes 2005)
        gap = math.log(uniform(state)) / log_q
        if gap >= pairs - at - 1:
            return count
        at += 1 + int(gap)
        if count == len(edges):
            return -1
        u, v = at // (n - 1), at % (n - 1)
        v += v >= u
        edges[count, 0], edges[count, 1] = u, v
        out_n[u] |= np.uint64(1) << np.uint64(v)
        in_n[v] |= np.uint64(1) << np.uint64(u)
        count += 1


@njit(cache=True)
def levels_to(t: int, stop: np.uint64, n: int, in_n: np.ndarray, level: np.ndarray) -> int:
    """Vertices at each distance to t, as bits in `level`, until those of `stop` are met; returns the last distance, or -1."""
    level[0] = np.uint64(1) << np.uint64(t)
    seen, distance = level[0], 0
    while True:
        reached, frontier = np.uint64(0), level[distance]
        while frontier:
            reached |= in_n[lowest(frontier)]
            frontier &= frontier - np.uint64(1)
        reached &= ~seen
        if not reached:
            return -1 if stop else distance
        distance += 1
        level[distance] = reached
        seen |= reached
        if reached & stop:
            return distance


@njit(cache=True)
def is_held_out(out_n: np.ndarray, n: int) -> bool:
    """Whether a graph belongs to the tests: by its edges alone, so no training graph is ever tested."""
    digest = np.uint64(n)
    for u in range(n):
        digest = mix(digest * np.uint64(0x9E3779B97F4A7C15) + out_n[u])
    return digest % np.uint64(HELD_OUT) == 0


@njit(cache=True)
def path_of(
    state: np.ndarray, s: int, distance: int, out_n: np.ndarray, level: np.ndarray, random: bool, path: np.ndarray
) -> None:
    """Fill `path` with a shortest path from s: the lexicographically smallest, or any with the same probability."""
    ways = np.zeros((distance + 1, MOST))
    if random:
        ways[0, lowest(level[0])] = 1.0
        for d in range(1, distance + 1):
            at = level[d]
            while at:
                u = lowest(at)
                following = out_n[u] & level[d - 1]
                while following:
                    ways[d, u] += ways[d - 1, lowest(following)]
                    following &= following - np.uint64(1)
                at &= at - np.uint64(1)
    path[0] = s
    for d in range(distance - 1, -1, -1):
        following = out_n[path[distance - d - 1]] & level[d]
        v = lowest(following)
        if random:
            left = uniform(state) * ways[d + 1, path[distance - d - 1]]
            while True:
                v = lowest(following)
                left -= ways[d, v]
                following &= following - np.uint64(1)
                if left <= 0 or not following:
                    break
        path[distance - d] = v


@njit(cache=True)
def query(state: np.ndarray, n: int, in_n: np.ndarray, level: np.ndarray) -> tuple[int, int]:
    """An ordered pair s != t, uniform among those with a path, and its distance; leaves the levels to t. (-1, 0): no pair."""
    for _ in range(200):
        s, t = below(state, n), below(state, n - 1)
        t += t >= s
        distance = levels_to(t, np.uint64(1) << np.uint64(s), n, in_n, level)
        if distance > 0:
            return s, distance
    pairs = 0  # few pairs have a path: count them, then take one
    for t in range(n):
        for d in range(1, levels_to(t, np.uint64(0), n, in_n, level) + 1):
            at = level[d]
            while at:
                pairs += 1
                at &= at - np.uint64(1)
    if pairs == 0:
        return -1, 0
    left = below(state, pairs)
    for t in range(n):
        for d in range(1, levels_to(t, np.uint64(0), n, in_n, level) + 1):
            at = level[d]
            while at:
                if left == 0:
                    s = lowest(at)
                    return s, levels_to(t, np.uint64(1) << np.uint64(s), n, in_n, level)
                left -= 1
                at &= at - np.uint64(1)
    return -1, 0


@njit(cache=True)
def examples(
    seed: int,
    n: int,
    p: float,
    held_out: bool,
    random: bool,
    tokens_NS: np.ndarray,
    answer_N: np.ndarray,
    length_N: np.ndarray,
    most_edges: int,
) -> bool:
    """Fill a split with `<bos> (<edge> u v)* <sep> s t / v0 ... vk <eos>`, edges in random order.

    A graph without any path, with more than `most_edges`, or of the other split is drawn again; False if that never ends.
    """
    EDGE, BOS, EOS, PAD, SEP, SLASH = n, n + 1, n + 2, n + 3, n + 4, n + 5
    edges = np.empty((most_edges, 2), np.uint8)
    out_n, in_n, level = np.zeros(MOST, np.uint64), np.zeros(MOST, np.uint64), np.zeros(MOST + 1, np.uint64)
    path = np.empty(MOST + 1, np.int64)
    state = np.zeros(1, np.uint64)
    log_q = math.log1p(-p)
    for i in range(len(tokens_NS)):
        state[0] = mix(mix(np.uint64(2 * seed + held_out) + np.uint64(0x9E3779B97F4A7C15)) + np.uint64(i))
        s, distance, count = -1, 0, 0
        for _ in range(PATIENCE):
            count = erdos_renyi(state, n, log_q, edges, out_n, in_n)
            if count > 0 and is_held_out(out_n, n) == held_out:
                s, distance = query(state, n, in_n, level)
                if s >= 0:
                    break
        if s < 0:
            return False
        path_of(state, s, distance, out_n, level, random, path)
        row = tokens_NS[i]
        row[0] = BOS
        for e in range(count - 1, -1, -1):  # Fisher-Yates, each edge written as it is drawn
            j = below(state, e + 1)
            at = 1 + 3 * (count - 1 - e)
            row[at], row[at + 1], row[at + 2] = EDGE, edges[j, 0], edges[j, 1]
            edges[j, 0], edges[j, 1] = edges[e, 0], edges[e, 1]
        at = 1 + 3 * count
        row[at], row[at + 1], row[at + 2], row[at + 3] = SEP, s, path[distance], SLASH
        answer_N[i] = at + 4
        for d in range(distance + 1):
            row[at + 4 + d] = path[d]
        row[at + 5 + distance] = EOS
        length_N[i] = at + 6 + distance
        row[length_N[i] :] = PAD
    return True


@njit(cache=True)
def lengths(seed: int, n: int, p: float, graphs: int) -> tuple[float, float, float]:
    """Over so many graphs G(n, p): the mean distance of reachable ordered pairs, its mean over graphs, the share reachable."""
    edges = np.empty((n * (n - 1), 2), np.uint8)
    out_n, in_n, level = np.zeros(MOST, np.uint64), np.zeros(MOST, np.uint64), np.zeros(MOST + 1, np.uint64)
    state = np.zeros(1, np.uint64)
    total, pairs, means, with_pairs = 0, 0, 0.0, 0
    for i in range(graphs):
        state[0] = mix(mix(np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15)) + np.uint64(i))
        erdos_renyi(state, n, math.log1p(-p), edges, out_n, in_n)
        here, found = 0, 0
        for t in range(n):
            for d in range(1, levels_to(t, np.uint64(0), n, in_n, level) + 1):
                at = level[d]
                while at:
                    here += d
                    found += 1
                    at &= at - np.uint64(1)
        total += here
        pairs += found
        if found:
            means += here / found
            with_pairs += 1
    return total / max(pairs, 1), means / max(with_pairs, 1), pairs / (graphs * n * (n - 1))
