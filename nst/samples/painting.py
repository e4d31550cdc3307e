"""A swirling painting: thick, crisp strokes in a strong palette, made to be a style picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .drawing import OVERSAMPLING, Floats, Size, noise, ramp, reduced, sides, smoothstep

_SKY = ("#0a1245", "#123a8c", "#1f74b8", "#58b5cf", "#c9e4cf", "#3a8fc4", "#1a4fa3", "#0d1c5c")
_SUN = ("#fffbe0", "#ffe98a", "#ffc93c", "#f58a1f", "#d9481c", "#7c2a4d")
_LAND = ("#12233f", "#17533f", "#4f8a35", "#d6b93a", "#e5772a", "#a33022", "#2b1d3f")
_BRISTLES = 6  # side by side in one stroke, each with its own shade and height of paint
_STEPS = 9  # points of a stroke's path
# strokes per unit of height, length, breadth: a ground, the body, and accents on top
_COATS = ((26, 0.16, 0.040), (48, 0.105, 0.021), (44, 0.07, 0.0125))


def swirls(size: Size = 512, seed: int = 0) -> Image.Image:
    """A swirling painting: thick strokes that follow a field of whirls above a rolling land.

    Every bristle of every stroke is drawn once, as a number, into one integer picture; tables
    then give each number its colour and its height of paint, and the slope of the paint is lit
    from the upper left.
    """
    width, height = sides(size)
    shape = (height * OVERSAMPLING, width * OVERSAMPLING)
    rng = np.random.default_rng([seed, 1])
    whirls = _Whirls(rng, width / height)
    ids = Image.new("I", shape[::-1])
    draw = ImageDraw.Draw(ids)
    colours, heights = [np.full((1, 3), 0.1)], [np.zeros(1)]
    first = 1
    for per_unit, length, breadth in _COATS:
        starts = _scattered(rng, per_unit, width / height)
        paths = whirls.paths(starts, length * rng.uniform(0.6, 1.3, len(starts)))
        breadths = breadth * rng.uniform(0.7, 1.25, len(starts))
        _draw_bristles(draw, paths * shape[0], breadths * shape[0], first)
        base = whirls.colour(starts, rng)[:, None]
        shade = rng.normal(0, 0.05, (len(starts), _BRISTLES, 1))
        colours.append((base * (1 + 2 * shade) + shade * 0.6).reshape(-1, 3))
        rim = np.abs(np.linspace(-0.5, 0.5, _BRISTLES))  # paint is pushed to a stroke's sides
        heights.append((rng.uniform(0, 1, (len(starts), _BRISTLES)) + rim).reshape(-1))
        first += len(starts) * _BRISTLES
    index = np.asarray(ids)
    rgb = np.concatenate(colours).astype(np.float32)[index]
    bare = np.argwhere(index == 0)  # the eye of a whirl can stay uncovered
    rgb[index == 0] = whirls.colour((bare[:, ::-1] + 0.5) / shape[0], rng)
    paint = np.concatenate(heights).astype(np.float32)[index]
    return reduced(_lit_paint(rgb, paint, rng), (width, height))


def _scattered(rng: np.random.Generator, per_unit: int, aspect: float) -> Floats:
    """Points (n, 2) on a jittered grid, in random order, a little over the edges."""
    step = 1 / per_unit
    x, y = np.meshgrid(np.arange(-0.05, aspect + 0.05, step), np.arange(-0.05, 1.05, step))
    points = np.stack([x.ravel(), y.ravel()], 1)
    points += rng.uniform(-0.6, 0.6, points.shape) * step
    return rng.permutation(points)


class _Whirls:
    """The painting's plan: where the whirls and suns are, how paint flows, what colour it has."""

    def __init__(self, rng: np.random.Generator, aspect: float) -> None:
        spots = np.array([[0.40, 0.36], [0.67, 0.50], [0.84, 0.19], [0.11, 0.17], [0.13, 0.60]])
        spots += rng.uniform(-0.025, 0.025, spots.shape)
        self.centre = spots * np.array([aspect, 1.0])
        self.radius = np.array([0.23, 0.15, 0.16, 0.115, 0.11])
        self.spin = np.array([1.0, -1.0, 1.0, -1.0, 1.0])
        self.is_sun = np.array([False, False, True, True, False])
        self.phase = rng.uniform(0, 2 * np.pi, 5)

    def _polar(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Offsets (n, k, 2), radii (n, k) in units of each whirl's own, angles (n, k)."""
        offset = points[:, None] - self.centre
        return (
            offset,
            np.hypot(offset[..., 0], offset[..., 1]) / self.radius,
            np.arctan2(offset[..., 1], offset[..., 0]),
        )

    def _land_top(self, x: Floats, k: int) -> Floats:
        """The skyline of the k-th ridge, the nearer the lower."""
        wave = np.sin(2.3 * x + self.phase[k]) + 0.4 * np.sin(6.1 * x + self.phase[k + 1])
        return 0.76 + 0.09 * k + 0.045 * wave

    def velocity(self, points: Floats) -> Floats:
        """Unit vectors (n, 2): a wavy drift, turned around near each whirl's centre."""
        x, y = points[:, 0], points[:, 1]
        slope = 0.45 * np.cos(4 * x + 3 * y + self.phase[0]) + 0.25 * np.cos(9 * y + self.phase[1])
        flow = np.stack([np.ones_like(x), slope], 1)
        offset, r, _ = self._polar(points)
        turn = np.stack([-offset[..., 1], offset[..., 0]], -1) * self.spin[:, None]
        turn = turn / self.radius[:, None] - 0.12 * offset / self.radius[:, None]
        flow += (turn * (6 * np.exp(-((r / 0.95) ** 2)) / np.maximum(r, 0.15))[..., None]).sum(1)
        for k in range(3):  # the land's strokes run along its ridges
            inside = y > self._land_top(x, k)
            rise = (self._land_top(x + 0.01, k) - self._land_top(x, k)) / 0.01
            along = np.stack([np.ones_like(x), rise + 0.35 * np.sin(14 * x + 9 * y)], 1)
            flow = np.where(inside[:, None], along, flow)
        return flow / np.maximum(np.hypot(flow[:, :1], flow[:, 1:]), 1e-6)

    def paths(self, starts: Floats, lengths: Floats) -> Floats:
        """Points (n, steps, 2) along the flow through each start."""
        points, path = starts, [starts]
        for _ in range(_STEPS - 1):
            points = points + self.velocity(points) * (lengths / _STEPS)[:, None]
            path.append(points)
        return np.stack(path, 1)

    def colour(self, points: Floats, rng: np.random.Generator) -> Floats:
        x, y = points[:, 0], points[:, 1]
        _, r, angle = self._polar(points)
        # Two arms each, that wind up towards the centre.
        arms = 1.5 * np.log(r + 0.25) - self.spin * angle / np.pi
        near = np.argmin(r, 1)
        rows = np.arange(len(points))
        drift = 2.2 * y + 0.18 * np.sin(4 * x + 3 * y + self.phase[0]) + 0.1 * np.sin(3 * x)
        blend = smoothstep(1.5, 1.0, r[rows, near])
        band = drift * (1 - blend) + arms[rows, near] * blend
        jitter = rng.normal(0, 0.05, len(points))
        colour = ramp((band + jitter) % 1.0, _SKY)
        sun = self.is_sun[near] & (r[rows, near] + 2 * jitter < 1.05)
        colour[sun] = ramp(r[rows, near] + jitter, _SUN)[sun]
        for k in range(3):
            top = self._land_top(x, k)
            inside = y + 0.2 * jitter > top
            field = (y - top) * 5.5 + 0.35 * k + 0.12 * np.sin(9 * x + self.phase[3])
            colour[inside] = ramp(np.abs(field + jitter) % 1.0, _LAND)[inside]
        return colour


def _draw_bristles(draw: ImageDraw.ImageDraw, paths: Floats, breadths: Floats, first: int) -> None:
    """Each path as _BRISTLES lines side by side, tapered at its end, numbered from `first`."""
    along = np.gradient(paths, axis=1)
    across = np.stack([-along[..., 1], along[..., 0]], -1)
    across /= np.maximum(np.hypot(across[..., :1], across[..., 1:]), 1e-6)
    taper = np.sqrt(np.clip(1.12 - np.abs(np.linspace(-1, 1, paths.shape[1])) ** 3, 0, 1))[:, None]
    offsets = np.linspace(-0.5, 0.5, _BRISTLES)
    for i, (path, normal, breadth) in enumerate(zip(paths, across, breadths)):
        thick = max(1, round(1.5 * breadth / _BRISTLES))
        for j, offset in enumerate(offsets):
            line = (path + normal * taper * (offset * breadth)).astype(np.float32)
            draw.line(line.ravel().tolist(), fill=first + i * _BRISTLES + j, width=thick)


def _lit_paint(rgb: Floats, paint: Floats, rng: np.random.Generator) -> Floats:
    """Colours shaded by the slope of the paint, with a gloss on the steepest lit edges."""
    height, _ = paint.shape
    canvas = noise(rng, paint.shape, (90, 90), octaves=2)
    relief = paint + 0.25 * canvas
    step = max(1, round(height / 500))  # the lit rim has the same breadth at every size
    slope = np.zeros_like(relief)
    slope[step:, step:] = relief[step:, step:] - relief[:-step, :-step]
    shade = 1 + 0.16 * np.clip(slope, -1, 1) + 0.03 * canvas
    gloss = 0.18 * np.clip(slope - 0.55, 0, 1)
    return rgb * shade[..., None] + gloss[..., None]
