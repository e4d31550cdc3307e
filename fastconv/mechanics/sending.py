"""The backward pass as an animation: every output's gradient goes back through its window.

The same walk as forward, with the arrows turned round.  At output (i, j), whose gradient is dy:

    dx[window] += dy[i,j] * w            dw += dy[i,j] * x[window]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ..errors import ArgumentError
from ..figures import BLUE, ORANGE, drawing, picture
from ..geometry import IntOrPair
from ..lessons.convolution import MyConv
from ..lessons.layer import Array
from ..lessons.windows import windows
from .grids import draw_grid, matrix, number, outline
from .sliding import layer_of


def backward_frames(
    x: Any,
    kernel: Any,
    dy: Any,
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dpi: int = 80,
) -> list[Image.Image]:
    """One picture per output: what dy (out_h, out_w) adds to dx and to dw, until both are done."""
    layer, y = layer_of(x, kernel, stride, padding)
    gradient = matrix(dy, "dy")
    if gradient.shape != y.shape:
        raise ArgumentError(f"dy expects the output's shape {y.shape}, got {gradient.shape}")
    tops = _largest(layer, gradient)
    dx, dw, frames = np.zeros(layer.padded.shape[2:]), np.zeros(layer.weight.shape[2:]), []
    for i, j, rows, columns in windows(layer.g):
        dx[rows, columns] += gradient[i, j] * layer.weight[0, 0]
        dw += gradient[i, j] * layer.padded[0, 0, rows, columns]
        frames.append(_frame(layer, gradient, dx, dw, (i, j), tops, dpi))
    return frames


def _largest(layer: MyConv, dy: Array) -> tuple[float, float]:
    """The largest numbers of the finished dx and dw: one scale of colours for all frames."""
    dx = layer.backward(dy[None, None])
    return float(np.abs(dx).max()) or 1.0, float(np.abs(layer.gradients["weight"]).max()) or 1.0


def _frame(
    layer: MyConv,
    dy: Array,
    dx: Array,
    dw: Array,
    at: tuple[int, int],
    tops: tuple[float, float],
    dpi: int,
) -> Image.Image:
    g, (i, j) = layer.g, at
    top, left = i * g.stride[0], j * g.stride[1]
    wide = g.padded_shape[3]
    widths = [max(wide, g.out_w, 5), max(g.kw, 3), max(wide, 5)]  # titles need as much
    heights = [max(g.out_h, g.kh), g.padded_shape[2]]
    with drawing(0.4 * sum(widths) + 1.4, 0.4 * sum(heights) + 1.5) as figure:
        panels = figure.subplots(
            2, 3, gridspec_kw={"width_ratios": widths, "height_ratios": heights}
        )
        draw_grid(panels[0, 0], dy, "dy, from above")
        outline(panels[0, 0], i, j, 1, 1, BLUE)
        draw_grid(panels[0, 1], layer.weight[0, 0], "w")
        draw_grid(
            panels[1, 0],
            layer.padded[0, 0],
            "x, padded" if any(g.padding) else "x",
            frame=g.padding,
        )
        outline(panels[1, 0], top, left, g.kh, g.kw, ORANGE)
        draw_grid(panels[1, 1], dw, "dw so far", top=tops[1])
        draw_grid(panels[1, 2], dx, "dx so far", frame=g.padding, top=tops[0])
        if any(g.padding):
            panels[1, 2].text(0.5, -0.02, "the grey frame is dropped in the end", fontsize=8,
                              ha="center", va="top", transform=panels[1, 2].transAxes)  # fmt: skip
        outline(panels[1, 2], top, left, g.kh, g.kw, BLUE)
        panels[0, 2].axis("off")
        words = (
            f"dy[{i},{j}] = {number(dy[i, j])}\n\n"
            f"dx[window] += {number(dy[i, j])} · w\ndw += {number(dy[i, j])} · x[window]"
        )
        panels[0, 2].text(0.5, 0.5, words, ha="center", va="center", fontsize=10)
        return picture(figure, dpi)
