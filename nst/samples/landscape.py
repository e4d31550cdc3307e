"""A landscape with depth and detail, made to be a content picture.

From back to front: sky with sun and clouds, two ranges of mountains, hills, the far shore with a
house and trees, the lake that mirrors all of it, a boat, the near shore with grass, flowers and
a birch.  Masses are computed per pixel, things with outlines are drawn as polygons.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .drawing import (
    OVERSAMPLING,
    Floats,
    Size,
    grid,
    mix,
    noise,
    ramp,
    reduced,
    rgb,
    sides,
    smoothstep,
)
from .things import Brush, birch, flower, house, round_tree, spruce

_SHORE = 0.60  # where the lake begins
_SKY = ("#2c5fa8", "#5b93cf", "#a5c8e4", "#f3dfc0", "#fbc98a")
_SUN = (0.62, 0.25)  # in units of the width and of the height
_RANGES = (  # the skyline's height, its swing, foot and crest colours, snow
    (0.40, 0.17, "#b9c3dd", "#5f76ad", True),
    (0.50, 0.10, "#8fa9b8", "#3f6a80", False),
)
_HILLS = ((0.545, 0.035, "#7f9f58", "#a9b95f"), (0.575, 0.025, "#4f7d3f", "#8aa548"))


def scene(size: Size = 512, seed: int = 0) -> Image.Image:
    """A lake among mountains in late sun, with a house, trees, a boat and a flowered shore."""
    width, height = sides(size)
    shape = (height * OVERSAMPLING, width * OVERSAMPLING)
    rng = np.random.default_rng([seed, 3])
    x, y = grid(*shape[::-1])
    sun = (_SUN[0] * width / height, _SUN[1])
    picture = _sky(rng, x, y, sun)
    for row in _RANGES:
        picture = _mountains(rng, picture, x, y, *row)
    for hill in _HILLS:
        picture = _hill(rng, picture, x, y, *hill)
    picture = _far_shore(rng, picture)
    picture = _lake(rng, picture, x, y, sun)
    picture = _boat(picture)
    picture = _near_shore(rng, picture, x, y)
    glow = np.exp(-((np.hypot(x - sun[0], y - sun[1]) / 0.55) ** 2))
    picture = picture + 0.10 * glow[..., None] * np.array([1.0, 0.75, 0.4])
    return reduced(picture, (width, height))


def _sky(rng: np.random.Generator, x: Floats, y: Floats, sun: tuple[float, float]) -> Floats:
    far = np.hypot(x - sun[0], y - sun[1])
    sky = ramp(y / _SHORE * 0.95, _SKY)
    sky = mix(sky, rgb("#ffe7b0"), 0.75 * np.exp(-((far / 0.22) ** 2)))
    # A cloud's sunward side, where less of it lies before the light, is lit; its base is grey.
    towers = noise(rng, x.shape, (2.4, 4.6), octaves=7, gain=0.52)
    density = smoothstep(0.02, 0.42, towers + 0.10 - 1.1 * np.abs(y - 0.16))
    step = max(1, round(x.shape[0] * 0.022))
    light = density - np.roll(density, (-step, -step), (0, 1))
    puffs = noise(rng, x.shape, (9, 12), octaves=5)
    shade = mix(rgb("#a9b4cf"), rgb("#fffaf0"), 0.70 + 0.9 * light + 0.35 * puffs)
    shade = mix(shade, rgb("#ffdca6"), 0.6 * np.exp(-((far / 0.35) ** 2)))
    sky = mix(sky, shade, 0.95 * density)
    return mix(sky, rgb("#fffbe8"), smoothstep(0.043, 0.038, far))


def _skyline(rng: np.random.Generator, x: Floats, cells: float, octaves: int) -> Floats:
    """One number per column, in about [-1, 1]."""
    return noise(rng, (2, x.shape[1]), (cells / x.shape[1] * 2 * x[0, -1], 1), octaves)[0]


def _mountains(
    rng: np.random.Generator,
    behind: Floats,
    x: Floats,
    y: Floats,
    top: float,
    swing: float,
    foot: str,
    crest: str,
    snowy: bool,
) -> Floats:
    """Peaks with lit and shaded flanks and snow, paler towards the foot where haze lies."""
    peaks = 1 - 2 * np.abs(_skyline(rng, x, 2.6, 7))
    line = top - swing * (0.35 + 0.65 * peaks)
    depth = y - line[None]
    # Folded noise has sharp ridges; its slope across gives flanks in light and in shade.
    folds = np.abs(noise(rng, x.shape, (7, 3.2), octaves=6, gain=0.55))
    rock = noise(rng, x.shape, (24, 16), octaves=4, gain=0.6)
    step = max(1, round(x.shape[0] * 0.008))
    lean = np.clip(3.2 * (folds - np.roll(folds, -step, 1)), -1, 1) + 0.12 * rock
    haze = smoothstep(0, swing * 1.5, depth)
    colour = mix(rgb(crest), rgb(foot), haze)
    colour = colour * (1 + 0.42 * (1 - 0.8 * haze) * lean)[..., None]
    if snowy:
        snow = smoothstep(0.012, -0.012, depth - 0.5 * swing + 0.10 * folds + 0.03 * rock)
        white = mix(rgb("#7f97c6"), rgb("#fff8ee"), 0.62 + 0.6 * lean)
        colour = mix(colour, white, 0.95 * snow)
    return mix(behind, colour, _inside(depth))


def _inside(depth: Floats) -> Floats:
    """1 where depth > 0, with an edge of one pixel."""
    return np.clip(depth * depth.shape[0] + 0.5, 0, 1)


def _hill(
    rng: np.random.Generator,
    behind: Floats,
    x: Floats,
    y: Floats,
    top: float,
    swing: float,
    dark: str,
    light: str,
) -> Floats:
    """A hill of meadows and woods."""
    depth = y - (top + swing * _skyline(rng, x, 2.0, 3))[None]
    meadow = noise(rng, x.shape, (6, 26), octaves=5)
    colour = mix(rgb(dark), rgb(light), 0.5 + 0.9 * meadow)
    woods = smoothstep(0.12, 0.2, noise(rng, x.shape, (5, 18), octaves=6, gain=0.6))
    leaves = noise(rng, x.shape, (70, 90), octaves=2)
    colour = mix(colour, np.array(rgb("#2f5236")) * (1 + 0.5 * leaves)[..., None], woods)
    return mix(behind, colour, _inside(depth))


# ---------------------------------------------------------------- shores and water


def _far_shore(rng: np.random.Generator, picture: Floats) -> Floats:
    """A tongue of land with a house between trees."""
    brush = Brush(picture)
    a = brush.aspect
    at = np.linspace(0, 0.62 * a, 80)
    rise = 0.052 * np.clip(1 - (at / (0.60 * a)) ** 2, 0, 1) + 0.004 * np.sin(40 * at)
    bank = np.stack([at, _SHORE - rise], 1)
    brush.polygon([*bank, (0.62 * a, _SHORE + 0.003), (0, _SHORE + 0.003)], "#6f9440")
    for x, y in rng.uniform((0, 0), (0.58 * a, 1), (700, 2)):
        top = _SHORE - np.interp(x, at, rise)
        shade = np.array(rgb("#89ab4b")) * rng.uniform(0.65, 1.2)
        y = top + y * (_SHORE - top)
        brush.line([(x, y), (x + 0.004, y - 0.006)], shade, 0.0018)
    for x, tall in ((0.035, 0.20), (0.075, 0.25), (0.125, 0.19), (0.325, 0.17), (0.475, 0.15)):
        spruce(rng, brush, x * a, _SHORE - 0.038, tall)
    house(brush, 0.20 * a, _SHORE - 0.028, 0.19)
    round_tree(rng, brush, 0.385 * a, _SHORE - 0.026, 0.115, ("#2f5a24", "#6f9a35", "#c7c85a"))
    round_tree(rng, brush, 0.52 * a, _SHORE - 0.012, 0.075, ("#7a3b18", "#c9702a", "#f3b54a"))
    for x in rng.uniform(0.0, 0.58 * a, 60):
        for _ in range(3):  # reeds at the water's edge
            lean = rng.normal(0, 0.004)
            brush.line([(x, _SHORE + 0.004), (x + lean, _SHORE - 0.012)], "#4d6b2b", 0.0016)
    return brush.picture


def _lake(
    rng: np.random.Generator, picture: Floats, x: Floats, y: Floats, sun: tuple[float, float]
) -> Floats:
    """The picture above mirrored at the shore, broken by ripples that grow towards the eye."""
    height, width = y.shape
    near = np.clip((y - _SHORE) / (1 - _SHORE), 0, 1)
    # Ripples are foreshortened: rows of noise are stretched the more the nearer they are.
    rows = np.clip(np.sqrt(near[:, 0]) * (height - 1), 0, height - 1).astype(int)
    ripple = noise(rng, y.shape, (5, 60), octaves=4, gain=0.6)[rows]
    source = 2 * _SHORE - y - (0.004 + 0.05 * near) * ripple - 0.1 * near**2
    row = np.clip(source * height, 0, round(_SHORE * height) - 1).astype(int)
    column = np.clip(x * height + 0.01 * height * near * ripple, 0, width - 1).astype(int)
    mirror = picture[row, column]
    water = mix(mirror * 0.88, rgb("#1d4f6e"), 0.14 + 0.42 * near + 0.12 * ripple)
    spread = 0.02 + 0.10 * near
    glint = np.exp(-(((x - sun[0]) / spread) ** 2)) * smoothstep(0.15, 0.55, ripple)
    water = mix(water, rgb("#fff0c4"), 0.9 * glint)
    line = 0.45 * np.exp(-(((y - _SHORE - 0.004) / 0.003) ** 2))
    return mix(picture, mix(water, rgb("#dfe6da"), line), _inside(y - _SHORE))


def _boat(picture: Floats) -> Floats:
    """A small sailing boat with its reflection."""
    brush = Brush(picture)
    x, y, s = 0.80 * brush.aspect, 0.695, 0.085

    def at(u: float, v: float) -> tuple[float, float]:
        return (x + u * s, y - v * s)

    for k in range(9):  # the sail's reflection, in broken bars
        v = -0.25 - 0.16 * k
        half = 0.45 * (1 - k / 9)
        brush.line([at(-half * 0.5, v), at(half, v)], "#c9cfc6", 0.0028)
    brush.polygon([at(-0.8, -0.05), at(0.85, -0.05), at(0.6, -0.24), at(-0.6, -0.24)], "#3a2a30")
    brush.polygon([at(-0.85, 0.18), at(0.95, 0.22), at(0.66, -0.08), at(-0.62, -0.08)], "#8c2f2b")
    brush.line([at(-0.85, 0.18), at(0.95, 0.22)], "#f3e2c2", 0.0035)
    brush.line([at(0.0, 0.15), at(0.0, 1.95)], "#4a3426", 0.0035)
    brush.polygon([at(0.06, 0.35), at(0.06, 1.9), at(0.88, 0.42)], "#fff6e3")
    brush.polygon([at(-0.06, 0.4), at(-0.06, 1.75), at(-0.62, 0.42)], "#e9b872")
    return brush.picture


def _near_shore(rng: np.random.Generator, picture: Floats, x: Floats, y: Floats) -> Floats:
    """A bank of grass and flowers across the lower edge, with a birch at the right."""
    aspect = x.shape[1] / x.shape[0]

    def top(at: Floats) -> Floats:
        u = at / aspect
        return 0.955 - 0.10 * u**2 - 0.05 * (1 - u) ** 4 + 0.008 * np.sin(9 * at)

    soil = mix(rgb("#24401f"), rgb("#4c6e2c"), 0.5 + noise(rng, x.shape, (12, 20), octaves=4))
    brush = Brush(mix(picture, soil, _inside(y - top(x))))
    birch(rng, brush, 0.93 * aspect, 0.93)
    blades = rng.uniform((0, -0.01), (aspect, 0.16), (int(2600 * aspect), 2))
    for u, v in blades[np.argsort(blades[:, 1])]:
        foot = float(top(np.asarray(u))) + v
        long, lean = rng.uniform(0.03, 0.06), rng.normal(0.008, 0.012)
        tone = np.clip(0.35 + 1.8 * v + rng.normal(0, 0.22), 0, 1)
        colour = ramp(np.asarray(tone), ("#2c4d1f", "#6c9136", "#bcc75c"))
        tip = (u + lean, foot - long)
        brush.line([(u, foot), (u + 0.3 * lean, foot - 0.55 * long), tip], colour, 0.0022)
    for u, v in rng.uniform((0, 0.0), (aspect, 0.11), (int(80 * aspect), 2)):
        flower(rng, brush, u, float(top(np.asarray(u))) + v - 0.03)
    return brush.picture
