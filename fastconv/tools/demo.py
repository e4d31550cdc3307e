"""The demo of fastconv: edges and blur of a drawn picture on every backend.

The library part: it draws, filters, times and lays out a sheet; `cli.py` saves and prints.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..registry import backends
from . import filters

SIDE = 192


@dataclass(frozen=True)
class DemoRow:
    """One backend's results: what it made, how long it took, how far it is from torch."""

    backend: str
    edges: Tensor
    blur: Tensor
    seconds: float
    difference: float


def drawn_picture(side: int = SIDE) -> Tensor:
    """A drawn landscape with sun and house, (3, side, side) in [0, 1]."""
    scale = side / 192
    image = Image.new("RGB", (side, side), (150, 196, 236))
    draw = ImageDraw.Draw(image)

    def at(*points: float) -> list[float]:
        return [p * scale for p in points]

    draw.ellipse(at(128, 18, 170, 60), fill=(255, 214, 90))
    draw.polygon(at(0, 120, 60, 52, 118, 120), fill=(92, 112, 140))
    draw.polygon(at(70, 120, 140, 66, 192, 120), fill=(70, 92, 122))
    draw.rectangle(at(0, 118, 192, 192), fill=(94, 148, 82))
    draw.polygon(at(84, 192, 108, 118, 118, 118, 150, 192), fill=(206, 184, 140))
    draw.rectangle(at(24, 104, 72, 146), fill=(196, 92, 74))
    draw.polygon(at(18, 104, 48, 78, 78, 104), fill=(112, 52, 48))
    draw.rectangle(at(40, 122, 54, 146), fill=(72, 46, 40))
    for x in (30, 58):
        draw.rectangle(at(x, 112, x + 8, 121), fill=(250, 236, 180))
    for x, y, r in ((150, 128, 13), (168, 122, 11), (132, 126, 9)):
        draw.rectangle(at(x - 2, y, x + 2, y + 24), fill=(88, 62, 44))
        draw.ellipse(at(x - r, y - 2 * r, x + r, y + r * 0.4), fill=(44, 104, 60))
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()


def run(picture: Tensor, sigma: float = 2.0) -> list[DemoRow]:
    """Edges and blur of `picture` on every backend that is there."""
    names = [name for name, info in backends().items() if info.available]
    reference = (
        filters.edges(picture, "torch"),
        filters.apply(picture, filters.gaussian(sigma), "torch"),
    )
    rows = []
    for name in names:
        filters.edges(picture[:, :16, :16], name)  # compiles and loads: not part of the time
        started = time.perf_counter()
        found = filters.edges(picture, name)
        blurred = filters.apply(picture, filters.gaussian(sigma), name)
        seconds = time.perf_counter() - started
        pairs = zip((found, blurred), reference)
        difference = max(float((a - b).abs().max()) for a, b in pairs)
        rows.append(DemoRow(name, found, blurred, seconds, difference))
    return rows


def sheet(picture: Tensor, rows: list[DemoRow]) -> Image.Image:
    """A labelled sheet: the picture on the left, a row of edges and one of blur beside it."""
    gap, label = 8, 16
    side = picture.shape[-1]
    width = gap + (len(rows) + 1) * (side + gap)
    canvas = Image.new("RGB", (width, 2 * (side + label) + 3 * gap), "white")
    draw = ImageDraw.Draw(canvas)

    def place(tensor: Tensor, column: int, row: int, text: str) -> None:
        x, y = gap + column * (side + gap), gap + row * (side + label + gap)
        draw.text((x, y), text, fill="black")
        canvas.paste(_to_image(tensor), (x, y + label))

    place(picture, 0, 0, "picture")
    for column, result in enumerate(rows, start=1):
        place(result.edges / result.edges.max(), column, 0, f"edges: {result.backend}")
        place(result.blur, column, 1, f"blur: {result.backend}")
    return canvas


def _to_image(tensor: Tensor) -> Image.Image:
    values = (tensor.clamp(0, 1) * 255).round().byte().expand(3, -1, -1)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())
