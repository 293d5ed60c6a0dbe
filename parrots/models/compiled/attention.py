"""Causal attention of short sequences, W heads of sequences at once, one to a lane of a vector."""

# B batch, S sequence, H heads, G key-value heads, C head width, W lanes. Strides are in bytes.

import numpy as np

from parrots.models.compiled.products import to_lanes, to_rows, write_row
from parrots.models.compiled.simd import BYTES, exp, fill, fill_from, load, store, value, where_greater
from parrots.models.compiled.vectors import ZERO, W, kernel, room


@kernel
def rotate(z_: int, cos_: int, sin_: int, n: int, back: bool) -> None:
    """Turn n pairs of vectors, the first of all pairs before the second of all, or turn them back."""
    for i in range(n):
        a, b, c, s = load(z_ + BYTES * i), load(z_ + BYTES * (n + i)), fill_from(cos_ + 4 * i), fill_from(sin_ + 4 * i)
        s = value(0) - s if back else s
        store(z_ + BYTES * i, a * c - b * s)
        store(z_ + BYTES * (n + i), b * c + a * s)


@kernel
def scores(q_: int, q_gap: int, k_: int, k_gap: int, step: int, p_: int, n: int, C: int) -> None:
    """p: what a query says to each of n keys, four at a time, so that there is room behind them.

    Halves of a query and of each key stand so much farther apart than they are wide.
    """
    half = C // 2
    for j in range(0, n, 4):
        s0, s1, s2, s3 = value(0), value(0), value(0), value(0)
        from_, at = q_, k_ + step * j
        for i in range(C):
            if i == half:
                from_ += q_gap
                at += k_gap
            q = load(from_)
            s0 += q * load(at)
            s1 += q * load(at + step)
            s2 += q * load(at + 2 * step)
            s3 += q * load(at + 3 * step)
            from_ += BYTES
            at += BYTES
        store(p_ + BYTES * j, s0)
        store(p_ + BYTES * (j + 1), s1)
        store(p_ + BYTES * (j + 2), s2)
        store(p_ + BYTES * (j + 3), s3)


@kernel
def softmax(p_: int, n: int, scale: float) -> None:
    """Of n vectors times a scale, in place."""
    most, scaled = load(p_), fill(scale)
    for j in range(1, n):
        p = load(p_ + BYTES * j)
        most = where_greater(p, most, p, most)
    total = value(0)
    for j in range(n):
        p = exp((load(p_ + BYTES * j) - most) * scaled)
        store(p_ + BYTES * j, p)
        total += p
    total = value(1) / total
    for j in range(n):
        store(p_ + BYTES * j, load(p_ + BYTES * j) * total)


@kernel
def weighted(p_: int, p_step: int, x_: int, x_step: int, y_: int, n: int, C: int) -> None:
    """y: the sum of n rows of C vectors, each times its weight."""
    c = 0
    while c + 4 <= C:
        y0, y1, y2, y3 = value(0), value(0), value(0), value(0)
        weight, at, to = p_, x_ + BYTES * c, y_ + BYTES * c
        for _ in range(n):
            p = load(weight)
            y0 += p * load(at)
            y1 += p * load(at + BYTES)
            y2 += p * load(at + 2 * BYTES)
            y3 += p * load(at + 3 * BYTES)
            weight += p_step
            at += x_step
        store(to, y0)
        store(to + BYTES, y1)
        store(to + 2 * BYTES, y2)
        store(to + 3 * BYTES, y3)
        c += 4
    while c < C:
        y0 = value(0)
        for j in range(n):
            y0 += load(p_ + p_step * j) * load(x_ + x_step * j + BYTES * c)
        store(y_ + BYTES * c, y0)
        c += 1


@kernel
def places(first: int, B: int, S: int, H: int, G: int, C: int) -> np.ndarray:
    """(4, W) where the queries, keys, values and outputs of W heads of sequences begin, in bytes; the last ones again."""
    at = np.empty((4, W), np.int64)
    for lane in range(W):
        b, h = divmod(min(first + lane, B * H - 1), H)
        kv, row = h // (H // G), b * S * (H + 2 * G) * C
        at[0, lane], at[1, lane] = 4 * (row + h * (C // 2)), 4 * (row + (H + kv) * (C // 2))
        at[2, lane], at[3, lane] = 4 * (row + (H + G + kv) * C), 4 * (b * S * H * C + h * C)
    return at


@kernel
def load_lanes(
    qkv_: int, at: np.ndarray, cos_: int, sin_: int, q_: int, k_: int, v_: int, S: int, H: int, G: int, C: int
) -> None:
    """(S, C) vectors of queries and keys, rotated, and of values."""
    half = C // 2
    turns = 4 * (H + G) * half  # from a first half to its second, and from one position's angles to the next one's
    for s in range(S):
        row_, to = qkv_ + 4 * (H + 2 * G) * C * s, BYTES * C * s
        to_lanes(row_, at[0], q_ + to, half)
        to_lanes(row_ + turns, at[0], q_ + to + BYTES * half, half)
        to_lanes(row_, at[1], k_ + to, half)
        to_lanes(row_ + turns, at[1], k_ + to + BYTES * half, half)
        to_lanes(row_, at[2], v_ + to, C)
        rotate(q_ + to, cos_ + turns * s, sin_ + turns * s, half, False)
        rotate(k_ + to, cos_ + turns * s, sin_ + turns * s, half, False)


@kernel
def attention(qkv_: int, cos_: int, sin_: int, y_: int, B: int, S: int, H: int, G: int, C: int) -> None:
    """Causal attention of rotated queries and keys, from a product's rows as parrots.models.transformer lays them out."""
    M, line = (S + 3) // 4 * 4, BYTES * C
    kept, q_ = room(3 * M * C + M + C)
    k_, v_ = q_ + line * M, q_ + line * 2 * M
    p_, o_ = q_ + line * 3 * M, q_ + line * 3 * M + BYTES * M
    for first in range(0, B * H, W):
        at = places(first, B, S, H, G, C)
        load_lanes(qkv_, at, cos_, sin_, q_, k_, v_, S, H, G, C)
        for i in range(S):
            scores(q_ + line * i, 0, k_, 0, line, p_, i + 1, C)
            softmax(p_, i + 1, np.float32(1 / np.sqrt(C)))
            weighted(p_, BYTES, v_, line, o_, i + 1, C)
            to_rows(o_, y_ + 4 * H * C * i, at[3], C)
    kept[0] = ZERO  # which keeps it until here


@kernel
def add_rows(x_: int, turned_: int, g_: int, row_W: np.ndarray, first: int, n: int, D: int, each: int) -> None:
    """Write D vectors to the rows of the first n lanes, of which `each` that follow one another share one: added up."""
    to_rows(x_, turned_, np.arange(W) * 4 * D, D)
    for lane in range(n):
        write_row(turned_ + 4 * D * lane, g_ + row_W[lane], D, (first + lane) % each > 0)


@kernel
def attention_back(qkv_: int, cos_: int, sin_: int, gy_: int, g_: int, B: int, S: int, H: int, G: int, C: int) -> None:
    """The gradient of those rows; the softmax is made again."""
    M, half, line, row, turns = (S + 3) // 4 * 4, C // 2, BYTES * C, 4 * (H + 2 * G) * C, 4 * (H + G) * (C // 2)
    kept, q_ = room(4 * M * C + 2 * S * M + 2 * C)
    k_, v_, go_ = q_ + line * M, q_ + line * 2 * M, q_ + line * 3 * M
    p_, gp_ = q_ + line * 4 * M, q_ + line * 4 * M + BYTES * S * M
    o_ = gp_ + BYTES * S * M
    turned_, each = o_ + line, H // G
    scale = fill(np.float32(1 / np.sqrt(C)))
    for first in range(0, B * H, W):
        n, at = min(W, B * H - first), places(first, B, S, H, G, C)
        load_lanes(qkv_, at, cos_, sin_, q_, k_, v_, S, H, G, C)
        for i in range(S):
            to_lanes(gy_ + 4 * H * C * i, at[3], go_ + line * i, C)
        for i in range(S):
            own, gown = p_ + BYTES * M * i, gp_ + BYTES * M * i
            scores(q_ + line * i, 0, k_, 0, line, own, i + 1, C)
            softmax(own, i + 1, np.float32(1 / np.sqrt(C)))
            scores(go_ + line * i, 0, v_, 0, line, gown, i + 1, C)
            along = value(0)
            for j in range(i + 1):
                along += load(own + BYTES * j) * load(gown + BYTES * j)
            for j in range(i + 1):
                store(gown + BYTES * j, load(own + BYTES * j) * (load(gown + BYTES * j) - along) * scale)
            weighted(gown, BYTES, k_, line, o_, i + 1, C)
            rotate(o_, cos_ + turns * i, sin_ + turns * i, half, True)
            to_rows(o_, g_ + row * i, at[0], half)
            to_rows(o_ + BYTES * half, g_ + row * i + turns, at[0], half)
        for j in range(S):
            of_j = BYTES * (M * j + j)
            weighted(gp_ + of_j, BYTES * M, q_ + line * j, line, o_, S - j, C)
            rotate(o_, cos_ + turns * j, sin_ + turns * j, half, True)
            add_rows(o_, turned_, g_ + row * j, at[1], first, n, half, each)
            add_rows(o_ + BYTES * half, turned_, g_ + row * j + turns, at[1], first, n, half, each)
            weighted(p_ + of_j, BYTES * M, go_ + line * j, line, o_, S - j, C)
            add_rows(o_, turned_, g_ + row * j, at[2], first, n, C, each)
    kept[0] = ZERO
