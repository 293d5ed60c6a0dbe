"""Matrix products, W numbers of a row at a time: a sum of one matrix's numbers, each in every lane, times the other's rows.

A strip of W columns is laid side by side first, so that it is near for all the rows that it multiplies.
"""

# n, m, o: (n, m) times (m, o). Strides are in bytes.

from typing import Any

import numpy as np

from parrots.models.compiled.simd import BYTES, fill_from, load, store, turning, value
from parrots.models.compiled.vectors import ZERO, W, at, kernel, matrix, room, vector

TILE = 8  # sums that are held at once
DEEP = 256
LINES = np.arange(W) * BYTES  # where vectors stand that follow one another
turn, eight_to_lanes, four_to_lanes = turning(W, W), turning(W, 8), turning(W, 4)
eight_to_rows, four_to_rows = turning(8, W), turning(4, W)


@kernel
def put(address: int, x: Any, add: bool) -> None:
    """Write there, or add to what is there."""
    store(address, load(address) + x if add else x)


@kernel
def products(
    x_: int, x_step: int, w_: int, w_in: int, w_out: int, y_: int, y_step: int, n_in: int, n_out: int, add: bool
) -> None:
    """y = w x or y += w x, for n_in vectors of x and n_out of y, so far apart; w_in and w_out are the strides of w."""
    o = 0
    while o + TILE <= n_out:
        y0, y1, y2, y3 = value(0), value(0), value(0), value(0)
        y4, y5, y6, y7 = value(0), value(0), value(0), value(0)
        w, from_ = w_ + o * w_out, x_
        for _ in range(n_in):
            x = load(from_)
            y0 += fill_from(w) * x
            y1 += fill_from(w + w_out) * x
            y2 += fill_from(w + 2 * w_out) * x
            y3 += fill_from(w + 3 * w_out) * x
            y4 += fill_from(w + 4 * w_out) * x
            y5 += fill_from(w + 5 * w_out) * x
            y6 += fill_from(w + 6 * w_out) * x
            y7 += fill_from(w + 7 * w_out) * x
            w += w_in
            from_ += x_step
        to = y_ + y_step * o
        put(to, y0, add)
        put(to + y_step, y1, add)
        put(to + 2 * y_step, y2, add)
        put(to + 3 * y_step, y3, add)
        put(to + 4 * y_step, y4, add)
        put(to + 5 * y_step, y5, add)
        put(to + 6 * y_step, y6, add)
        put(to + 7 * y_step, y7, add)
        o += TILE
        if n_out - TILE < o < n_out and not add:  # the last ones again, rather than one by one
            o = n_out - TILE
    while o < n_out:  # four sums of every fourth, since a sum waits for itself
        y0, y1, y2, y3 = value(0), value(0), value(0), value(0)
        w, from_, i = w_ + o * w_out, x_, 0
        while i + 4 <= n_in:
            y0 += fill_from(w) * load(from_)
            y1 += fill_from(w + w_in) * load(from_ + x_step)
            y2 += fill_from(w + 2 * w_in) * load(from_ + 2 * x_step)
            y3 += fill_from(w + 3 * w_in) * load(from_ + 3 * x_step)
            w += 4 * w_in
            from_ += 4 * x_step
            i += 4
        while i < n_in:
            y0 += fill_from(w) * load(from_)
            w += w_in
            from_ += x_step
            i += 1
        put(y_ + y_step * o, (y0 + y1) + (y2 + y3), add)
        o += 1


@kernel
def lay(b_: int, b_row: int, b_col: int, strip_: int, deep: int, wide: int) -> None:
    """A strip of `wide` columns at b: rows beside one another, or where columns are (b_row is 4), turned; zeros fill up."""
    strip = matrix(strip_, deep, W)
    if wide < W:
        for k in range(deep):
            for j in range(W):
                strip[k, j] = vector(b_ + k * b_row + j * b_col, 1)[0] if j < wide else ZERO
    elif b_col == 4:
        for k in range(deep):
            store(strip_ + BYTES * k, load(b_ + k * b_row))
    else:
        to_lanes(b_, np.arange(W) * b_col, strip_, deep)


@kernel
def times(a_: int, a_row: int, a_col: int, b_: int, b_row: int, b_col: int, c_: int, n: int, m: int, o: int) -> None:
    """(n, o) c = (n, m) a times (m, o) b, where one stride of b is 4."""
    kept, strip_ = room(DEEP)
    out, c = np.empty((n if o % W else 0, W), np.float32), matrix(c_, n, o)
    for first in range(0, o, W):
        wide = min(W, o - first)
        to_, step = (c_ + 4 * first, 4 * o) if wide == W else (at(out), BYTES)
        for start in range(0, m, DEEP):
            deep = min(DEEP, m - start)
            from_ = b_ + start * b_row + first * b_col
            lay(from_, b_row, b_col, strip_, deep, wide)
            products(strip_, BYTES, a_ + start * a_col, a_col, a_row, to_, step, deep, n, start > 0)
        if wide < W:
            for r in range(n):
                for j in range(wide):
                    c[r, first + j] = out[r, j]
    kept[0] = ZERO  # which keeps it until here


@kernel
def to_lanes(x_: int, row_W: np.ndarray, y_: int, D: int) -> None:
    """D vectors at y from W rows, each so many bytes beyond x."""
    lines_, rows_, i = at(LINES), at(row_W), 0
    while i + W <= D:
        turn(rows_, x_ + 4 * i, lines_, y_ + BYTES * i)
        i += W
    if i + 8 <= D:
        eight_to_lanes(rows_, x_ + 4 * i, lines_, y_ + BYTES * i)
        i += 8
    if i + 4 <= D:
        four_to_lanes(rows_, x_ + 4 * i, lines_, y_ + BYTES * i)
        i += 4
    y = matrix(y_, D, W)
    while i < D:
        for lane in range(W):
            y[i, lane] = vector(x_ + row_W[lane], D)[i]
        i += 1


@kernel
def to_rows(x_: int, y_: int, row_W: np.ndarray, D: int) -> None:
    """The way back."""
    lines_, rows_, i = at(LINES), at(row_W), 0
    while i + W <= D:
        turn(lines_, x_ + BYTES * i, rows_, y_ + 4 * i)
        i += W
    if i + 8 <= D:
        eight_to_rows(lines_, x_ + BYTES * i, rows_, y_ + 4 * i)
        i += 8
    if i + 4 <= D:
        four_to_rows(lines_, x_ + BYTES * i, rows_, y_ + 4 * i)
        i += 4
    x = matrix(x_, D, W)
    while i < D:
        for lane in range(W):
            vector(y_ + row_W[lane], D)[i] = x[i, lane]
        i += 1


@kernel
def write_row(x_: int, y_: int, n: int, add: bool) -> None:
    """y = x or y += x, of n numbers."""
    i = 0
    while i + W <= n:
        put(y_ + 4 * i, load(x_ + 4 * i), add)
        i += W
    x, y = vector(x_, n), vector(y_, n)
    while i < n:
        y[i] = x[i] + y[i] if add else x[i]
        i += 1
