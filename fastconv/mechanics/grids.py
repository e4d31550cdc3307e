"""A matrix drawn as a grid of numbers on coloured cells: what all these pictures are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..figures import INK
from ..lessons.layer import Array

FRAME = (0.85, 0.85, 0.85)  # padding
LINES = "#ececec"


def number(value: float) -> str:
    """A number in few characters: -0.5, 3, 0.083."""
    if abs(value) < 1e-9:  # what rounding leaves of nothing
        return "0"
    return f"{value:.2g}" if abs(value) < 10 else f"{value:.0f}"


def draw_grid(
    panel: Any,
    values: Array,
    title: str = "",
    *,
    known: Array | None = None,
    frame: tuple[int, int, int, int] = (0, 0, 0, 0),
    top: float | None = None,
    size: float = 8,
) -> None:
    """`values` (h, w) as numbers on cells from blue (negative) to red (positive).

    Cells where `known` is false stay empty; the `frame` (top, bottom, left, right) of padding is
    grey.  `top` is the value of full colour: the largest one if not given.
    """
    h, w = values.shape
    full = top or float(np.abs(values).max()) or 1.0
    up, down, left, right = frame
    colours = np.ones((h, w, 3))
    for i, j in np.ndindex(h, w):
        value = float(values[i, j])
        if known is not None and not known[i, j]:
            continue
        is_frame = i < up or i >= h - down or j < left or j >= w - right
        is_padding = is_frame and value == 0
        colours[i, j] = FRAME if is_padding else shade(value / full)
        ink = "#9a9a9a" if is_padding else "white" if abs(value) > 0.75 * full else INK
        panel.text(j, i, number(value), ha="center", va="center", fontsize=size, color=ink)
    panel.imshow(colours, interpolation="nearest")
    panel.hlines(np.arange(h + 1) - 0.5, -0.5, w - 0.5, color=LINES, linewidth=0.8)
    panel.vlines(np.arange(w + 1) - 0.5, -0.5, h - 0.5, color=LINES, linewidth=0.8)
    panel.set(xlim=(-0.6, w - 0.4), ylim=(h - 0.4, -0.6), aspect="equal")
    panel.axis("off")
    panel.set_title(title)


def shade(part: float) -> tuple[float, float, float]:
    """A colour for -1 (blue) to 1 (red), light enough for dark numbers on most of the way."""
    strength = min(abs(part), 1.0)
    hue = np.array([0.78, 0.22, 0.17]) if part >= 0 else np.array([0.18, 0.44, 0.69])
    mixed = 1 - (1 - hue) * (0.12 + 0.88 * strength) if strength > 1e-9 else np.full(3, 0.97)
    return (float(mixed[0]), float(mixed[1]), float(mixed[2]))


def outline(panel: Any, top: int, left: int, height: int, width: int, colour: str) -> None:
    """A thick frame around a part of a grid."""
    from matplotlib.patches import Rectangle

    corner = (left - 0.5, top - 0.5)
    panel.add_patch(
        Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=2.6, zorder=3)
    )


def matrix(values: Any, name: str, largest: int = 10) -> Array:
    """`values` as a float64 matrix that is small enough to be drawn with its numbers."""
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 2 or found.size == 0 or max(found.shape) > largest:
        raise ArgumentError(
            f"{name} expects a matrix of {largest}x{largest} at most, got shape {found.shape}"
        )
    return found
