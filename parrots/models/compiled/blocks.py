"""Half a block in one call: the norm, what stands behind it, and the residual, forward and back.

A step of few tokens waits for calls, of which each of these takes the place of five.
"""

# K trials of one shape, of each B batch, S sequence, T = B*S tokens; D model, H heads, G key-value heads, C head width, F ffn

import numpy as np

from parrots.models.compiled.attention import attention, attention_back
from parrots.models.compiled.products import times, write_row
from parrots.models.compiled.rows import rms_norm, rms_norm_back, swiglu, swiglu_back
from parrots.models.compiled.vectors import ZERO, at, kernel


@kernel
def linear(x_: int, weight_: int, y_: int, T: int, n_in: int, n_out: int) -> None:
    """(T, n_out) y = x times a weight of (n_out, n_in)."""
    times(x_, 4 * n_in, 4, weight_, 4, 4 * n_in, y_, T, n_in, n_out)


@kernel
def linear_back(g_: int, x_: int, weight_: int, gx_: int, gw_: int, T: int, n_in: int, n_out: int) -> None:
    """The gradients of x and of the weight, where their addresses are not 0."""
    if gx_:
        times(g_, 4 * n_out, 4, weight_, 4 * n_in, 4, gx_, T, n_out, n_in)
    if gw_:
        times(g_, 4, 4 * n_out, x_, 4 * n_in, 4, gw_, n_out, T, n_in)


@kernel
def attend_block(
    x_: int, norm_: int, qkv_: int, out_: int, cos_: int, sin_: int, normed_: int, scale_: int, rows_: int, seen_: int,
    y_: int, K: int, B: int, S: int, H: int, G: int, C: int, eps: float,
) -> None:  # fmt: skip
    """y = x + what attention makes of its norm. Kept: normed x and 1 / rms(x), rows of queries, keys, values, what they see."""
    T, D, width = B * S, H * C, (H + 2 * G) * C
    for k in range(K):
        t, d = 4 * k * T, 4 * k * D
        rms_norm(x_ + t * D, norm_ + d, normed_ + t * D, scale_ + t, T, D, eps)
        linear(normed_ + t * D, qkv_ + d * width, rows_ + t * width, T, D, width)
        attention(rows_ + t * width, cos_, sin_, seen_ + t * D, B, S, H, G, C)
        linear(seen_ + t * D, out_ + d * D, y_ + t * D, T, D, D)
    write_row(x_, y_, K * T * D, True)


@kernel
def attend_block_back(
    g_: int, x_: int, norm_: int, qkv_: int, out_: int, cos_: int, sin_: int, normed_: int, scale_: int, rows_: int,
    seen_: int, gx_: int, g_norm_: int, g_qkv_: int, g_out_: int, K: int, B: int, S: int, H: int, G: int, C: int,
) -> None:  # fmt: skip
    """Gradients of x and of the three weights."""
    T, D, width = B * S, H * C, (H + 2 * G) * C
    kept = np.empty(T * (D + width), np.float32)  # of what is seen, then of what is normed; of the rows
    g_seen_, g_rows_ = at(kept), at(kept) + 4 * T * D
    for k in range(K):
        t, d = 4 * k * T, 4 * k * D
        linear_back(g_ + t * D, seen_ + t * D, out_ + d * D, g_seen_, g_out_ + d * D, T, D, D)
        attention_back(rows_ + t * width, cos_, sin_, g_seen_, g_rows_, B, S, H, G, C)
        linear_back(g_rows_, normed_ + t * D, qkv_ + d * width, g_seen_, g_qkv_ + d * width, T, D, width)
        rms_norm_back(g_seen_, x_ + t * D, norm_ + d, scale_ + t, gx_ + t * D, g_norm_ + d, T, D)
    write_row(g_, gx_, K * T * D, True)
    kept[0] = ZERO  # which keeps it until here


@kernel
def swiglu_block(
    x_: int, norm_: int, up_: int, down_: int, normed_: int, scale_: int, before_: int, after_: int, y_: int,
    K: int, T: int, D: int, F: int, eps: float,
) -> None:  # fmt: skip
    """y = x + what SwiGLU makes of its norm. Kept: normed x and 1 / rms(x), gate and up, and their product."""
    for k in range(K):
        t, d = 4 * k * T, 4 * k * D
        rms_norm(x_ + t * D, norm_ + d, normed_ + t * D, scale_ + t, T, D, eps)
        linear(normed_ + t * D, up_ + d * 2 * F, before_ + t * 2 * F, T, D, 2 * F)
        swiglu(before_ + t * 2 * F, 0, after_ + t * F, T, F)
        linear(after_ + t * F, down_ + d * F, y_ + t * D, T, F, D)
    write_row(x_, y_, K * T * D, True)


@kernel
def swiglu_block_back(
    g_: int, x_: int, norm_: int, up_: int, down_: int, normed_: int, scale_: int, before_: int, after_: int,
    gx_: int, g_norm_: int, g_up_: int, g_down_: int, K: int, T: int, D: int, F: int,
) -> None:  # fmt: skip
    """Gradients of x and of the three weights."""
    kept = np.empty(T * (D + 3 * F), np.float32)
    g_normed_, g_before_ = at(kept), at(kept) + 4 * T * D
    g_after_ = g_before_ + 4 * T * 2 * F
    for k in range(K):
        t, d = 4 * k * T, 4 * k * D
        linear_back(g_ + t * D, after_ + t * F, down_ + d * F, g_after_, g_down_ + d * F, T, F, D)
        swiglu_back(g_after_, before_ + t * 2 * F, 0, 0, g_before_, 0, T, F)
        linear_back(g_before_, normed_ + t * D, up_ + d * 2 * F, g_normed_, g_up_ + d * 2 * F, T, D, 2 * F)
        rms_norm_back(g_normed_, x_ + t * D, norm_ + d, scale_ + t, gx_ + t * D, g_norm_ + d, T, D)
    write_row(g_, gx_, K * T * D, True)
    kept[0] = ZERO
