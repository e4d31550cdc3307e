"""A training of seconds on pictures that are easy to tell apart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from nst.training import TrainOptions


def pattern(number: int, side: int = 48) -> Image.Image:
    """Stripes of an angle and a colour of their own, easy to tell from another number's."""
    y, x = np.mgrid[0:side, 0:side] / side
    wave = 0.5 + 0.5 * np.sin(
        2 * math.pi * (3 + number) * (x * (number % 2) + y * (1 - number % 2))
    )
    colour = np.random.default_rng(number).uniform(60, 255, 3)
    return Image.fromarray((wave[..., None] * colour).astype(np.uint8))


def options(folder: Path, **changes: object) -> TrainOptions:
    """A run of seconds: 4 to 32 channels, crops of 24 pixels."""
    values: dict[str, object] = {
        "data": str(folder), "output": folder.parent / "net.safetensors", "width": 0.0625,
        "image_size": 24, "first_size": 16, "epochs": 4, "batch_size": 3, "evaluate_every": 2,
        "precision": "float32", "threads": 1,
    }  # fmt: skip
    return TrainOptions(**(values | changes))  # type: ignore[arg-type]
