"""The comparison sheet: content, styles and result side by side, each with its label."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..errors import PictureError
from ..images import load_picture
from .writers import save_picture, to_pixels

_MARGIN = 0.035  # of the height of a picture
_LABEL = 0.055
_PER_ROW = 4
_PAPER, _INK = (250, 249, 246), (40, 40, 44)


def compare_sheet(
    pictures_with_labels: Sequence[tuple[Any, str]],
    path: str | os.PathLike[str],
    height: int | None = None,
) -> Path:
    """Write pictures of equal height in rows of up to four, with their labels underneath.

    A picture is anything `load_picture` reads.  `height` is that of one picture; by default the
    last one's, the result's own.
    """
    if not pictures_with_labels:
        raise PictureError("expected one picture or more for the sheet, got none")
    images = [_image(source) for source, _ in pictures_with_labels]
    side = height or images[-1].height
    tiles = [_tile(image, label, side) for image, (_, label) in zip(images, pictures_with_labels)]
    rows = [tiles[i : i + _PER_ROW] for i in range(0, len(tiles), _PER_ROW)]
    gap = max(4, round(_MARGIN * side))
    width = max(sum(tile.width + gap for tile in row) for row in rows) + gap
    sheet = Image.new("RGB", (width, sum(row[0].height + gap for row in rows) + gap), _PAPER)
    top = gap
    for row in rows:
        left = (width - sum(tile.width + gap for tile in row) + gap) // 2
        for tile in row:
            sheet.paste(tile, (left, top))
            left += tile.width + gap
        top += row[0].height + gap
    pixels = np.asarray(sheet, np.float32) / 255
    return save_picture(path, torch.from_numpy(pixels).movedim(-1, 0))


def _image(source: Any) -> Image.Image:
    return Image.fromarray(to_pixels(load_picture(source).rgb))


def _tile(image: Image.Image, label: str, side: int) -> Image.Image:
    width = max(1, round(image.width * side / image.height))
    picture = image.resize((width, side), Image.Resampling.LANCZOS)
    size = max(11, round(_LABEL * side))
    tile = Image.new("RGB", (width, side + round(1.7 * size)), _PAPER)
    tile.paste(picture, (0, 0))
    draw = ImageDraw.Draw(tile)
    text, font = _fitting(draw, label, width, size)
    draw.text((width / 2, side + 0.95 * size), text, _INK, font, anchor="mm")
    return tile


def _fitting(draw: ImageDraw.ImageDraw, label: str, width: int, size: int) -> tuple[str, Any]:
    """The label in the largest type up to `size` that fits, shortened where none does."""
    for points in range(size, 9, -1):
        font = ImageFont.load_default(points)
        if draw.textlength(label, font) <= width:
            return label, font
    while len(label) > 1 and draw.textlength(label + "...", font) > width:
        label = label[:-1]
    return label + "...", font
