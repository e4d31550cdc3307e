"""What the drawn pictures share: sizes, noise, colour ramps, the last step to a PIL picture.

Everything is laid out in units of the height, x in [0, w/h] and y in [0, 1] downwards, so that a
larger size shows the same picture with finer pixels.  Drawing happens at twice the size and is
reduced at the end: that is cheaper than antialiased strokes and keeps edges crisp.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import PictureError

Size = int | tuple[int, int]
Floats = NDArray[np.floating]

OVERSAMPLING = 2
SMALLEST_SIDE = 8


def sides(size: Size) -> tuple[int, int]:
    """(width, height) asked for; one number is the longest side of a 4:3 picture."""
    width, height = size if isinstance(size, tuple) else (size, round(size * 3 / 4))
    if min(width, height) < SMALLEST_SIDE:
        raise PictureError(
            f"a sample picture needs sides of {SMALLEST_SIDE} pixels or more, "
            f"got {width}x{height}; ask for a larger size"
        )
    return width, height


def grid(width: int, height: int) -> tuple[Floats, Floats]:
    """x and y of every pixel's centre, in units of the height."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return (x + 0.5) / height, (y + 0.5) / height


def noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    cells: tuple[float, float],
    octaves: int = 5,
    gain: float = 0.5,
) -> Floats:
    """Fractal noise, sum_k gain^k n(2^k x), about [-1, 1]; `cells` (x, y) per unit of height."""
    height, width = shape
    total = np.zeros(shape, np.float32)
    for k in range(octaves):
        rows = max(2, round(cells[1] * 2**k) + 1)
        columns = max(2, round(cells[0] * 2**k * width / height) + 1)
        values = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
        smooth = Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)
        total += gain**k * np.asarray(smooth)
    return total / sum(gain**k for k in range(octaves)) * 1.6


def mix(a: object, b: object, t: Floats) -> Floats:
    """a (1 - t) + b t for colours or pictures a and b and a map t."""
    weight = np.clip(t, 0, 1)[..., None]
    return np.asarray(a, np.float32) * (1 - weight) + np.asarray(b, np.float32) * weight


def ramp(t: Floats, colours: object) -> Floats:
    """The colour at t in [0, 1] along equally spaced stops (hex strings or triples)."""
    stops = np.array([rgb(c) for c in colours], np.float32)  # type: ignore[attr-defined]
    at = np.clip(t, 0, 1) * (len(stops) - 1)
    channels = [np.interp(at, np.arange(len(stops)), stops[:, c]) for c in range(3)]
    return np.stack(channels, -1).astype(np.float32)


def rgb(colour: str | Sequence[float]) -> tuple[float, ...]:
    if isinstance(colour, str):
        return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return tuple(colour)


def to_picture(rgb: Floats) -> Image.Image:
    return Image.fromarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8))


def to_floats(picture: Image.Image) -> Floats:
    return np.asarray(picture, np.float32) / 255


def reduced(rgb: Floats, sides: tuple[int, int]) -> Image.Image:
    return to_picture(rgb).resize(sides, Image.Resampling.LANCZOS)


def smoothstep(low: float, high: float, t: Floats) -> Floats:
    u = np.clip((t - low) / (high - low), 0, 1)
    return u * u * (3 - 2 * u)
