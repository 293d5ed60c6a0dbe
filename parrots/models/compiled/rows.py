"""Row by row: norm, SwiGLU and the loss."""

# T tokens, D model, F ffn, V vocabulary

import numpy as np

from parrots.models.compiled.vectors import ONE, ZERO, exp, indices, kernel, largest, matrix, vector


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
