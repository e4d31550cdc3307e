"""The forward pass as an animation: window, kernel, products, one output after the other."""

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

MOST_FRAMES = 100


def layer_of(
    x: Any, kernel: Any, stride: IntOrPair, padding: IntOrPair | str
) -> tuple[MyConv, Array]:
    """A MyConv of one channel with that kernel, and its output of x (h, w)."""
    values, weight = matrix(x, "x"), matrix(kernel, "kernel")
    layer = MyConv(1, 1, weight.shape, stride, padding, bias=False)
    layer.parameters["weight"] = weight[None, None]
    y = layer.forward(values[None, None])[0, 0]
    if y.size > MOST_FRAMES:
        raise ArgumentError(
            f"an animation expects {MOST_FRAMES} outputs at most, got {y.shape[0]}x{y.shape[1]}; "
            "a smaller picture or a larger stride gives fewer"
        )
    return layer, y


def forward_frames(
    x: Any, kernel: Any, stride: IntOrPair = 1, padding: IntOrPair | str = 0, dpi: int = 80
) -> list[Image.Image]:
    """One picture per output of x (h, w) with kernel (kh, kw): what it sees and what it adds up."""
    layer, y = layer_of(x, kernel, stride, padding)
    g, padded, known = layer.g, layer.padded[0, 0], np.zeros(y.shape, dtype=bool)
    frames = []
    for i, j, rows, columns in windows(g):
        known[i, j] = True
        frames.append(_frame(layer, padded[rows, columns], y, known, (i, j), dpi))
    return frames


def _frame(
    layer: MyConv, window: Array, y: Array, known: Array, at: tuple[int, int], dpi: int
) -> Image.Image:
    g, weight = layer.g, layer.weight[0, 0]
    (i, j), (s_h, s_w) = at, g.stride
    widths = [max(3, wide) for wide in (g.padded_shape[3], g.kw, g.out_w)]  # titles need three
    tallest = max(g.padded_shape[2], g.out_h, g.kh)
    with drawing(0.42 * sum(widths) + 1.2, 0.42 * tallest + 1.15) as figure:
        panels = figure.subplots(1, 3, gridspec_kw={"width_ratios": widths})
        draw_grid(panels[0], layer.padded[0, 0], "x, padded" if any(g.padding) else "x",
                  frame=g.padding)  # fmt: skip
        outline(panels[0], i * s_h, j * s_w, g.kh, g.kw, ORANGE)
        draw_grid(panels[1], weight, "kernel w")
        draw_grid(panels[2], y, "y", known=known)
        outline(panels[2], i, j, 1, 1, BLUE)
        figure.supxlabel(f"y[{i},{j}] = {sum_of_products(window, weight)}", fontsize=9)
        return picture(figure, dpi)


def sum_of_products(window: Array, weight: Array) -> str:
    """'1·2 + (-1)·3 + ... = -1', without what is multiplied by 0, and nine terms at the most."""
    pairs = list(zip(window.ravel(), weight.ravel()))
    shown = [pair for pair in pairs if pair[1] != 0][:9]
    terms = [f"{_bracketed(a)}·{_bracketed(b)}" for a, b in shown]
    dots = " + ..." if len(shown) < sum(b != 0 for _, b in pairs) else ""
    return f"{' + '.join(terms) or '0'}{dots} = {number(float((window * weight).sum()))}"


def _bracketed(value: float) -> str:
    return number(value) if value >= 0 else f"({number(value)})"
