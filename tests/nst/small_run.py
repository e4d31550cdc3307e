"""A style transfer of a second."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

import nst

SMALL: dict[str, Any] = {
    "size": 40,
    "network": "builtin",
    "backend": "torch",
    "style_layers": ("relu1_1", "relu2_1"),
    "content_layers": ("relu2_2",),
    "iterations": 6,
    "scales": 2,
}


def picture(seed: int, height: int = 30, width: int = 40) -> Image.Image:
    """Smooth blobs of colour."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


CONTENT, STYLE = picture(1), picture(2, 36, 36)


def run(**options: Any) -> nst.Result:
    return nst.stylize(CONTENT, STYLE, **{**SMALL, **options})
