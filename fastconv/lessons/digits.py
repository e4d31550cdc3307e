"""Drawn digits: a task that is small enough to be learned in seconds and looks like the real one.

Every digit is a few strokes; each picture of it is turned, slanted, stretched, shifted, drawn with
another pen and strewn with noise, all by the seed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .layer import whole

SIDE = 12  # pixels
_FINE = 4  # drawn this many times larger, then averaged: smooth strokes

Point = tuple[float, float]


def _arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float) -> list[Point]:
    """Points on an ellipse; angles in degrees, 0 to the right, 90 downwards."""
    angles = np.radians(np.linspace(start, end, 13))
    return [(cx + rx * float(np.cos(a)), cy + ry * float(np.sin(a))) for a in angles]


# Strokes as lines through points, x to the right and y down, in a box from -1 to 1.
_STROKES: dict[int, list[list[Point]]] = {
    0: [_arc(0, 0, 0.55, 0.9, 0, 360)],
    1: [[(-0.35, -0.5), (0.1, -0.9), (0.1, 0.9)]],
    2: [[*_arc(0, -0.4, 0.5, 0.5, 190, 380), (-0.55, 0.9), (0.6, 0.9)]],
    3: [_arc(-0.05, -0.45, 0.5, 0.45, 200, 450), _arc(-0.05, 0.45, 0.55, 0.45, 270, 520)],
    4: [[(0.3, 0.9), (0.3, -0.9), (-0.55, 0.35), (0.65, 0.35)]],
    5: [[(0.5, -0.9), (-0.4, -0.9), (-0.45, -0.1), *_arc(-0.02, 0.35, 0.55, 0.55, 250, 510)]],
    6: [[(0.35, -0.9), (-0.35, -0.1), (-0.5, 0.4)], _arc(0, 0.38, 0.5, 0.5, 0, 360)],
    7: [[(-0.55, -0.9), (0.55, -0.9), (-0.15, 0.9)]],
    8: [_arc(0, -0.45, 0.42, 0.43, 0, 360), _arc(0, 0.45, 0.52, 0.45, 0, 360)],
    9: [_arc(0, -0.38, 0.5, 0.5, 0, 360), [(0.5, -0.4), (0.25, 0.9)]],
}  # fmt: skip


def drawn_digits(count: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """`count` pictures (count, 1, 12, 12), ink 1 on paper 0, and the digits (count,) they show."""
    count = whole("drawn_digits", "count", count)
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 10, count)
    pictures = np.stack([_draw(int(digit), generator) for digit in labels])
    noise = generator.normal(0, 0.08, pictures.shape)
    return np.clip(pictures + noise, 0, 1)[:, None], labels


def _draw(digit: int, generator: np.random.Generator) -> NDArray[np.float64]:
    side = SIDE * _FINE
    turn, slant = generator.normal(0, 0.12), generator.normal(0, 0.15)
    width, height = generator.uniform(0.26, 0.4), generator.uniform(0.3, 0.41)
    centre = 0.5 + generator.uniform(-0.06, 0.06, 2)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shape = turned @ np.array([[width, slant * width], [0, height]])
    image = Image.new("L", (side, side))
    pen, draw = int(generator.integers(4, 8)), ImageDraw.Draw(image)
    for stroke in _STROKES[digit]:
        points = (centre + np.array(stroke) @ shape.T) * side
        draw.line([(float(x), float(y)) for x, y in points], fill=255, width=pen, joint="curve")
    values = np.asarray(image, dtype=np.float64) / 255
    return values.reshape(SIDE, _FINE, SIDE, _FINE).mean(axis=(1, 3))
