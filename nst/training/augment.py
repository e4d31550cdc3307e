"""Augmentation of whole batches, with tensors only, so that the convolutions stay the bottleneck.

`views` turns uint8 pictures into float crops in [0, 1].  Every random number comes from the
`Dice` that is given, so that a step can be repeated exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


@dataclass(frozen=True)
class Strength:
    """How much a view may differ from its picture."""

    smallest: float = 0.15  # part of the picture's area that a crop may be
    aspect: float = 4 / 3
    degrees: float = 12.0
    light: float = 0.4  # brightness and contrast by 1 - x to 1 + x
    colour: float = 0.6  # saturation likewise
    hue: float = 0.08  # of a full turn
    grey: float = 0.15  # probability, as below
    blur: float = 0.3
    erase: float = 0.25
    mirror: bool = True

    def with_colour(self, factor: float) -> Strength:
        """The same with colours changed `factor` times as far, or as often."""
        colour, hue, grey = factor * self.colour, factor * self.hue, factor * self.grey
        return replace(self, colour=colour, hue=hue, grey=grey)


STRONG = Strength()
MILD = Strength(0.5, 1.15, 5.0, 0.2, 0.2, 0.02, 0.02, 0.0, 0.0)


class Dice:
    """Uniform random numbers from a seed, drawn on the CPU so that every device sees the same."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.generator, self.device = Generator().manual_seed(seed), device

    def __call__(self, n: int, low: float, high: float) -> Tensor:
        drawn = torch.rand(n, generator=self.generator).to(self.device)
        return drawn * (high - low) + low


# luma and two chroma axes; a hue is turned in their plane
_TO_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)


def views(pictures: Tensor, size: int, strength: Strength, dice: Dice) -> Tensor:
    """One random view (n, 3, size, size) of each of the uint8 pictures (n, 3, h, w)."""
    crops = _crop(pictures.float() / 255, size, strength, dice)
    crops = _blur(_recolour(crops, strength, dice), strength, dice)
    return _erase(crops.clamp_(0, 1), strength, dice)


def middle(pictures: Tensor, size: int) -> Tensor:
    """The whole pictures at `size`, unchanged, for evaluation."""
    return F.interpolate(
        pictures.float() / 255, (size, size), mode="bilinear", antialias=True, align_corners=False
    )


def _crop(rgb: Tensor, size: int, strength: Strength, dice: Dice) -> Tensor:
    n = len(rgb)
    side = dice(n, strength.smallest, 1).sqrt()
    stretch = dice(n, -1, 1).mul(math.log(strength.aspect) / 2).exp()
    width, height = (side * stretch).clamp(max=1), (side / stretch).clamp(max=1)
    x = dice(n, -1, 1) * (1 - width)
    y = dice(n, -1, 1) * (1 - height)
    flip = torch.where(dice(n, 0, 1) < 0.5 * strength.mirror, -1.0, 1.0)
    turn = dice(n, -1, 1) * math.radians(strength.degrees)
    cos, sin = turn.cos(), turn.sin()
    theta = torch.stack(
        [width * flip * cos, -height * sin, x, width * flip * sin, height * cos, y], dim=1
    ).view(n, 2, 3)
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    return F.grid_sample(rgb, grid, padding_mode="reflection", align_corners=False)


def _recolour(rgb: Tensor, strength: Strength, dice: Dice) -> Tensor:
    """x -> contrast * (M x - mean) + mean, where M turns the hue and scales the saturation."""
    n = len(rgb)
    light = dice(n, 1 - strength.light, 1 + strength.light)
    contrast = dice(n, 1 - strength.light, 1 + strength.light)
    colour = dice(n, 1 - strength.colour, 1 + strength.colour)
    colour = colour * (dice(n, 0, 1) >= strength.grey)
    turn = dice(n, -1, 1) * (2 * math.pi * strength.hue)
    chroma = rgb.new_zeros(n, 3, 3)
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = colour * turn.cos()
    chroma[:, 2, 1] = colour * turn.sin()
    chroma[:, 1, 2] = -chroma[:, 2, 1]
    to_yiq = _TO_YIQ.to(rgb.device)
    matrix = light.view(n, 1, 1) * (torch.linalg.inv(to_yiq) @ chroma @ to_yiq)
    turned = torch.bmm(matrix, rgb.flatten(2)).view_as(rgb)
    mean = turned.mean((1, 2, 3), keepdim=True)
    return (turned - mean) * contrast.view(n, 1, 1, 1) + mean


def _blur(rgb: Tensor, strength: Strength, dice: Dice) -> Tensor:
    """(a, 1 - 2a, a) along both axes, twice; a up to 1/4, 0 for those not blurred."""
    n = len(rgb)
    a = dice(n, 0.05, 0.25) * (dice(n, 0, 1) < strength.blur)
    hit = a > 0
    if not bool(hit.any()):
        return rgb
    x, a = rgb[hit], a[hit].view(-1, 1, 1, 1)
    for _ in range(2):
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        x = (1 - 2 * a) * x[..., 1:-1] + a * (x[..., 2:] + x[..., :-2])
        x = (1 - 2 * a) * x[..., 1:-1, :] + a * (x[..., 2:, :] + x[..., :-2, :])
    rgb[hit] = x
    return rgb


def _erase(rgb: Tensor, strength: Strength, dice: Dice) -> Tensor:
    """Cover a rectangle with one random colour."""
    n, _, h, w = rgb.shape
    hit = dice(n, 0, 1) < strength.erase
    sides = dice(2 * n, 0.2, 0.5).view(2, n, 1)
    start = dice(2 * n, 0, 1).view(2, n, 1) * (1 - sides)
    colour = dice(3 * n, 0, 1).view(n, 3, 1, 1)
    y = torch.arange(h, device=rgb.device) / h
    x = torch.arange(w, device=rgb.device) / w
    rows = (y >= start[0]) & (y < start[0] + sides[0])
    columns = (x >= start[1]) & (x < start[1] + sides[1])
    covered = rows[:, None, :, None] & columns[:, None, None, :] & hit.view(n, 1, 1, 1)
    return torch.where(covered, colour, rgb)
