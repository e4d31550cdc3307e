"""How much of a style a picture has reached, and how much of its content's structure it kept.

No network is asked, so that networks can be compared by it.

style       d(result, style) / d(content, style): 1 is the untouched content, 0 the style itself,
            where d is the sliced Wasserstein distance of 5 x 5 patches over four scales
structure   correlation of the luminance gradients of result and content: 1 is the same picture
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import PictureError

PATCH, SCALES, DIRECTIONS, QUANTILES = 5, 4, 128, 1024
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Score:
    """A result's two figures; lower style and higher structure are better."""

    style: float
    structure: float


def score(result: Tensor, content: Tensor, style: Tensor) -> Score:
    """The figures of a result for its content and style; each rgb (1, 3, h, w) in [0, 1].

    The style should have the size that it had in the run: its strokes are compared as they are.
    """
    if result.shape != content.shape:
        raise PictureError(
            f"measure expects result and content of one size, got {_size(result)} and "
            f"{_size(content)}; resize the content to the result's"
        )
    untouched = patch_distance(content, style)
    if untouched == 0:
        raise PictureError("measure expects a style that differs from the content")
    return Score(patch_distance(result, style) / untouched, structure(result, content))


def patch_distance(a: Tensor, b: Tensor, seed: int = 0) -> float:
    """Sliced Wasserstein distance of the patches of two pictures, mean over scales.

    The patches are projected on random unit directions u, which is a convolution with u; of each
    projection the quantiles q are compared:

        d^2 = mean over u and t of (q_a,u(t) - q_b,u(t))^2
    """
    smallest = PATCH * 2 ** (SCALES - 1)
    for rgb in (a, b):
        if min(rgb.shape[-2:]) < smallest:
            raise PictureError(
                f"measure expects sides of {smallest} pixels or more, got {_size(rgb)}"
            )
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for _ in range(SCALES):
        u = torch.randn(DIRECTIONS, 3, PATCH, PATCH, generator=generator)
        u = F.normalize(u.flatten(1), dim=1).view_as(u).to(a)
        total += (_quantiles(a, u) - _quantiles(b, u)).square().mean().sqrt().item()
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total / SCALES


def _quantiles(rgb: Tensor, u: Tensor) -> Tensor:
    """QUANTILES evenly spaced quantiles of each projection, (directions, QUANTILES)."""
    ordered = F.conv2d(rgb, u).flatten(2)[0].sort(dim=1).values
    return F.interpolate(ordered[None], QUANTILES, mode="linear", align_corners=True)[0]


def structure(a: Tensor, b: Tensor) -> float:
    """sum(ga gb) / sqrt(sum(ga^2) sum(gb^2)) with g = (d/dx, d/dy) of the luminance (Sobel)."""
    ga, gb = _gradient(a), _gradient(b)
    norm = (ga.square().sum() * gb.square().sum()).sqrt()
    return float((ga * gb).sum() / norm.clamp_min(1e-12))


def _gradient(rgb: Tensor) -> Tensor:
    luma = (rgb * torch.tensor(LUMA).view(1, 3, 1, 1).to(rgb)).sum(1, keepdim=True)
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).to(rgb)
    return F.conv2d(luma, torch.stack([sobel, sobel.T])[:, None])


def _size(rgb: Tensor) -> str:
    return f"{rgb.shape[-1]}x{rgb.shape[-2]}"
