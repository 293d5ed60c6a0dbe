"""What a training step does between its matrix products, compiled by numba for one core of a CPU.

Each kernel passes over memory once where a chain of operators would several times, and costs one call where calls are what
a small step waits for. Tensors come as addresses of contiguous float32 (int64 where said): a call then takes a microsecond.
Gradients are written out; parrots/models/kernels.py decides when all this runs, and has the plain formulas.
"""

# T tokens, D model, F ffn, U pre-activation, E experts, K experts a token, R rows (a token at an expert), V vocabulary
# B batch, S sequence, H heads, G key-value heads, C head width, W lanes

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

W = 16  # heads of sequences that attention works on at once, one to a lane of a vector
ONE, ZERO, HALF = np.float32(1), np.float32(0), np.float32(0.5)
# Sums may be taken in any order and products fused; what is no number stays none, so that divergence is seen.
LOOSE = {"reassoc", "contract", "arcp", "nsz"}


def kernel(function: Callable[..., Any]) -> Any:
    """Compiled when first called, and kept on disk."""
    return njit(cache=True, fastmath=LOOSE, error_model="numpy")(function)


@intrinsic
def pointer(typing: Any, address: Any) -> Any:
    """An address as a pointer."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), build


@intrinsic
def as_float(typing: Any, bits: Any) -> Any:
    """The float32 that these 32 bits are."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), build


@kernel
def vector(address: int, n: int) -> np.ndarray:
    """(n,) float32 at an address."""
    return carray(pointer(address), (n,), np.float32)


@kernel
def matrix(address: int, n: int, m: int) -> np.ndarray:
    """(n, m) float32 at an address."""
    return carray(pointer(address), (n, m), np.float32)


@kernel
def indices(address: int, n: int) -> np.ndarray:
    """(n,) int64 at an address."""
    return carray(pointer(address), (n,), np.int64)


@kernel
def exp(x: float) -> float:
    """e^x to 2 units in the last place: 2^n times a polynomial (Cephes' expf), which a compiler can do in vectors."""
    inside = min(max(x, np.float32(-87)), np.float32(88))
    n = np.int32(inside * np.float32(1.44269504) + np.float32(128.5)) - np.int32(128)
    r = inside - np.float32(n) * np.float32(0.693359375) + np.float32(n) * np.float32(2.12194440e-4)
    y = np.float32(1.9875691500e-4)
    y = y * r + np.float32(1.3981999507e-3)
    y = y * r + np.float32(8.3334519073e-3)
    y = y * r + np.float32(4.1665795894e-2)
    y = y * r + np.float32(1.6666665459e-1)
    y = y * r + HALF
    y = (y * r * r + r + ONE) * as_float((n + np.int32(127)) << np.int32(23))
    return x if x != x else y  # noqa: PLR0124


@njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def largest(x: np.ndarray) -> float:
    """The largest element; any, where some are no numbers."""
    most = x[0]
    for i in range(len(x)):
        most = max(most, x[i])
    return most


# --- norm ---------------------------------------------------------------------------------------------------------------


@kernel
def rms_norm(x_: int, weight_: int, y_: int, scale_: int, T: int, D: int, eps: float) -> None:
    """y = x * scale * weight, scale = 1 / rms(x)."""
    x, weight, y, scale = matrix(x_, T, D), vector(weight_, D), matrix(y_, T, D), vector(scale_, T)
    for t in range(T):
        total = ZERO
        for i in range(D):
            total += x[t, i] * x[t, i]
        s = ONE / np.sqrt(total / np.float32(D) + np.float32(eps))
        scale[t] = s
        for i in range(D):
            y[t, i] = x[t, i] * s * weight[i]


@kernel
def rms_norm_back(g_: int, x_: int, weight_: int, scale_: int, gx_: int, gw_: int, T: int, D: int) -> None:
    """Gradients of x and of weight."""
    g, x, gx = matrix(g_, T, D), matrix(x_, T, D), matrix(gx_, T, D)
    weight, scale, gw = vector(weight_, D), vector(scale_, T), vector(gw_, D)
    gw[:] = ZERO
    for t in range(T):
        s, along = scale[t], ZERO
        for i in range(D):
            along += g[t, i] * weight[i] * x[t, i]
        a = -along * s * s * s / np.float32(D)
        for i in range(D):
            gx[t, i] = g[t, i] * weight[i] * s + x[t, i] * a
            gw[i] += g[t, i] * x[t, i] * s


# --- feed-forward -------------------------------------------------------------------------------------------------------


@kernel
def swiglu(x_: int, weight_: int, y_: int, T: int, F: int) -> None:
    """y = silu(gate) * up, times a weight of each row unless its address is 0."""
    x, y = matrix(x_, T, 2 * F), matrix(y_, T, F)
    weight = vector(weight_, T)
    for t in range(T):
        w = weight[t] if weight_ else ONE
        for i in range(F):
            gate = x[t, i]
            y[t, i] = gate / (ONE + exp(-gate)) * x[t, F + i] * w


@kernel
def swiglu_back(g_: int, x_: int, weight_: int, y_: int, gx_: int, gw_: int, T: int, F: int) -> None:
    """Gradients of x and, where there are weights, of these; then y is made again too."""
    g, x, gx = matrix(g_, T, F), matrix(x_, T, 2 * F), matrix(gx_, T, 2 * F)
    weight, y, gw = vector(weight_, T), matrix(y_, T, F), vector(gw_, T)
    for t in range(T):
        w, along = weight[t] if weight_ else ONE, ZERO
        for i in range(F):
            gate, up = x[t, i], x[t, F + i]
            s = ONE / (ONE + exp(-gate))
            silu, down = gate * s, g[t, i] * w
            gx[t, i] = down * up * (s + silu * (ONE - s))
            gx[t, F + i] = down * silu
            if weight_:
                y[t, i] = silu * up * w
                along += g[t, i] * silu * up
        if weight_:
            gw[t] = along


@kernel
def top_k(
    logits_: int, probs_: int, weight_: int, expert_: int, counts_: int, T: int, E: int, K: int, renormalize: bool
) -> None:
    """Softmax, the K most probable (the first of equals) and how many rows each expert has. expert, counts: int64."""
    logits, probs = matrix(logits_, T, E), matrix(probs_, T, E)
    weight, expert, counts = matrix(weight_, T, K), indices(expert_, T * K), indices(counts_, E)
    left = np.empty(E, np.float32)
    counts[:] = 0
    for t in range(T):
        most = largest(logits[t])
        total = ZERO
        for e in range(E):
            p = exp(logits[t, e] - most)
            probs[t, e] = p
            total += p
        for e in range(E):
            probs[t, e] /= total
            left[e] = probs[t, e]
        chosen = ZERO
        for k in range(K):
            best = 0
            for e in range(1, E):
                if left[e] > left[best]:
                    best = e
            weight[t, k] = probs[t, best]
            chosen += probs[t, best]
            left[best] = -ONE
            expert[t * K + k] = best
            counts[best] += 1
        if renormalize:
            for k in range(K):
                weight[t, k] /= chosen


@kernel
def top_k_back(
    gw_: int, gp_: int, probs_: int, weight_: int, expert_: int, gl_: int, T: int, E: int, K: int, renormalize: bool
) -> None:
    """Gradient of the logits from those of the weights and, unless its address is 0, of the probabilities."""
    gw, probs, weight, gl = matrix(gw_, T, K), matrix(probs_, T, E), matrix(weight_, T, K), matrix(gl_, T, E)
    gp, expert = matrix(gp_, T, E), indices(expert_, T * K)
    for t in range(T):
        for e in range(E):
            gl[t, e] = gp[t, e] if gp_ else ZERO
        mean, chosen = ZERO, ONE
        if renormalize:
            chosen = ZERO
            for k in range(K):
                mean += gw[t, k] * weight[t, k]
                chosen += probs[t, expert[t * K + k]]
        for k in range(K):
            gl[t, expert[t * K + k]] += (gw[t, k] - mean) / chosen
        along = ZERO
        for e in range(E):
            along += gl[t, e] * probs[t, e]
        for e in range(E):
            gl[t, e] = probs[t, e] * (gl[t, e] - along)


@kernel
def sort(expert_: int, counts_: int, order_: int, slot_: int, R: int, E: int) -> None:
    """The rows in the order of their experts, and the place of each in it; stable. All int64."""
    expert, counts, order, slot = indices(expert_, R), indices(counts_, E), indices(order_, R), indices(slot_, R)
    free = np.empty(E, np.int64)
    total = 0
    for e in range(E):
        free[e] = total
        total += counts[e]
    for r in range(R):
        e = expert[r]
        order[free[e]] = r
        slot[r] = free[e]
        free[e] += 1


@kernel
def dispatch(x_: int, order_: int, weight_: int, rows_: int, sorted_: int, R: int, D: int, K: int) -> None:
    """The rows of their experts' order, each its token's, and unless the address is 0 the weights in that order."""
    x, rows, order = matrix(x_, R // K, D), matrix(rows_, R, D), indices(order_, R)
    weight, in_order = vector(weight_, R), vector(sorted_, R)
    for r in range(R):
        t = order[r] // K
        for i in range(D):
            rows[r, i] = x[t, i]
        if weight_:
            in_order[r] = weight[order[r]]


@kernel
def combine(rows_: int, slot_: int, y_: int, T: int, D: int, K: int) -> None:
    """Of each token the sum of its rows."""
    rows, slot, y = matrix(rows_, T * K, D), indices(slot_, T * K), matrix(y_, T, D)
    for t in range(T):
        r = slot[t * K]
        for i in range(D):
            y[t, i] = rows[r, i]
        for k in range(1, K):
            r = slot[t * K + k]
            for i in range(D):
                y[t, i] += rows[r, i]


@kernel
def unsort(sorted_: int, slot_: int, out_: int, R: int) -> None:
    """Of each row what stands in its place."""
    in_order, slot, out = vector(sorted_, R), indices(slot_, R), vector(out_, R)
    for r in range(R):
        out[r] = in_order[slot[r]]


@kernel
def times(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """c = a @ b, four rows of each at a time, so that what is loaded serves sixteen products."""
    n, m = a.shape
    O = b.shape[1]  # noqa: E741
    for r in range(0, n, 4):
        if r + 4 <= n:
            c0, c1, c2, c3 = c[r], c[r + 1], c[r + 2], c[r + 3]
            for j in range(O):
                c0[j] = ZERO
                c1[j] = ZERO
                c2[j] = ZERO
                c3[j] = ZERO
            whole = m - m % 4
            for i in range(0, whole, 4):
                b0, b1, b2, b3 = b[i], b[i + 1], b[i + 2], b[i + 3]
                a00, a01, a02, a03 = a[r, i], a[r, i + 1], a[r, i + 2], a[r, i + 3]
                a10, a11, a12, a13 = a[r + 1, i], a[r + 1, i + 1], a[r + 1, i + 2], a[r + 1, i + 3]
                a20, a21, a22, a23 = a[r + 2, i], a[r + 2, i + 1], a[r + 2, i + 2], a[r + 2, i + 3]
                a30, a31, a32, a33 = a[r + 3, i], a[r + 3, i + 1], a[r + 3, i + 2], a[r + 3, i + 3]
                for j in range(O):
                    x0, x1, x2, x3 = b0[j], b1[j], b2[j], b3[j]
                    c0[j] += a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3
                    c1[j] += a10 * x0 + a11 * x1 + a12 * x2 + a13 * x3
                    c2[j] += a20 * x0 + a21 * x1 + a22 * x2 + a23 * x3
                    c3[j] += a30 * x0 + a31 * x1 + a32 * x2 + a33 * x3
            for i in range(whole, m):
                b0 = b[i]
                for j in range(O):
                    c0[j] += a[r, i] * b0[j]
                    c1[j] += a[r + 1, i] * b0[j]
                    c2[j] += a[r + 2, i] * b0[j]
                    c3[j] += a[r + 3, i] * b0[j]
        else:
            for s in range(r, n):
                c0 = c[s]
                for j in range(O):
                    c0[j] = ZERO
                whole = m - m % 4
                for i in range(0, whole, 4):
                    b0, b1, b2, b3 = b[i], b[i + 1], b[i + 2], b[i + 3]
                    a00, a01, a02, a03 = a[s, i], a[s, i + 1], a[s, i + 2], a[s, i + 3]
                    for j in range(O):
                        c0[j] += a00 * b0[j] + a01 * b1[j] + a02 * b2[j] + a03 * b3[j]
                for i in range(whole, m):
                    b0 = b[i]
                    for j in range(O):
                        c0[j] += a[s, i] * b0[j]


@kernel
def times_transposed(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """c = a @ b.T, as sums along rows."""
    n, m = a.shape
    O = b.shape[0]  # noqa: E741
    whole = O - O % 4
    for r in range(0, n - n % 2, 2):
        a0, a1 = a[r], a[r + 1]
        for j in range(0, whole, 4):
            b0, b1, b2, b3 = b[j], b[j + 1], b[j + 2], b[j + 3]
            s00, s01, s02, s03, s10, s11, s12, s13 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
            for i in range(m):
                x0, x1 = a0[i], a1[i]
                s00 += x0 * b0[i]
                s01 += x0 * b1[i]
                s02 += x0 * b2[i]
                s03 += x0 * b3[i]
                s10 += x1 * b0[i]
                s11 += x1 * b1[i]
                s12 += x1 * b2[i]
                s13 += x1 * b3[i]
            c[r, j], c[r, j + 1], c[r, j + 2], c[r, j + 3] = s00, s01, s02, s03
            c[r + 1, j], c[r + 1, j + 1], c[r + 1, j + 2], c[r + 1, j + 3] = s10, s11, s12, s13
    for r in range(n):
        a0, paired = a[r], r < n - n % 2
        for j in range(whole if paired else 0, O):
            b0, total = b[j], ZERO
            for i in range(m):
                total += a0[i] * b0[i]
            c[r, j] = total


@kernel
def by_expert(rows_: int, weights_: int, out_: int, counts_: int, R: int, E: int, n_in: int, n_out: int) -> None:
    """(R, O) each expert's rows times its (I, O) weights."""
    rows, weights, out, counts = (
        matrix(rows_, R, n_in),
        matrix(weights_, E * n_in, n_out),
        matrix(out_, R, n_out),
        indices(counts_, E),
    )
    first = 0
    for e in range(E):
        last = first + counts[e]
        if last > first:
            times(rows[first:last], weights[e * n_in : (e + 1) * n_in], out[first:last])
        first = last


@kernel
def by_expert_rows_back(g_: int, weights_: int, out_: int, counts_: int, R: int, E: int, n_in: int, n_out: int) -> None:
    """(R, I) the gradient of the rows from (R, O), that of their products."""
    g, weights, out, counts = (
        matrix(g_, R, n_out),
        matrix(weights_, E * n_in, n_out),
        matrix(out_, R, n_in),
        indices(counts_, E),
    )
    first = 0
    for e in range(E):
        last = first + counts[e]
        if last > first:
            times_transposed(g[first:last], weights[e * n_in : (e + 1) * n_in], out[first:last])
        first = last


@kernel
def by_expert_weights_back(rows_: int, g_: int, out_: int, counts_: int, R: int, E: int, n_in: int, n_out: int) -> None:
    """(E, I, O) the gradient of the weights, zero where an expert has no rows."""
    rows, g, out, counts = matrix(rows_, R, n_in), matrix(g_, R, n_out), matrix(out_, E * n_in, n_out), indices(counts_, E)
    first = 0
    for e in range(E):
        last = first + counts[e]
        times(rows[first:last].T, g[first:last], out[e * n_in : (e + 1) * n_in])
        first = last


# --- attention ----------------------------------------------------------------------------------------------------------


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
    qkv: np.ndarray, cos: np.ndarray, sin: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, first: int, S: int, H: int, G: int
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
    scale = ONE / np.sqrt(np.float32(C))
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
def attend(
    qkv_: int, cos_: int, sin_: int, keys_: int, values_: int, y_: int, B: int, S: int, past: int, M: int, H: int, G: int, C: int
) -> None:  # fmt: skip
    """Attention of S more positions of each sequence, after `past` of the M that there is room for.

    keys, values: (blocks of W, M, C, W), a key-value head of a sequence to a lane, the next position of which is written.
    """
    heads, half, line, each = H + G, C // 2, 4 * W, H // G
    qkv, y = matrix(qkv_, B * S, heads * C + G * C), matrix(y_, B * S, H * C)
    cos, sin = matrix(cos_, S, heads * half), matrix(sin_, S, heads * half)
    q, q_ = lanes(each * C)
    p, p_ = lanes(M)
    o, o_ = lanes(C)
    scale = ONE / np.sqrt(np.float32(C))
    q[:] = ZERO
    for block in range((B * G + W - 1) // W):
        k_, v_ = keys_ + line * C * M * block, values_ + line * C * M * block
        keys, values = matrix(k_, M * C, W), matrix(v_, M * C, W)
        n = min(W, B * G - block * W)
        for s in range(S):
            for lane in range(n):
                b, kv = divmod(block * W + lane, G)
                row, here = qkv[b * S + s], (past + s) * C
                for i in range(half):
                    co, si = cos[s, i], sin[s, i]
                    x, z = row[(H + kv) * half + i], row[(heads + H + kv) * half + i]
                    keys[here + i, lane] = x * co - z * si
                    keys[here + half + i, lane] = z * co + x * si
                    for r in range(each):
                        h = kv * each + r
                        x, z = row[h * half + i], row[(heads + h) * half + i]
                        q[r * C + i, lane] = (x * co - z * si) * scale
                        q[r * C + half + i, lane] = (z * co + x * si) * scale
                for i in range(C):
                    values[here + i, lane] = row[2 * heads * half + kv * C + i]
            for r in range(each):
                weigh(q_ + line * C * r, k_, p, p_, past + s, C, 0)
                for c in range(C):
                    sum_of_products(o_ + line * c, p_, W, v_ + line * c, W * C, past + s + 1)
                for lane in range(n):
                    b, kv = divmod(block * W + lane, G)
                    row, first = y[b * S + s], (kv * each + r) * C
                    for c in range(C):
                        row[first + c] = o[c, lane]


# --- loss and optimizer -------------------------------------------------------------------------------------------------


@kernel
def cross_entropy(logits_: int, targets_: int, log_total_: int, T: int, V: int) -> float:
    """The sum over rows of -log softmax at the target; log_total: each row's log of the sum of exponentials."""
    logits, targets, log_total = matrix(logits_, T, V), indices(targets_, T), vector(log_total_, T)
    loss = 0.0
    for t in range(T):
        most = largest(logits[t])
        total = ZERO
        for v in range(V):
            total += exp(logits[t, v] - most)
        log_total[t] = np.log(total) + most
        loss += log_total[t] - logits[t, targets[t]]
    return loss


@kernel
def cross_entropy_back(g: float, logits_: int, targets_: int, log_total_: int, out_: int, T: int, V: int) -> None:
    """The gradient of the logits, from that of the sum."""
    logits, out, targets, log_total = matrix(logits_, T, V), matrix(out_, T, V), indices(targets_, T), vector(log_total_, T)
    g32 = np.float32(g)
    for t in range(T):
        for v in range(V):
            out[t, v] = g32 * exp(logits[t, v] - log_total[t])
        out[t, targets[t]] -= g32


@kernel
def square(x: np.ndarray) -> float:
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
    at: np.ndarray, sizes: np.ndarray, clip: float, lr: float, beta1: float, beta2: float, eps: float,
    decay: float, t: float,
) -> None:  # fmt: skip
    """Step t = 1, 2, ... of AdamW on gradients times `clip`: at[0] to at[3] are where weights, means, squares and
    gradients are."""
    b1, b2, c = np.float32(1 - beta1), np.float32(beta2), np.float32(clip)
    rate, root = np.float32(lr / (1 - beta1**t)), np.float32(1 / np.sqrt(1 - beta2**t))
    keep, tiny = np.float32(1 - lr * decay), np.float32(eps)
    for w in range(len(sizes)):
        n = sizes[w]
        p, m, v, g = vector(at[0, w], n), vector(at[1, w], n), vector(at[2, w], n), vector(at[3, w], n)
        for i in range(n):
            x = g[i] * c
            mean = m[i] + b1 * (x - m[i])
            square = b2 * v[i] + (ONE - b2) * x * x
            m[i] = mean
            v[i] = square
            p[i] = p[i] * keep - rate * mean / (np.sqrt(square) * root + tiny)
