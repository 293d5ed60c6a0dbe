"""Routers and experts: the choice, the order of its rows, and the products of few rows with many matrices."""

# T tokens, D model, E experts, K experts a token, R rows (a token at an expert)

import numpy as np

from parrots.models.compiled.vectors import ONE, ZERO, exp, indices, kernel, largest, matrix, vector


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
def add_one_row(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """c += a @ b, for a vector a."""
    whole = len(a) - len(a) % 4
    for i in range(0, whole, 4):
        b0, b1, b2, b3 = b[i], b[i + 1], b[i + 2], b[i + 3]
        a0, a1, a2, a3 = a[i], a[i + 1], a[i + 2], a[i + 3]
        for j in range(len(c)):
            c[j] += a0 * b0[j] + a1 * b1[j] + a2 * b2[j] + a3 * b3[j]
    for i in range(whole, len(a)):
        b0 = b[i]
        for j in range(len(c)):
            c[j] += a[i] * b0[j]


@kernel
def add_four_rows(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """c += a @ b for four rows of a, four rows of b at a time, so that what is loaded serves sixteen products."""
    m = a.shape[1]
    c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
    whole = m - m % 4
    for i in range(0, whole, 4):
        b0, b1, b2, b3 = b[i], b[i + 1], b[i + 2], b[i + 3]
        a00, a01, a02, a03 = a[0, i], a[0, i + 1], a[0, i + 2], a[0, i + 3]
        a10, a11, a12, a13 = a[1, i], a[1, i + 1], a[1, i + 2], a[1, i + 3]
        a20, a21, a22, a23 = a[2, i], a[2, i + 1], a[2, i + 2], a[2, i + 3]
        a30, a31, a32, a33 = a[3, i], a[3, i + 1], a[3, i + 2], a[3, i + 3]
        for j in range(len(c0)):
            x0, x1, x2, x3 = b0[j], b1[j], b2[j], b3[j]
            c0[j] += a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3
            c1[j] += a10 * x0 + a11 * x1 + a12 * x2 + a13 * x3
            c2[j] += a20 * x0 + a21 * x1 + a22 * x2 + a23 * x3
            c3[j] += a30 * x0 + a31 * x1 + a32 * x2 + a33 * x3
    for i in range(whole, m):
        b0 = b[i]
        for j in range(len(c0)):
            c0[j] += a[0, i] * b0[j]
            c1[j] += a[1, i] * b0[j]
            c2[j] += a[2, i] * b0[j]
            c3[j] += a[3, i] * b0[j]


@kernel
def times(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """c = a @ b."""
    whole = len(a) - len(a) % 4
    for r in range(len(c)):
        c[r, :] = ZERO
    for r in range(0, whole, 4):
        add_four_rows(a[r : r + 4], b, c[r : r + 4])
    for r in range(whole, len(a)):
        add_one_row(a[r], b, c[r])


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
