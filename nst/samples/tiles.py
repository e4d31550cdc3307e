"""A mosaic of glass tiles and grout, made to be a style picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .drawing import OVERSAMPLING, Floats, Size, grid, mix, noise, ramp, reduced, sides, smoothstep

_TILE = 0.034  # side of a tile
_JOINT = 0.0042  # half the breadth of the grout
_GROUT = (0.23, 0.20, 0.18)
_SEA = ("#08303f", "#0e5a6b", "#1f8a8f", "#74c2ae", "#e9e3c4", "#1f8a8f", "#0b4458")
_PETALS = (
    ("#fff1c9", "#ffd05a", "#f19a1a", "#d2452f", "#7e1737", "#f6ead0", "#c33c54"),
    ("#ffe3d3", "#ff9a76", "#e4572e", "#f3d9a0", "#26437f", "#122455", "#f0c808"),
    ("#f7f3e3", "#b7d968", "#5d9c3b", "#f2c14e", "#f78154", "#b4436c", "#5c1a4a"),
)


def mosaic(size: Size = 512, seed: int = 0) -> Image.Image:
    """A mosaic: rosettes of hand-cut glass tiles set in rings, among tiles in wavy rows.

    Every pixel knows its ring or row r and its place s along it, in tiles; floor(r), floor(s)
    names the tile, and the fractions give the distance to the joint.  A hash of the name gives
    each tile its own shade, its tilt and the cut of its sides.
    """
    width, height = sides(size)
    shape = (height * OVERSAMPLING, width * OVERSAMPLING)
    rng = np.random.default_rng([seed, 2])
    x, y = grid(*shape[::-1])
    wobble = 0.16 * _TILE  # cut by hand: no side is quite straight
    x = x + wobble * noise(rng, shape, (26, 26), octaves=2)
    y = y + wobble * noise(rng, shape, (26, 26), octaves=2)
    plan = _Rosettes(rng, width / height)
    part, r, s = plan.place(x, y)
    name, across, along = _cut(part, r, s)
    edge = np.minimum(across, along)
    chance = _hashed(np.stack([name + k for k in (0, 7, 13, 29)]))
    glass = plan.colour(part, r, s, chance)
    # Each tile leans its own way, so light runs over it; its rim is rounded towards the grout.
    lean = (chance[2] - 0.5) * (r % 1 - 0.5) + (chance[3] - 0.5) * (s % 1 - 0.5)
    glass *= (1 + 0.35 * lean + 0.07 * noise(rng, shape, (60, 60), octaves=3))[..., None]
    glass = glass + (_bevel(edge) * 0.28)[..., None]
    grout = np.asarray(_GROUT) * (1 + 0.22 * noise(rng, shape, (120, 120), octaves=2))[..., None]
    return reduced(mix(grout, glass, smoothstep(0.7, 1.1, edge / _JOINT)), (width, height))


class _Rosettes:
    """The mosaic's plan: discs of rings, the first on top, over rows of a rolling sea."""

    def __init__(self, rng: np.random.Generator, aspect: float) -> None:
        spots = np.array([[0.33, 0.42], [0.78, 0.64], [0.80, 0.12], [0.05, 0.95], [0.50, 0.97]])
        self.centre = (spots + rng.uniform(-0.02, 0.02, spots.shape)) * np.array([aspect, 1.0])
        self.rings = np.array([10, 7, 5, 6, 4])
        self.petals = np.array([8, 6, 5, 7, 5])
        self.phase = rng.uniform(0, 2 * np.pi, 3)

    def place(self, x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
        """Which part (0: the sea, k + 1: disc k), ring or row r, and place s along it."""
        wave = 0.035 * np.sin(5 * x + self.phase[0]) + 0.02 * np.sin(11 * x + self.phase[1])
        part = np.zeros(x.shape, np.float32)
        r = (y + wave + 0.3) / _TILE
        s = (x + 0.3) / _TILE * 0.9
        for k in reversed(range(len(self.centre))):
            dx, dy = x - self.centre[k, 0], y - self.centre[k, 1]
            ring = np.hypot(dx, dy) / _TILE + 0.5  # ring 0 is one round tile
            inside = ring < self.rings[k]
            count = np.maximum(np.round(2 * np.pi * np.floor(ring) * 0.9), 1)
            place = (np.arctan2(dy, dx) / (2 * np.pi) + 0.5) * count
            part = np.where(inside, np.float32(k + 1), part)
            r, s = np.where(inside, ring, r), np.where(inside, place, s)
        return part, r, s

    def colour(self, part: Floats, r: Floats, s: Floats, chance: Floats) -> Floats:
        row, column = np.floor(r), np.floor(s)
        band = row / 9.5 + 0.10 * np.sin(column / 4.5 + self.phase[2]) + 0.10 * (chance[1] - 0.5)
        rgb = ramp(band % 1.0, _SEA)
        for k, rings in enumerate(self.rings):
            here = part == k + 1
            ring, place = row[here], column[here]
            count = np.maximum(np.round(2 * np.pi * ring * 0.9), 1)
            petal = np.cos(self.petals[k] * 2 * np.pi * (place + 0.5) / count)
            t = ring / (rings - 1) + 0.13 * petal * (ring > 1) * (ring < rings - 1)
            rgb[here] = ramp(t + 0.05 * (chance[1][here] - 0.5), _PETALS[k % len(_PETALS)])
        return rgb * (0.84 + 0.32 * chance[0])[..., None]


def _cut(part: Floats, r: Floats, s: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """The tile's name, and the distances to its joints across and along its row."""
    row = np.floor(r)
    shift = _hashed((row * 31 + part * 977).astype(np.int64))  # no joint runs on into the next row
    s += np.where(part == 0, shift, 0)
    column = np.floor(s)
    name = (((part * 512 + row) * 512) + column).astype(np.int64)
    across = np.minimum(r - row, row + 1 - r) * _TILE
    along = np.minimum(s - column, column + 1 - s) * _TILE
    along = np.where((part > 0) & (row == 0), across.max(), along)
    return name, across, along


def _hashed(number: NDArray[np.int64]) -> Floats:
    """A fixed pseudo-random number in [0, 1) for every integer."""
    bits = number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits ^= bits >> np.uint64(29)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    return ((bits >> np.uint64(40)) / np.float32(1 << 24)).astype(np.float32)


def _bevel(edge: Floats) -> Floats:
    """The rounded rim's light, from the upper left: the slope of min(edge, rim)."""
    rim = np.minimum(edge, 2.6 * _JOINT) / (1.6 * _JOINT)
    step = max(1, round(edge.shape[0] / 400))
    slope = np.zeros_like(rim)
    slope[step:, step:] = rim[step:, step:] - rim[:-step, :-step]
    return np.clip(slope, -1, 1)
