"""The comparison sheet: content, styles and result side by side, each with its label.

And how far pictures that should be alike are apart, in numbers and as pictures.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..errors import PictureError
from ..pictures.sizing import load_picture
from .writers import save_picture, to_pixels

_MARGIN = 0.035  # of the height of a picture
_LABEL = 0.055
_PER_ROW = 4
# Fonts with many scripts, by the names that they have on Linux, macOS and Windows.
FONTS = (
    *("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSansCJK-VF.ttf.ttc", "wqy-microhei.ttc"),
    *("wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "DroidSansFallback.ttf", "NanumGothic.ttf"),
    *("ipagp.ttf", "ipag.ttf", "TakaoPGothic.ttf", "NotoSansJP-Regular.otf", "unifont.ttf"),
    *("Arial Unicode.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc"),
    *("arial.ttf", "msyh.ttc", "simsun.ttc", "YuGothM.ttc", "meiryo.ttc", "msgothic.ttc"),
    "malgun.ttf",
)
Typeface = Callable[[int], Any]  # its size in points -> Pillow's font
_PAPER, _INK = (250, 249, 246), (40, 40, 44)


def compare_sheet(
    pictures_with_labels: Sequence[tuple[Any, str]],
    path: str | os.PathLike[str],
    height: int | None = None,
    per_row: int | None = None,
) -> Path:
    """Write pictures of equal height in rows, with their labels underneath.

    A picture is anything `load_picture` reads.  `height` is that of one picture; by default the
    last one's, the result's own.  By default rows hold four at most, and as equal a number as
    can be: five are three and two.
    """
    if not pictures_with_labels:
        raise PictureError("expected one picture or more for the sheet, got none")
    images = [_image(source) for source, _ in pictures_with_labels]
    side = height or images[-1].height
    labels = [label for _, label in pictures_with_labels]
    tiles = [
        _tile(image, n, label, side) for n, (image, label) in enumerate(zip(images, labels), 1)
    ]
    per_row = per_row or math.ceil(len(tiles) / math.ceil(len(tiles) / _PER_ROW))
    rows = [tiles[i : i + per_row] for i in range(0, len(tiles), per_row)]
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


def _tile(image: Image.Image, number: int, label: str, side: int) -> Image.Image:
    width = max(1, round(image.width * side / image.height))
    picture = image.resize((width, side), Image.Resampling.LANCZOS)
    size = max(11, round(_LABEL * side))
    tile = Image.new("RGB", (width, side + round(1.7 * size)), _PAPER)
    tile.paste(picture, (0, 0))
    draw = ImageDraw.Draw(tile)
    typeface = _typeface(label)
    if typeface is None:  # the files stand in the order of the command line
        label, typeface = f"picture {number}", ImageFont.load_default
    text, font = _fitting(draw, label, typeface, width, size)
    draw.text((width / 2, side + 0.95 * size), text, _INK, font, anchor="mm")
    return tile


def _fitting(
    draw: ImageDraw.ImageDraw, label: str, typeface: Typeface, width: int, size: int
) -> tuple[str, Any]:
    """The label in the largest type up to `size` that fits, shortened where none does."""
    for points in range(size, 9, -1):
        font = typeface(points)
        if draw.textlength(label, font) <= width:
            return label, font
    while len(label) > 1 and draw.textlength(label + "...", font) > width:
        label = label[:-1]
    return label + "...", font


def _typeface(label: str) -> Typeface | None:
    """A font that has every character of the label, or None: empty boxes say nothing.

    Pillow's own has the letters of English alone.
    """
    if _draws(ImageFont.load_default(20), label):
        return ImageFont.load_default
    for file in (*_of_matplotlib(), *FONTS):
        with suppress(OSError):  # not there; Pillow looks into the system's folders
            font = ImageFont.truetype(file, 20)
            if _draws(font, label):
                return lambda points: font.font_variant(size=points)
    return None


def _draws(font: Any, label: str) -> bool:
    """Whether no character is drawn as the box that stands for one which is not there."""
    try:
        box = bytes(font.getmask("\U0010ffff"))  # no font has a character of this number
        return all(bytes(font.getmask(c)) != box for c in label if not c.isspace())
    except UnicodeError:  # without FreeType Pillow has a font of 256 characters
        return False


def _of_matplotlib() -> list[str]:
    """The font that matplotlib brings along (Latin, Greek, Cyrillic, ...), found without import."""
    spec = find_spec("matplotlib")
    folders = (spec.submodule_search_locations if spec else None) or []
    return [str(Path(folder) / "mpl-data/fonts/ttf/DejaVuSans.ttf") for folder in folders]


# ---------------------------------------------------------------- differences


@dataclass(frozen=True)
class Difference:
    """How far a picture is from another: |a - b| over all pixels and channels, in [0, 1]."""

    largest: float
    mean: float
    rgb: torch.Tensor  # |a - b|, (1, 3, h, w)

    @property
    def words(self) -> str:
        """In the steps of 8-bit pictures, as one thinks of them."""
        mean = 255 * self.mean
        on_average = f"{mean:.0f}" if mean > 99 else f"{mean:.2g}"
        return f"{255 * self.largest:.3g}/255 at most, {on_average}/255 on average"


def differences(reference: Any, others: Sequence[Any]) -> list[Difference]:
    """Each of `others` against the reference; all must have its size."""
    first = load_picture(reference)
    found = []
    for other in others:
        picture = load_picture(other)
        if picture.hw != first.hw:
            raise PictureError(
                f"{picture.name}: expected the size of the first picture, "
                f"{first.hw[1]}x{first.hw[0]}, got {picture.hw[1]}x{picture.hw[0]}"
            )
        apart = (picture.rgb - first.rgb).abs()
        found.append(Difference(float(apart.max()), float(apart.double().mean()), apart))
    return found


def amplified(found: Sequence[Difference]) -> tuple[list[torch.Tensor], float]:
    """The differences as pictures, multiplied until the largest of them all is white."""
    largest = max((difference.largest for difference in found), default=0.0)
    factor = 1 / largest if largest > 0 else 1.0
    return [(factor * difference.rgb).clamp(0, 1) for difference in found], factor
