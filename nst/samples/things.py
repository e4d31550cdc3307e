"""The things with outlines in the landscape: house, trees, flowers, drawn as polygons and dots."""

from __future__ import annotations

import numpy as np
from PIL import ImageDraw

from .drawing import Floats, ramp, rgb, to_floats, to_picture


class Brush:
    """Draws in units of the height on a picture of floats."""

    def __init__(self, picture: Floats) -> None:
        self.image = to_picture(picture)
        self.draw = ImageDraw.Draw(self.image)
        self.unit = picture.shape[0]
        self.aspect = picture.shape[1] / picture.shape[0]

    def polygon(self, points: object, colour: object) -> None:
        self.draw.polygon(self._placed(points), fill=self._ink(colour))

    def line(self, points: object, colour: object, breadth: float) -> None:
        thick = max(1, round(breadth * self.unit))
        self.draw.line(self._placed(points), fill=self._ink(colour), width=thick)

    def dot(self, x: float, y: float, radius: float, colour: object, flat: float = 1.0) -> None:
        box = [(x - radius, y - radius * flat), (x + radius, y + radius * flat)]
        self.draw.ellipse(self._placed(box), fill=self._ink(colour))

    def _placed(self, points: object) -> list[float]:
        return (np.asarray(points, float) * self.unit).ravel().tolist()

    @staticmethod
    def _ink(colour: object) -> tuple[int, ...]:
        values = rgb(colour) if isinstance(colour, str) else colour
        return tuple(int(v) for v in np.clip(np.asarray(values) * 255 + 0.5, 0, 255))

    @property
    def picture(self) -> Floats:
        return to_floats(self.image)


def house(brush: Brush, x: float, y: float, size: float) -> None:
    """A timbered house seen from a corner: gable in the sun, long side in shade."""

    def at(u: float, v: float) -> tuple[float, float]:
        return (x + u * size, y - v * size)

    wall, shaded, beam, pane = "#f6e8cc", "#b9a58f", "#5b3a29", "#ffd877"
    brush.polygon([at(-0.28, 0.86), at(-0.28, 1.2), at(-0.17, 1.2), at(-0.17, 0.8)], "#8d4a3a")
    brush.polygon([at(-0.55, 0), at(0.22, -0.03), at(0.22, 0.5), at(-0.55, 0.5)], shaded)
    brush.polygon(
        [at(0.22, -0.03), at(0.78, 0.0), at(0.78, 0.5), at(0.5, 0.98), at(0.22, 0.5)], wall
    )
    brush.polygon([at(-0.62, 0.46), at(0.19, 0.46), at(0.5, 1.02), at(-0.28, 1.0)], "#b5452f")
    for k in range(1, 7):  # rows of tiles
        v = 0.46 + 0.54 * k / 7
        u = -0.62 + 0.34 * k / 7
        brush.line([at(u, v), at(u + 0.80, v + 0.003 * k)], "#94331f", 0.0022)
    brush.line([at(0.2, 0.44), at(0.5, 1.0), at(0.82, 0.44)], "#7d2c1c", 0.006)
    for line in (
        [at(0.22, 0.5), at(0.78, 0.5)],
        [at(0.36, 0.74), at(0.64, 0.74)],
        [at(0.5, 0.5), at(0.5, 0.95)],
        [at(0.225, 0.0), at(0.225, 0.5)],
        [at(0.775, 0.0), at(0.775, 0.5)],
        [at(0.22, 0.5), at(0.36, 0.25)],
        [at(0.78, 0.5), at(0.66, 0.25)],
    ):
        brush.line(line, beam, 0.0036)
    brush.polygon([at(0.42, -0.02), at(0.42, 0.32), at(0.57, 0.32), at(0.57, -0.01)], "#6b3f2a")
    for u in (-0.45, -0.2, 0.03):
        box = [at(u, 0.16), at(u, 0.36), at(u + 0.13, 0.36), at(u + 0.13, 0.16)]
        brush.polygon(box, pane)
        brush.line([*box, box[0]], beam, 0.003)
        brush.line([at(u + 0.065, 0.16), at(u + 0.065, 0.36)], beam, 0.002)
    brush.dot(*at(0.5, 0.62), 0.045 * 0.19, pane)


def spruce(rng: np.random.Generator, brush: Brush, x: float, y: float, tall: float) -> None:
    """Whorls of drooping branches, wider and darker downwards, lit from the right."""
    brush.line([(x, y), (x, y - 0.15 * tall)], "#4a3424", 0.02 * tall)
    for k in range(26):
        v = k / 26
        half = tall * (0.26 * (1 - v) + 0.01)
        level = y - tall * (0.1 + 0.88 * v)
        for side in (-1, 1):
            shade = np.array(rgb("#1f4a37" if side < 0 else "#47773f"))
            reach = half * rng.uniform(0.75, 1.1) * side
            drop = tall * rng.uniform(0.045, 0.075)
            points = [(x, level - drop), (x + reach, level + 0.5 * drop), (x, level + drop)]
            brush.polygon(points, shade * rng.uniform(0.75, 1.2))


def round_tree(
    rng: np.random.Generator,
    brush: Brush,
    x: float,
    y: float,
    radius: float,
    colours: tuple[str, str, str],
) -> None:
    """A crown of leaves in clumps; each leaf is the lighter the more it faces the sun."""
    brush.polygon(
        [
            (x - 0.09 * radius, y),
            (x - 0.05 * radius, y - radius),
            (x + 0.05 * radius, y - radius),
            (x + 0.09 * radius, y),
        ],
        "#523827",
    )
    centre = np.array([x, y - 1.25 * radius])
    clumps = rng.normal(0, 0.42, (14, 2)) * radius
    clumps[:, 1] *= 0.85
    order = np.argsort(clumps @ np.array([0.6, -0.8]))
    for clump in clumps[order]:
        leaves = rng.normal(0, 0.22, (70, 2)) * radius
        facing = ((leaves + 0.55 * clump) @ np.array([0.6, -0.8])) / radius
        tone = np.clip(0.42 + 0.75 * facing + rng.normal(0, 0.09, 70), 0, 1)
        ink = ramp(tone, colours)
        for (dx, dy), colour in zip(leaves[np.argsort(tone)], ink[np.argsort(tone)]):
            place = centre + clump + (dx, dy)
            brush.dot(place[0], place[1], radius * 0.055, colour, 0.8)


def flower(rng: np.random.Generator, brush: Brush, x: float, y: float) -> None:
    colour = ("#d9342b", "#f4c63d", "#f7f1ea", "#7a57c4")[rng.integers(4)]
    size = rng.uniform(0.0055, 0.0085)
    for angle in np.linspace(0, 2 * np.pi, 6)[:-1] + rng.uniform(0, 1):
        petal = (x + 0.8 * size * np.cos(angle), y + 0.6 * size * np.sin(angle))
        brush.dot(*petal, 0.62 * size, np.array(rgb(colour)) * rng.uniform(0.85, 1.08), 0.8)
    brush.dot(x, y, 0.45 * size, "#4b3415" if colour != "#f7f1ea" else "#f0b429", 0.8)


def birch(rng: np.random.Generator, brush: Brush, x: float, y: float) -> None:
    """A white trunk with dark marks, and hanging twigs with leaves of gold and green."""
    for t in np.linspace(0, 1, 12)[:-1]:  # strips from the shaded side to the lit one
        shade = ramp(np.asarray(t), ("#8d8788", "#cfc8be", "#f3eee2", "#fbf3df"))
        near, far = x - 0.024 + 0.052 * t, x - 0.008 + 0.020 * t
        brush.polygon(
            [(near, y + 0.03), (far, -0.02), (far + 0.003, -0.02), (near + 0.006, y + 0.03)], shade
        )
    for v in rng.uniform(0, y, 46):
        half = 0.012 + 0.012 * v
        u = x + rng.uniform(-half, 0.3 * half)
        brush.line([(u, v), (u + rng.uniform(0.3, 0.9) * half, v + 0.002)], "#3b3431", 0.004)
    for _ in range(34):
        v, side = rng.uniform(-0.05, 0.30), rng.choice((-1, 1))
        reach = side * rng.uniform(0.08, 0.30)
        t = np.linspace(0, 1, 14)
        twig = np.stack([x + reach * t, v - 0.05 * np.sin(2 * t) + 0.20 * t**2.2], 1)
        brush.line(twig, "#4f3d33", 0.0028)
        for px, py in np.repeat(twig[2:], 9, axis=0):
            tone = np.clip(rng.normal(0.5, 0.28), 0, 1)
            colour = ramp(np.asarray(tone), ("#3f6b2a", "#86a53a", "#e3c44a", "#f0a63a"))
            place = rng.normal((px, py), (0.016, 0.017))
            brush.dot(place[0], place[1], rng.uniform(0.003, 0.0062), colour, 0.75)
