"""Pictures of any kind at the size asked for: a path, PIL picture, array or tensor to `Picture`.

The steps stand in the order that keeps every one of them right: decode, upright by EXIF, colour
profile to sRGB, to floats (all in decoding.py), then crop, then resize.

Resizing is bicubic with antialiasing, on sRGB values as nearly every tool does it, so that sizes
of one picture look alike here and elsewhere.  Where there is alpha, colours are weighted with
it, so that what is hidden does not bleed into what shows.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..config.options import LARGEST_PIXELS
from ..errors import ConfigError, PictureError
from .decoding import (
    SMALLEST_SIDE,
    Picture,
    check_sides,
    from_array,
    from_file,
    from_path,
    from_pil,
    from_tensor,
)

__all__ = [
    "LARGEST_PIXELS",
    "SMALLEST_SIDE",
    "Picture",
    "Size",
    "StyleFit",
    "fit_style",
    "load_picture",
    "parse_size",
    "resize",
]

Size = int | tuple[int, int]  # the longest side, or (width, height)
StyleFit = Literal["keep", "crop", "stretch"]


def load_picture(source: Any, size: Size | None = None) -> Picture:
    """Read a path, open file, PIL picture, array (h, w[, c]) or tensor ([1,] c, h, w).

    `size` is the longest side, the other following from the shape; or (width, height), for
    which the middle of the picture is cut out in that shape: nothing is ever distorted.
    """
    if isinstance(source, Picture):
        picture = source
    elif isinstance(source, (str, os.PathLike)):
        picture = from_path(Path(source))
    elif isinstance(source, Image.Image):
        picture = from_pil(source)
    elif isinstance(source, torch.Tensor):
        picture = from_tensor(source.detach())
    elif isinstance(source, np.ndarray):
        picture = from_array(source, "array")
    elif hasattr(source, "read"):
        picture = from_file(source)
    else:
        raise PictureError(
            "expected a path, a file opened for bytes, a PIL picture, an array or a tensor as "
            f"picture, got {type(source).__name__}"
        )
    check_sides(picture.hw, picture.name)
    return picture if size is None else _sized(picture, size)


# ---------------------------------------------------------------- sizes


def parse_size(text: str) -> Size:
    """'512' -> 512, the longest side; '512x384' -> (512, 384), width and height."""
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:[x*\u00d7]\s*([0-9]{1,9})\s*)?", str(text), re.I)
    if not match:
        raise ConfigError(
            f"size expects the longest side ('512') or width x height ('512x384'), got {text!r}"
        )
    first, second = match.groups()
    return _checked_size(int(first) if second is None else (int(first), int(second)))


def _checked_size(size: Size) -> Size:
    sides = size if isinstance(size, (tuple, list)) else (size, size)
    whole = all(isinstance(s, (int, np.integer)) and not isinstance(s, bool) for s in sides)
    if len(sides) != 2 or not whole:
        raise ConfigError(
            f"size expects the longest side or (width, height) as whole numbers, got {size!r}"
        )
    if min(sides) < SMALLEST_SIDE:
        raise ConfigError(f"size expects sides of {SMALLEST_SIDE} pixels or more, got {size!r}")
    if sides[0] * sides[1] > LARGEST_PIXELS:
        raise ConfigError(
            f"size expects {LARGEST_PIXELS:,} pixels at most, got {sides[0] * sides[1]:,} "
            f"({sides[0]}x{sides[1]})"
        )
    return size


def _sized(picture: Picture, size: Size) -> Picture:
    size = _checked_size(size)
    if not isinstance(size, int):
        return _resized(_cropped(picture, size[1] / size[0]), (size[1], size[0]))
    return _resized(picture, _longest_side(picture.hw, size))


def _longest_side(hw: tuple[int, int], size: float) -> tuple[int, int]:
    h, w = (max(1, round(side * size / max(hw))) for side in hw)
    return h, w


def _cropped(picture: Picture, ratio: float) -> Picture:
    """The largest middle part with height / width = ratio."""
    h, w = picture.hw
    new_h, new_w = min(h, max(1, round(w * ratio))), min(w, max(1, round(h / ratio)))
    top, left = (h - new_h) // 2, (w - new_w) // 2
    window = (..., slice(top, top + new_h), slice(left, left + new_w))
    alpha = None if picture.alpha is None else picture.alpha[window]
    return replace(picture, rgb=picture.rgb[window], alpha=alpha)


def _resized(picture: Picture, hw: tuple[int, int]) -> Picture:
    check_sides(hw, picture.name)
    if hw[0] > picture.hw[0] or hw[1] > picture.hw[1]:
        sizes = [f"{width}x{height}" for height, width in (picture.hw, hw)]
        remark = f"{picture.name}: enlarged from {sizes[0]} to {sizes[1]} pixels"
        picture = replace(picture, remarks=(*picture.remarks, remark))
    if picture.alpha is None:
        return replace(picture, rgb=resize(picture.rgb, hw))
    alpha = resize(picture.alpha, hw)
    weighted = resize(picture.rgb * picture.alpha, hw) / alpha.clamp_min(1e-4)
    # Where nothing shows there is no weighted colour; the plain one keeps borders free of black.
    rgb = torch.where(alpha > 1e-3, weighted.clamp(0, 1), resize(picture.rgb, hw))
    return replace(picture, rgb=rgb, alpha=alpha)


def resize(rgb: torch.Tensor, hw: tuple[int, int]) -> torch.Tensor:
    """(n, c, h, w) at a new (height, width): bicubic, antialiased, kept within [0, 1]."""
    if tuple(rgb.shape[-2:]) == tuple(hw):
        return rgb
    resized = F.interpolate(rgb, tuple(hw), mode="bicubic", align_corners=False, antialias=True)
    return resized.clamp(0, 1)


def fit_style(
    style: Picture, target_hw: tuple[int, int], mode: StyleFit = "keep", scale: float = 1.0
) -> Picture:
    """The style picture at the size that goes with a result of target_hw = (height, width).

    keep     its own shape; the longest side is `scale` times the result's
    crop     its middle, in the result's shape, `scale` times as large
    stretch  the whole, pressed into the result's shape, `scale` times as large

    A small style is enlarged: strokes then have the same size in the picture at every size.
    """
    if not 0 < scale <= 16:  # also refuses nan
        raise ConfigError(f"style-scale expects a number above 0, 16 at most, got {scale!r}")
    goal = (max(1, round(target_hw[0] * scale)), max(1, round(target_hw[1] * scale)))
    if mode == "keep":
        return _resized(style, _longest_side(style.hw, max(target_hw) * scale))
    if mode == "crop":
        return _resized(_cropped(style, target_hw[0] / target_hw[1]), goal)
    if mode == "stretch":
        return _resized(style, goal)
    raise ConfigError(f"style-fit expects one of keep, crop, stretch, got {mode!r}")
