"""One more token of many sequences, one to a lane: a whole decoder whose activations never leave the vectors' order.

A matrix is read once for W sequences and multiplies vectors of them, which no layout of rows allows without turning it.
"""

# N sequences in blocks of W lanes, L layers, D model, H heads, G key-value heads, C head width, M capacity, F ffn, U = F or
# 2F (gate and up side by side), V vocabulary, E experts, K experts a token. Activations: (blocks, width, W).

from typing import Any

import numpy as np

from parrots.models.compiled.attention import rotate, scores, softmax, weighted
from parrots.models.compiled.products import products, put, to_lanes, to_rows, write_row
from parrots.models.compiled.simd import BYTES, exp, fill, fill_from, load, sqrt, store, value, where_greater
from parrots.models.compiled.vectors import W, indices, kernel, matrix, matrix_of_indices, vector

STRIP = 8  # blocks that a matrix multiplies while it is near


@kernel
def through(x_: int, x_step: int, w_: int, y_: int, y_step: int, n: int, n_in: int, n_out: int, add: bool) -> None:
    """y = w x or y += w x for n blocks, x_step and y_step vectors apart, and w of (n_out, n_in)."""
    for b in range(n):
        products(x_ + BYTES * b * x_step, BYTES, w_, 4, 4 * n_in, y_ + BYTES * b * y_step, BYTES, n_in, n_out, add)


@kernel
def norm(x_: int, w_: int, y_: int, D: int, eps: float) -> None:
    """y = x / rms(x) * w."""
    total = value(0)
    for i in range(D):
        x = load(x_ + BYTES * i)
        total += x * x
    scale = value(1) / sqrt(total * fill(np.float32(1 / D)) + fill(np.float32(eps)))
    for i in range(D):
        store(y_ + BYTES * i, load(x_ + BYTES * i) * scale * fill_from(w_ + 4 * i))


@kernel
def activate(u_: int, F: int, gated: bool, weight: Any) -> None:
    """silu(gate) * up of 2F vectors, or gelu of F, times a weight; in place."""
    for i in range(F):
        u = load(u_ + BYTES * i)
        y = u / (value(1) + exp(value(0) - u)) * load(u_ + BYTES * (F + i)) if gated else u * normal(u)
        store(u_ + BYTES * i, y * weight)


@kernel
def normal(x: Any) -> Any:
    """The share of a normal distribution below x, to 1e-7 (Abramowitz and Stegun 7.1.26)."""
    z = where_greater(x, value(0), x, value(0) - x) * value(0.70710678)
    t = value(1) / (value(1) + value(0.3275911) * z)
    y = value(1.061405429) * t - value(1.453152027)
    y = y * t + value(1.421413741)
    y = y * t - value(0.284496736)
    y = y * t + value(0.254829592)
    above = value(0.5) * y * t * exp(value(0) - z * z)
    return where_greater(x, value(0), value(1) - above, above)


@kernel
def copy(x_: int, y_: int, n: int) -> None:
    """n vectors from x to y."""
    for i in range(n):
        store(y_ + BYTES * i, load(x_ + BYTES * i))


@kernel
def keep(z_: int, keys_: int, values_: int, past: int, H: int, G: int, C: int) -> None:
    """The keys (M, 2, G, C / 2) and values (M, G, C) of one more position, from z as Attention.qkv lays it out."""
    half, heads, width = C // 2, H + G, G * C
    copy(z_ + BYTES * H * half, keys_ + BYTES * width * past, G * half)
    copy(z_ + BYTES * (heads + H) * half, keys_ + BYTES * (width * past + G * half), G * half)
    copy(z_ + BYTES * 2 * heads * half, values_ + BYTES * width * past, width)


@kernel
def attend(z_: int, keys_: int, values_: int, p_: int, y_: int, past: int, H: int, G: int, C: int) -> None:
    """Of W sequences the attention of one position, of which z has the queries, to itself and `past` others."""
    half, heads = C // 2, H + G
    step, gap = BYTES * G * C, BYTES * (G - 1) * half
    for h in range(H):
        kv = h // (H // G)
        first_, second_ = z_ + BYTES * h * half, BYTES * (heads - 1) * half
        scores(first_, second_, keys_ + BYTES * kv * half, gap, step, p_, past + 1, C)
        softmax(p_, past + 1, np.float32(1 / np.sqrt(C)))
        weighted(p_, BYTES, values_ + BYTES * kv * C, step, y_ + BYTES * h * C, past + 1, C)


@kernel
def gather(x: np.ndarray, at_W: np.ndarray, step: int, out: np.ndarray) -> None:
    """out[i, lane] = x[at[lane] + i * step]."""
    for i in range(len(out)):
        for lane in range(W):
            out[i, lane] = x[at_W[lane] + np.uint64(i) * step]


@kernel
def choose(logits_: int, expert_: int, weight_: int, E: int, K: int, renormalize: bool) -> None:
    """The K most probable of E experts, as numbers, and their probabilities, or each one's share of these.

    The logits of those chosen are overwritten.
    """
    most, total, taken = load(logits_), value(0), value(0)
    for e in range(E):
        x = load(logits_ + BYTES * e)
        most = where_greater(x, most, x, most)
        taken += x - x  # what is no number is never hidden
    if not renormalize:  # where the others' do not count
        for e in range(E):
            total += exp(load(logits_ + BYTES * e) - most)
    for k in range(K):
        best, index = value(-1e30), value(0)
        for e in range(E):
            x = load(logits_ + BYTES * e)
            index = where_greater(x, best, fill(np.float32(e)), index)
            best = where_greater(x, best, x, best)
        for e in range(E if k < K - 1 else 0):
            apart = fill(np.float32(e)) - index
            store(logits_ + BYTES * e, where_greater(apart * apart, value(0.5), load(logits_ + BYTES * e), value(-1e30)))
        p = exp(best - most)
        store(expert_ + BYTES * k, index)
        store(weight_ + BYTES * k, p)
        taken += p
    for k in range(K):
        store(weight_ + BYTES * k, load(weight_ + BYTES * k) / (taken if renormalize else total))


@kernel
def by_expert(expert_: int, N: int, K: int, E: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (a token at an expert) in the order of their experts: each one's token, its place in `expert`; where each begins."""
    blocks = (N + W - 1) // W
    expert = vector(expert_, blocks * K * W)
    first, token, place = np.zeros(E + 1, np.int64), np.empty(N * K, np.int64), np.empty(N * K, np.int64)
    for row in range(blocks * K):
        for at in range(row * W, row * W + min(W, N - row // K * W)):
            first[np.int64(expert[at]) + 1] += 1
    for e in range(E):
        first[e + 1] += first[e]
    free = first[:E].copy()
    for row in range(blocks * K):
        for at in range(row * W, row * W + min(W, N - row // K * W)):
            mine = np.int64(expert[at])
            token[free[mine]], place[free[mine]] = row // K * W + at - row * W, at
            free[mine] += 1
    return token, place, first


@kernel
def experts(
    h_: int, x_: int, up_: int, down_: int, expert_: int, weight_: int, room_: int,
    N: int, D: int, F: int, E: int, K: int, gated: bool,
) -> None:  # fmt: skip
    """x += what each token's experts make of h, W tokens of an expert at a time. room: (2 blocks + 3) D + 2 F + 1 vectors."""
    blocks, U = (N + W - 1) // W, 2 * F if gated else F
    weight = vector(weight_, blocks * K * W)
    rows_, sums_ = room_, room_ + BYTES * blocks * D  # by token, what is read and what comes of it
    in_ = sums_ + BYTES * blocks * D
    out_, turned_ = in_ + BYTES * D, in_ + BYTES * 2 * D
    weights_, u_ = in_ + BYTES * 3 * D, in_ + BYTES * (3 * D + 1)
    sums, weights = vector(sums_, blocks * W * D), vector(weights_, W)
    token, place, first = by_expert(expert_, N, K, E)
    row_W, line_W = np.empty(W, np.int64), np.arange(W) * 4 * D
    for b in range(blocks):
        to_rows(h_ + BYTES * b * D, rows_ + BYTES * b * D, line_W, D)
    sums[:] = 0
    for e in range(E):
        for start in range(first[e], first[e + 1], W):
            held = min(W, first[e + 1] - start)
            for lane in range(W):
                row = start + min(lane, held - 1)
                weights[lane] = weight[place[row]]
                row_W[lane] = 4 * D * token[row]
            to_lanes(rows_, row_W, in_, D)
            products(in_, BYTES, up_ + 4 * e * D * U, 4 * U, 4, u_, BYTES, D, U, False)
            activate(u_, F, gated, load(weights_))
            products(u_, BYTES, down_ + 4 * e * D * F, 4 * D, 4, out_, BYTES, F, D, False)
            to_rows(out_, turned_, line_W, D)
            for lane in range(held):
                write_row(turned_ + 4 * D * lane, sums_ + 4 * D * token[start + lane], D, True)
    for b in range(blocks):
        to_lanes(sums_ + BYTES * b * D, line_W, in_, D)
        for i in range(b * D, (b + 1) * D):
            put(x_ + BYTES * i, load(in_ + BYTES * (i - b * D)), True)


@kernel
def embed(tokens_: int, embedding_: int, x_: int, N: int, D: int) -> None:
    """x: the tokens' rows of the embedding."""
    tokens, row_W = indices(tokens_, N), np.empty(W, np.int64)
    for b in range((N + W - 1) // W):
        for lane in range(W):
            row_W[lane] = 4 * D * tokens[min(b * W + lane, N - 1)]
        to_lanes(embedding_, row_W, x_ + BYTES * b * D, D)


@kernel
def attended(
    tokens_: int, table_: int, x_: int, norm_: int, qkv_: int, h_: int, z_: int, wide: int, N: int, D: int, width: int,
    eps: float,
) -> None:  # fmt: skip
    """z: qkv of the residual x, before it is turned; of tokens whose residuals are embeddings it may stand in a table."""
    blocks = (N + W - 1) // W
    for b in range(blocks):
        if table_:
            embed(tokens_ + 8 * W * b, table_, z_ + BYTES * b * wide, min(W, N - W * b), width)
        else:
            norm(x_ + BYTES * b * D, norm_, h_ + BYTES * b * D, D, eps)
    if not table_:
        through(h_, D, qkv_, z_, wide, blocks, D, width, False)


@kernel
def dense(h_: int, up_: int, down_: int, z_: int, x_: int, wide: int, n: int, D: int, F: int, gated: bool) -> None:
    """x += what a dense FFN makes of h, for n blocks; z has room for `wide` vectors of each."""
    through(h_, D, up_, z_, wide, n, D, 2 * F if gated else F, False)
    for b in range(n):
        activate(z_ + BYTES * b * wide, F, gated, value(1))
    through(z_, wide, down_, x_, D, n, F, D, True)


@kernel
def read(
    tokens_: int,
    embedding_: int, first_: int, weights_: int, cos_: int, sin_: int, keys_: int, values_: int, x_: int, room_: int,
    N: int, past: int, M: int, L: int, D: int, H: int, G: int, C: int, F: int, shared: int, E: int, K: int,
    gated: bool, renormalize: bool, eps: float, wanted: bool,
) -> None:  # fmt: skip
    """x: the residual after the last layer of one more token of each sequence, which have read `past` and keep this one.

    wanted: whether x is; without, the last layer gives no more than keys and values.

    first: 0, or (V, (H + 2G) C) what the first layer's qkv is of each token. weights: (L, 9) addresses: the norm, qkv and
    out of attention; the norm, up and down of the FFN, the router, up and down of the shared experts. E:
    0 of a dense model, whose F is 0 and whose up and down are those of shared.
    """
    blocks, heads, U, width = (N + W - 1) // W, H + G, 2 if gated else 1, G * C
    weights = indices(weights_, L * 9).reshape(L, 9)
    turns = heads * (C // 2)
    embed(tokens_, embedding_, x_, N, D)
    h_ = room_
    expert_ = h_ + BYTES * blocks * D
    weight_ = expert_ + BYTES * blocks * K
    z_ = weight_ + BYTES * blocks * K
    wide = max((heads + G) * C, U * shared, E)
    y_ = z_ + BYTES * STRIP * wide
    p_ = y_ + BYTES * STRIP * H * C
    for layer in range(L):
        at = weights[layer]
        for first in range(0, blocks, STRIP):
            n, xb_, hb_ = min(STRIP, blocks - first), x_ + BYTES * first * D, h_ + BYTES * first * D
            words_, table_ = tokens_ + 8 * W * first, 0 if layer else first_
            attended(words_, table_, xb_, at[0], at[1], hb_, z_, wide, min(N - W * first, W * n), D, (heads + G) * C, eps)
            for b in range(n):
                zb_, held = z_ + BYTES * b * wide, BYTES * width * M * (layer * blocks + first + b)
                rotate(zb_, cos_ + 4 * turns * past, sin_ + 4 * turns * past, turns, False)
                keep(zb_, keys_ + held, values_ + held, past, H, G, C)
                if wanted or layer < L - 1:
                    attend(zb_, keys_ + held, values_ + held, p_, y_ + BYTES * b * H * C, past, H, G, C)
            if not wanted and layer == L - 1:
                continue
            through(y_, H * C, at[2], xb_, D, n, H * C, D, True)
            for b in range(n):
                norm(xb_ + BYTES * b * D, at[3], hb_ + BYTES * b * D, D, eps)
            if shared:
                dense(hb_, at[7], at[8], z_, xb_, wide, n, D, shared, gated)
            if E:
                through(hb_, D, at[6], z_, wide, n, D, E, False)
                for b in range(n):
                    to = BYTES * (first + b) * K
                    choose(z_ + BYTES * b * wide, expert_ + to, weight_ + to, E, K, renormalize)
        if E and (wanted or layer < L - 1):
            experts(h_, x_, at[4], at[5], expert_, weight_, z_, N, D, F, E, K, gated)


@kernel
def most_probable(z_: int, V: int) -> Any:
    """Of V logits the largest one's number."""
    best, index = load(z_), value(0)
    for v in range(1, V):
        z = load(z_ + BYTES * v)
        index = where_greater(z, best, fill(np.float32(v)), index)
        best = where_greater(z, best, z, best)
    return index


@kernel
def sample(z_: int, V: int, heat: float, drawn: Any) -> Any:
    """A number drawn with probability softmax(heat * logits): the first until which they sum to `drawn`, in (0, 1]."""
    most, total, index = load(z_), value(0), value(0)
    for v in range(1, V):
        z = load(z_ + BYTES * v)
        most = where_greater(z, most, z, most)
    for v in range(V):
        total += exp((load(z_ + BYTES * v) - most) * fill(np.float32(heat)))
        store(z_ + BYTES * v, total)
    for v in range(V - 1):
        index += where_greater(drawn * total, load(z_ + BYTES * v), value(1), value(0))
    return index


@kernel
def say(
    x_: int, norm_: int, head_: int, room_: int, said_: int, drawn_: int, N: int, D: int, V: int, eps: float, heat: float
) -> None:  # fmt: skip
    """(N,) the most probable tokens after the residual x, or sampled by (blocks, W) numbers. room: D + V + 1 vectors."""
    tokens, z_ = indices(said_, N), room_ + BYTES * D
    last_ = z_ + BYTES * V
    last = vector(last_, W)
    for b in range((N + W - 1) // W):
        norm(x_ + BYTES * b * D, norm_, room_, D, eps)
        products(room_, BYTES, head_, 4, 4 * D, z_, BYTES, D, V, False)
        store(last_, sample(z_, V, heat, load(drawn_ + BYTES * b)) if drawn_ else most_probable(z_, V))
        for lane in range(min(W, N - b * W)):
            tokens[b * W + lane] = np.int64(last[lane])


@kernel
def decode(
    tokens_: int, length_: int, drawn_: int, said_: int, shortest: int, longest: int, new: int, stop: int,
    norm_: int, head_: int, words_: int, V: int, heat: float,
    embedding_: int, first_: int, weights_: int, cos_: int, sin_: int, keys_: int, values_: int, x_: int, room_: int,
    N: int, past: int, M: int, L: int, D: int, H: int, G: int, C: int, F: int, shared: int, E: int, K: int,
    gated: bool, renormalize: bool, eps: float,
) -> None:  # fmt: skip
    """Write behind each prompt in (longest + new, N) tokens up to `new`, and no more when all have said `stop`."""
    tokens, length, said = matrix_of_indices(tokens_, longest + new, N), indices(length_, N), indices(said_, N)
    blocks, done = (N + W - 1) // W, np.zeros(N, np.bool_)
    for s in range(past, longest + new - 1):
        wanted = s + 1 >= shortest
        read(
            tokens_ + 8 * N * s, embedding_, first_, weights_, cos_, sin_, keys_, values_, x_, room_,
            N, s, M, L, D, H, G, C, F, shared, E, K, gated, renormalize, eps, wanted,
        )  # fmt: skip
        if not wanted:
            continue
        from_ = drawn_ + BYTES * blocks * (s + 1 - shortest) if drawn_ else 0
        say(x_, norm_, head_, words_, said_, from_, N, D, V, eps, heat)
        going = False
        for n in range(N):
            if s + 1 >= length[n]:
                tokens[s + 1, n] = said[n]
                done[n] |= said[n] == stop or s + 2 >= length[n] + new
            going |= not done[n]
        if not going:
            break


@kernel
def beginnings(
    tokens_: int, n: int, S: int, V: int, weights: float, saved: float, copied: float,
    of_: int, before_: int, token_: int, sizes_: int,
) -> int:  # fmt: skip
    """How many positions of n sequences of (n, S) tokens are read once for all that begin alike, and what begins so.

    As long as a sequence fewer saves `weights` products, and all together `saved`, and `copied` for each that is left and each
    position before. of: (n,) the beginning that each sequence goes on from. before and token: (S, n) the beginning, one token
    shorter, that each of a position goes on from, and its token; there are as many as `sizes` says.
    """
    tokens, of, sizes = matrix_of_indices(tokens_, n, S), indices(of_, n), indices(sizes_, S)
    before, token = matrix_of_indices(before_, S, n), matrix_of_indices(token_, S, n)
    slots = 4
    while slots < 2 * n:
        slots *= 2
    number, key, next_of = np.empty(slots, np.int64), np.empty(slots, np.int64), np.empty(n, np.int64)
    of[:] = 0
    for s in range(S - 1):
        number[:] = -1
        found = 0
        for i in range(n):
            mine = of[i] * V + tokens[i, s]
            at = np.int64((np.uint64(mine) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & (slots - 1)
            while number[at] >= 0 and key[at] != mine:
                at = (at + 1) & (slots - 1)
            if number[at] < 0:
                number[at], key[at] = found, mine
                before[s, found], token[s, found] = of[i], tokens[i, s]
                found += 1
            next_of[i] = number[at]
        if (n - found) * weights < saved + copied * s * found:
            return s
        of[:] = next_of
        sizes[s] = found
    return S - 1


@kernel
def spread(old_: int, new_: int, index_: int, n_old: int, N: int, L: int, past: int, M_old: int, M: int, width: int) -> None:
    """Keys or values of N sequences, each those of the one that `index` names among n_old; past positions of M."""
    before, blocks = (n_old + W - 1) // W, (N + W - 1) // W
    old, new = vector(old_, L * before * M_old * width * W), matrix(new_, L * blocks * M * width, W)
    index = indices(index_, N)
    at_W = np.empty(W, np.uint64)
    for layer in range(L):
        for b in range(blocks):
            for lane in range(W):
                from_b, from_lane = divmod(index[min(b * W + lane, N - 1)], W)
                at_W[lane] = (layer * before + from_b) * M_old * width * W + from_lane
            to = (layer * blocks + b) * M * width
            gather(old, at_W, np.uint64(W), new[to : to + past * width])
