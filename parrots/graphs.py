"""Random directed graphs on at most 64 vertices and their shortest paths, a word of bits a vertex, compiled by numba.

Every example has a generator of its own, seeded with its global index, so that any part of a split can be made alone and
numbers never change with a library's.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

MOST = 64  # vertices that one word holds
STEP = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's, 2^64 over the golden ratio
PATIENCE = 1_000_000  # draws for one example
HELD_OUT = 64  # one graph in so many, by a hash of its edges, is never trained on and is all that is tested
ERDOS_RENYI, REGULAR, BARABASI_ALBERT, WATTS_STROGATZ = range(4)  # kinds of graphs


@njit(cache=True)
def mix(x: np.uint64) -> np.uint64:
    """SplitMix64's output function (Steele, Lea & Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def begin(state: np.ndarray, seed: int, held_out: bool, i: int) -> None:
    """Set the generator to where example i of a split begins."""
    state[0] = mix(mix(np.uint64(2 * seed + held_out) + STEP) + np.uint64(i))


@njit(cache=True)
def word(state: np.ndarray) -> np.uint64:
    """The next 64 bits of a generator."""
    state[0] += STEP
    return mix(state[0])


@njit(cache=True)
def uniform(state: np.ndarray) -> float:
    """The next number of a generator, in (0, 1]."""
    return ((word(state) >> np.uint64(11)) + np.uint64(1)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def below(state: np.ndarray, n: int) -> int:
    """A number from 0 to n - 1; the bias of 2^-32 n is far below what could be seen."""
    return int(((word(state) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True)
def coins(state: np.ndarray, p: np.uint64, lanes: np.uint64) -> np.uint64:
    """Of the bits in `lanes`, each set with probability p / 2^64: each compares random digits of its own with those of p.

    Half of those that have agreed so far part at each digit, so 64 coins take some eight words and no logarithm.
    """
    heads, x = np.uint64(0), state[0]
    while lanes and p:  # digits of p that are all zero send the rest to tails
        x += STEP
        digits = mix(x)
        heads |= lanes & ~digits & (np.uint64(0) - (p >> np.uint64(63)))
        lanes &= digits ^ ((p >> np.uint64(63)) - np.uint64(1))
        p <<= np.uint64(1)
    state[0] = x
    return heads


@njit(cache=True)
def shuffle(state: np.ndarray, x: np.ndarray, n: int) -> None:
    """Put a uniformly random choice of `x` in random order into its first n places (Fisher-Yates)."""
    for i in range(n):
        j = i + below(state, len(x) - i)
        x[i], x[j] = x[j], x[i]


@intrinsic
def lowest(typing: Any, bits: Any) -> Any:
    """The place of the lowest bit that is set: one instruction, of which numba has no name."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), build


@njit(cache=True)
def bit(place: int) -> np.uint64:
    """A word with this bit."""
    return np.uint64(1) << np.uint64(place)


@njit(cache=True)
def erdos_renyi(state: np.ndarray, n: int, p: float, edges: np.ndarray) -> int:
    """G(n, p): each ordered pair has an edge with probability p, on its own; -1 where `edges` has no room for them."""
    everyone = (~np.uint64(0)) >> np.uint64(MOST - n)
    chance, count = np.uint64(p * 18446744073709551616.0), 0
    for u in range(n):
        heads = coins(state, chance, everyone & ~bit(u))
        while heads:
            if count == len(edges):
                return -1
            edges[count, 0], edges[count, 1] = u, lowest(heads)
            heads &= heads - np.uint64(1)
            count += 1
    return count


@njit(cache=True)
def other(state: np.ndarray, n: int, taken: np.uint64) -> int:
    """A vertex that is not taken, of which there has to be one."""
    v = below(state, n)
    while taken & bit(v):
        v = below(state, n)
    return v


@njit(cache=True)
def regular(state: np.ndarray, n: int, degree: int, edges: np.ndarray) -> int:
    """From each vertex `degree` edges, to as many others: any set of them alike."""
    for u in range(n):
        taken = bit(u)
        for j in range(degree):
            v = other(state, n, taken)
            taken |= bit(v)
            edges[u * degree + j, 0], edges[u * degree + j, 1] = u, v
    return n * degree


@njit(cache=True)
def watts_strogatz(state: np.ndarray, n: int, degree: int, rewiring: float, edges: np.ndarray) -> int:
    """On a ring, edges from each vertex to the next `degree`, each then led elsewhere with probability `rewiring`.

    Elsewhere is uniform among the vertices to which there is no edge yet.
    """
    for u in range(n):
        taken = bit(u)
        for j in range(1, degree + 1):
            taken |= bit((u + j) % n)
        for j in range(degree):
            v = (u + j + 1) % n
            if degree < n - 1 and uniform(state) <= rewiring:
                new = other(state, n, taken)
                taken ^= bit(v) | bit(new)
                v = new
            edges[u * degree + j, 0], edges[u * degree + j, 1] = u, v
    return n * degree


@njit(cache=True)
def barabasi_albert(state: np.ndarray, n: int, degree: int, edges: np.ndarray) -> int:
    """A star on degree + 1 vertices; each later vertex is joined to `degree` others, met in proportion to their edges.

    A coin turns each edge one way or the other.
    """
    count = 0
    for u in range(degree, n):
        before, joined = count, np.uint64(0)
        for j in range(degree):
            v = j
            if u > degree:
                v = int(edges[below(state, before), below(state, 2)])  # an end of any edge
                while joined & bit(v):
                    v = int(edges[below(state, before), below(state, 2)])
            joined |= bit(v)
            turned = below(state, 2)
            edges[count, turned], edges[count, 1 - turned] = u, v
            count += 1
    return count


@njit(cache=True)
def draw(state: np.ndarray, kind: int, n: int, p: float, degree: int, rewiring: float, edges: np.ndarray) -> int:
    """Fill `edges` (., 2) with a graph on the vertices 0 to n - 1; returns how many there are, or -1: no room."""
    if kind == ERDOS_RENYI:
        return erdos_renyi(state, n, p, edges)
    if kind == BARABASI_ALBERT:
        return barabasi_albert(state, n, degree, edges)
    if kind == WATTS_STROGATZ:
        return watts_strogatz(state, n, degree, rewiring, edges)
    return regular(state, n, degree, edges)


@njit(cache=True)
def connect(edges: np.ndarray, count: int, name: np.ndarray, out_n: np.ndarray, in_n: np.ndarray) -> None:
    """Give vertices their names, in `edges` too, and fill both neighbourhoods."""
    out_n[:] = 0
    in_n[:] = 0
    for e in range(count):
        u, v = name[edges[e, 0]], name[edges[e, 1]]
        edges[e, 0], edges[e, 1] = u, v
        out_n[u] |= bit(v)
        in_n[v] |= bit(u)


@njit(cache=True)
def levels_to(t: int, stop: np.uint64, in_n: np.ndarray, level: np.ndarray) -> int:
    """Vertices at each distance to t, as bits in `level`, until those of `stop` are met; returns the last distance, or -1."""
    level[0] = bit(t)
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
def is_held_out(out_n: np.ndarray) -> bool:
    """Whether a graph belongs to the tests: by its edges alone, so no training graph is ever tested."""
    digest = np.uint64(len(out_n))
    for word in out_n:
        digest = mix(digest * STEP + word)
    return digest % np.uint64(HELD_OUT) == 0


@njit(cache=True)
def path_of(
    state: np.ndarray, s: int, distance: int, out_n: np.ndarray, level: np.ndarray, random: bool, path: np.ndarray
) -> None:
    """Fill `path` with a shortest path from s: the lexicographically smallest, or any with the same probability."""
    ways = np.zeros((distance + 1 if random else 0, MOST))
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
def query(state: np.ndarray, name_n: np.ndarray, in_n: np.ndarray, level: np.ndarray) -> tuple[int, int]:
    """An ordered pair s != t, uniform among those with a path, and its distance; leaves the levels to t. (-1, 0): no pair."""
    n = len(name_n)
    for _ in range(200):
        i, j = below(state, n), below(state, n - 1)
        s, t = name_n[i], name_n[j + (j >= i)]
        distance = levels_to(t, bit(s), in_n, level)
        if distance > 0:
            return s, distance
    pairs = 0  # few pairs have a path: count them, then take one
    for t in name_n:
        for d in range(1, levels_to(t, np.uint64(0), in_n, level) + 1):
            at = level[d]
            while at:
                pairs += 1
                at &= at - np.uint64(1)
    if pairs == 0:
        return -1, 0
    left = below(state, pairs)
    for t in name_n:
        for d in range(1, levels_to(t, np.uint64(0), in_n, level) + 1):
            at = level[d]
            while at:
                if left == 0:
                    s = lowest(at)
                    return s, levels_to(t, bit(s), in_n, level)
                left -= 1
                at &= at - np.uint64(1)
    return -1, 0


@njit(cache=True)
def examples(
    seed: int,
    held_out: bool,
    kind: int,
    n: int,
    labels: int,
    p: float,
    degree: int,
    rewiring: float,
    random: bool,
    most_edges: int,
    tokens_NS: np.ndarray,
    answer_N: np.ndarray,
    length_N: np.ndarray,
) -> bool:
    """Fill a split with `<bos> (<edge> u v)* <sep> s t / v0 ... vk <eos>`, edges in random order.

    A graph without any path, with more than `most_edges`, or of the other split is drawn again; False if that never ends.
    """
    EDGE, BOS, EOS, PAD, SEP, SLASH = labels, labels + 1, labels + 2, labels + 3, labels + 4, labels + 5
    edges = np.empty((most_edges, 2), np.uint8)
    out_n, in_n, level = np.zeros(labels, np.uint64), np.zeros(labels, np.uint64), np.zeros(MOST + 1, np.uint64)
    path, name = np.empty(MOST + 1, np.int64), np.arange(labels)
    state = np.zeros(1, np.uint64)
    for i in range(len(tokens_NS)):
        begin(state, seed, held_out, i)
        name[:] = np.arange(labels)
        s, distance, count = -1, 0, 0
        for _ in range(PATIENCE):
            count = draw(state, kind, n, p, degree, rewiring, edges)
            if count <= 0:
                continue
            if kind != ERDOS_RENYI or labels > n:  # vertices that are not alike, or not all: which is which is random
                shuffle(state, name, n)
            connect(edges, count, name, out_n, in_n)
            if is_held_out(out_n) == held_out:
                s, distance = query(state, name[:n], in_n, level)
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
    edges, name = np.empty((n * (n - 1), 2), np.uint8), np.arange(n)
    out_n, in_n, level = np.zeros(n, np.uint64), np.zeros(n, np.uint64), np.zeros(MOST + 1, np.uint64)
    state = np.zeros(1, np.uint64)
    total, pairs, means, with_pairs = 0, 0, 0.0, 0
    for i in range(graphs):
        begin(state, seed, False, i)
        connect(edges, erdos_renyi(state, n, p, edges), name, out_n, in_n)
        here, found = 0, 0
        for t in range(n):
            for d in range(1, levels_to(t, np.uint64(0), in_n, level) + 1):
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
