"""Routers and experts: the choice, the order of its rows, and the products of few rows with many matrices."""

# T tokens, D model, E experts, K experts a token, R rows (a token at an expert)

import numpy as np

from parrots.models.compiled.products import times
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
def by_expert(rows_: int, weights_: int, out_: int, counts_: int, R: int, E: int, n_in: int, n_out: int) -> None:
    """(R, O) each expert's rows times its (I, O) weights."""
    counts = indices(counts_, E)
    for e in range(E):
        own = counts[e]
        if own:
            times(rows_, 4 * n_in, 4, weights_, 4 * n_out, 4, out_, own, n_in, n_out)
        rows_ += 4 * n_in * own
        out_ += 4 * n_out * own
        weights_ += 4 * n_in * n_out


@kernel
def by_expert_rows_back(g_: int, weights_: int, out_: int, counts_: int, R: int, E: int, n_in: int, n_out: int) -> None:
    """(R, I) the gradient of the rows from (R, O), that of their products."""
    counts = indices(counts_, E)
    for e in range(E):
        own = counts[e]
        if own:
            times(g_, 4 * n_out, 4, weights_, 4, 4 * n_out, out_, own, n_out, n_in)
        g_ += 4 * n_out * own
        out_ += 4 * n_in * own
        weights_ += 4 * n_in * n_out


@kernel
def by_expert_weights_back(rows_: int, g_: int, out_: int, counts_: int, R: int, E: int, n_in: int, n_out: int) -> None:
    """(E, I, O) the gradient of the weights, zero where an expert has no rows."""
    counts, out = indices(counts_, E), matrix(out_, E, n_in * n_out)
    for e in range(E):
        own = counts[e]
        if own:
            times(rows_, 4, 4 * n_in, g_, 4 * n_out, 4, out_ + 4 * e * n_in * n_out, n_in, own, n_out)
        else:
            out[e, :] = ZERO
        rows_ += 4 * n_in * own
        g_ += 4 * n_out * own
