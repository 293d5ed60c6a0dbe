"""Causal attention of short sequences, W heads of sequences at once, one to a lane of a vector."""

# B batch, S sequence, H heads, G key-value heads, C head width, W lanes

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from parrots.models.compiled.vectors import ONE, ZERO, W, exp, kernel, matrix


@intrinsic
def sum_of_products(typing: Any, out: Any, a: Any, a_step: Any, b: Any, b_step: Any, n: Any) -> Any:
    """W sums at once, one a lane: out = a[0] * b[0] + a[a_step] * b[b_step] + ... of n products, at addresses.

    Written in vectors, since a compiler that cannot know that out is neither a nor b would not make them.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.FloatType(), W)
        out, a, a_step, b, b_step, n = args

        def load(address: Any, step: Any, i: Any) -> Any:
            at = builder.add(address, builder.mul(i, builder.mul(step, ir.Constant(step.type, 4))))
            return builder.load(builder.inttoptr(at, lanes.as_pointer()), align=4)

        sums = cgutils.alloca_once_value(builder, ir.Constant(lanes, [0.0] * W))
        with cgutils.for_range(builder, n) as loop:
            product = builder.fmul(load(a, a_step, loop.index), load(b, b_step, loop.index), flags=("contract",))
            builder.store(builder.fadd(builder.load(sums), product, flags=("contract",)), sums)
        builder.store(builder.load(sums), builder.inttoptr(out, lanes.as_pointer()), align=4)
        return context.get_dummy_value()

    i = types.int64
    return types.void(i, i, i, i, i, i), build


@kernel
def load_lanes(
    qkv: np.ndarray, cos: np.ndarray, sin: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray,
    first: int, S: int, H: int, G: int,
) -> None:  # fmt: skip
    """Queries (scaled), keys and values of W heads of sequences, rotated, one to a lane."""
    C = q.shape[1]
    half, heads = C // 2, H + G
    scale = ONE / np.sqrt(np.float32(C))
    most = qkv.shape[0] // S * H - 1
    for s in range(S):  # outside, so that what is written at a time stays near
        for lane in range(W):
            b, h = divmod(min(first + lane, most), H)
            kv = h // (H // G)
            row = qkv[b * S + s]
            for i in range(half):
                co, si = cos[s, i], sin[s, i]
                x, y = row[h * half + i], row[(heads + h) * half + i]
                q[s, i, lane] = (x * co - y * si) * scale
                q[s, half + i, lane] = (y * co + x * si) * scale
                x, y = row[(H + kv) * half + i], row[(heads + H + kv) * half + i]
                k[s, i, lane] = x * co - y * si
                k[s, half + i, lane] = y * co + x * si
            for i in range(C):
                v[s, i, lane] = row[2 * heads * half + kv * C + i]


@kernel
def lanes(n: int) -> tuple[np.ndarray, int]:
    """Room for n times W numbers, and its address."""
    room = np.empty((n, W), np.float32)
    return room, room.ctypes.data


@kernel
def weigh(q_: int, k_: int, p: np.ndarray, p_: int, i: int, C: int, at: int) -> None:
    """The softmax over the positions up to i of what the query that stands at `at` says of their keys."""
    for j in range(i + 1):
        sum_of_products(p_ + 4 * W * j, q_ + 4 * W * C * at, W, k_ + 4 * W * C * j, W, C)
    each = p[: i + 1].reshape(-1)
    for lane in range(W):
        most = p[0, lane]
        for j in range(1, i + 1):
            most = max(most, p[j, lane])
        for j in range(i + 1):
            p[j, lane] -= most
    for n in range(len(each)):
        each[n] = exp(each[n])
    for lane in range(W):
        total = ZERO
        for j in range(i + 1):
            total += p[j, lane]
        total = ONE / total
        for j in range(i + 1):
            p[j, lane] *= total


@kernel
def attention(qkv_: int, cos_: int, sin_: int, y_: int, B: int, S: int, H: int, G: int, C: int) -> None:
    """Causal attention of rotated queries and keys, from a product's rows as parrots.models.transformer lays them out."""
    heads, half, line = H + G, C // 2, 4 * W
    qkv, y = matrix(qkv_, B * S, heads * C + G * C), matrix(y_, B * S, H * C)
    cos, sin = matrix(cos_, S, heads * half), matrix(sin_, S, heads * half)
    q, q_ = lanes(S * C)
    k, k_ = lanes(S * C)
    v, v_ = lanes(S * C)
    p, p_ = lanes(S)
    o, o_ = lanes(C)
    shape = (S, C, W)
    for first in range(0, B * H, W):
        load_lanes(qkv, cos, sin, q.reshape(shape), k.reshape(shape), v.reshape(shape), first, S, H, G)
        for i in range(S):
            weigh(q_, k_, p, p_, i, C, i)
            for c in range(C):
                sum_of_products(o_ + line * c, p_, W, v_ + line * c, W * C, i + 1)
            for lane in range(min(W, B * H - first)):
                b, h = divmod(first + lane, H)
                row = y[b * S + i]
                for c in range(C):
                    row[h * C + c] = o[c, lane]


@kernel
def store_lanes(
    g: np.ndarray, cos: np.ndarray, sin: np.ndarray, gq: np.ndarray, gk: np.ndarray, gv: np.ndarray,
    first: int, n: int, S: int, H: int, G: int,
) -> None:  # fmt: skip
    """What `load_lanes` reads, backwards: gradients of n lanes turned back and added where they belong."""
    C = len(gq) // S
    half, heads = C // 2, H + G
    scale = ONE / np.sqrt(np.float32(C))
    for s in range(S):
        for lane in range(n):
            b, h = divmod(first + lane, H)
            kv = h // (H // G)
            row = g[b * S + s]
            for i in range(half):
                co, si = cos[s, i], sin[s, i]
                x, y = gq[s * C + i, lane] * scale, gq[s * C + half + i, lane] * scale
                row[h * half + i] = x * co + y * si
                row[(heads + h) * half + i] = y * co - x * si
                x, y = gk[s * C + i, lane], gk[s * C + half + i, lane]
                row[(H + kv) * half + i] += x * co + y * si
                row[(heads + H + kv) * half + i] += y * co - x * si
            for c in range(C):
                row[2 * heads * half + kv * C + c] += gv[s * C + c, lane]


@kernel
def attention_back(qkv_: int, cos_: int, sin_: int, gy_: int, g_: int, B: int, S: int, H: int, G: int, C: int) -> None:
    """The gradient of those rows; the softmax is made again."""
    heads, half, line = H + G, C // 2, 4 * W
    qkv, gy, g = matrix(qkv_, B * S, heads * C + G * C), matrix(gy_, B * S, H * C), matrix(g_, B * S, heads * C + G * C)
    cos, sin = matrix(cos_, S, heads * half), matrix(sin_, S, heads * half)
    q, q_ = lanes(S * C)
    k, k_ = lanes(S * C)
    v, v_ = lanes(S * C)
    go, go_ = lanes(S * C)
    gq, gq_ = lanes(S * C)
    gk, gk_ = lanes(S * C)
    gv, gv_ = lanes(S * C)
    p, p_ = lanes(S * S)
    gp, gp_ = lanes(S * S)
    shape = (S, C, W)
    g[:] = ZERO
    go[:] = ZERO
    for first in range(0, B * H, W):
        load_lanes(qkv, cos, sin, q.reshape(shape), k.reshape(shape), v.reshape(shape), first, S, H, G)
        n = min(W, B * H - first)
        for s in range(S):
            for lane in range(n):
                b, h = divmod(first + lane, H)
                row = gy[b * S + s]
                for c in range(C):
                    go[s * C + c, lane] = row[h * C + c]
        for i in range(S):
            own, gown = p[i * S : (i + 1) * S], gp[i * S : (i + 1) * S]
            weigh(q_, k_, own, p_ + line * i * S, i, C, i)
            for j in range(i + 1):
                sum_of_products(gp_ + line * (i * S + j), go_ + line * C * i, W, v_ + line * C * j, W, C)
            for lane in range(W):
                along = ZERO
                for j in range(i + 1):
                    along += own[j, lane] * gown[j, lane]
                for j in range(i + 1):
                    gown[j, lane] = own[j, lane] * (gown[j, lane] - along)
            for c in range(C):
                sum_of_products(gq_ + line * (C * i + c), gp_ + line * i * S, W, k_ + line * c, W * C, i + 1)
        for j in range(S):
            at = line * (j * S + j)
            for c in range(C):
                here = line * (C * j + c)
                sum_of_products(gv_ + here, p_ + at, W * S, go_ + here, W * C, S - j)
                sum_of_products(gk_ + here, gp_ + at, W * S, q_ + here, W * C, S - j)
        store_lanes(g, cos, sin, gq, gk, gv, first, n, S, H, G)
