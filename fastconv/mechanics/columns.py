"""im2col: every window laid down as a column, so that the convolution is one matrix product.

    columns[(c, u, v), (i, j)] = x[c, i s + u - p, j s + v - p]
    y[o, (i, j)]               = w[o, (c, u, v)] columns[(c, u, v), (i, j)]

Processors have multiplied matrices well for forty years; the price is that each number of x is
copied into up to kh kw columns.  The numba and native backends work so, block by block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..figures import BLUE, GREEN, ORANGE, RED, Figure, drawing
from ..geometry import IntOrPair
from ..lessons.layer import Array
from ..lessons.windows import pad, sizes, windows
from .grids import draw_grid, matrix, outline
from .sliding import layer_of

_COLOURS = (ORANGE, BLUE, GREEN, RED)


def im2col(
    x: Any, kernel_size: IntOrPair, stride: IntOrPair = 1, padding: IntOrPair | str = 0
) -> Array:
    """The windows of one picture x (c, h, w) as a matrix (c kh kw, out_h out_w)."""
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != 3:
        raise ArgumentError(f"im2col: x expects shape (c, h, w), got {values.shape}")
    kh, kw = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    g = sizes("im2col", (1, *values.shape), (1, len(values), kh, kw), stride, padding)
    padded = pad(values[None], g)[0]
    return np.stack([padded[:, rows, cols].ravel() for _, _, rows, cols in windows(g)], axis=1)


def im2col_figure(
    x: Any, kernel: Any, stride: IntOrPair = 1, padding: IntOrPair | str = 0
) -> Figure:
    """x (h, w) and kernel (kh, kw) as a matrix product, with a few windows marked in both."""
    layer, y = layer_of(x, kernel, stride, padding)
    g, weight = layer.g, layer.weight[0, 0]
    columns = im2col(matrix(x, "x")[None], weight.shape, stride, padding)
    rows, count = columns.shape
    cell, tall = 0.36, max(g.padded_shape[2], rows)
    upper = [max(g.padded_shape[3], 5), max(count, 6)]  # titles need as much
    with drawing(cell * (sum(upper) + 3) + 0.6, cell * (tall + 4) + 0.9) as figure:
        grid = figure.add_gridspec(2, 2, width_ratios=upper, height_ratios=[tall, 3])
        at_x, at_columns = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
        draw_grid(at_x, layer.padded[0, 0], "x and its windows", frame=g.padding, size=7.5)
        draw_grid(at_columns, columns, f"columns: {rows} x {count}", size=7)
        below = figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
        draw_grid(below[0], weight.reshape(1, -1), f"w as a row: 1 x {rows}", size=7)
        draw_grid(below[1], y.reshape(1, -1), "w · columns = y", size=7)
        for colour, nth in zip(_COLOURS, _chosen(count)):
            i, j = divmod(nth, g.out_w)
            outline(at_x, i * g.stride[0], j * g.stride[1], g.kh, g.kw, colour)
            outline(at_columns, 0, nth, rows, 1, colour)
            outline(below[1], 0, nth, 1, 1, colour)
        copies = columns.size / matrix(x, "x").size
        figure.supxlabel(
            f"{matrix(x, 'x').size} numbers of x became {columns.size}: {copies:.1f} times as many",
            fontsize=9,
        )
    return figure


def _chosen(count: int) -> list[int]:
    """Three windows to mark: the first, one in the middle, the last."""
    return sorted({0, count // 2, count - 1})
