"""Classic picture filters as kernels for conv2d, on any backend.

A filter is applied to every colour channel alike: a depthwise convolution with one kernel k,

    y[c, i, j] = sum_{u, v} k[u, v] x[c, i + u - kh//2, j + v - kw//2]

on a picture whose edges are repeated outwards, so that borders show no frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import ArgumentError
from .functional import conv2d


def gaussian(sigma: float) -> Tensor:
    """k[u, v] ~ exp(-(u^2 + v^2) / (2 sigma^2)), cut off at 3 sigma, summing to 1."""
    if not (sigma > 0 and math.isfinite(sigma)):
        raise ArgumentError(f"gaussian: sigma expects a positive number, got {sigma}")
    reach = max(1, math.ceil(3 * sigma))
    t = torch.arange(-reach, reach + 1, dtype=torch.float64)
    line = torch.exp(-(t**2) / (2 * sigma**2))
    line /= line.sum()
    return torch.outer(line, line).float()


def sobel_x() -> Tensor:
    """The horizontal derivative, smoothed vertically: [1 2 1]^T [-1 0 1]."""
    return torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])


def sobel_y() -> Tensor:
    """The vertical derivative, smoothed horizontally."""
    return sobel_x().T.contiguous()


def apply(picture: Tensor, kernel: Tensor, backend: str | None = None) -> Tensor:
    """Filter a picture (c, h, w) with a kernel (kh, kw) of odd sides; same shape comes back."""
    if kernel.dim() != 2 or not all(side % 2 for side in kernel.shape):
        raise ArgumentError(
            f"filters.apply: kernel expects two odd sides, got shape {tuple(kernel.shape)}"
        )
    if picture.dim() != 3:
        raise ArgumentError(
            f"filters.apply: picture expects shape (c, h, w), got {tuple(picture.shape)}"
        )
    channels = picture.shape[0]
    half_h, half_w = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = F.pad(picture[None], (half_w, half_w, half_h, half_h), mode="replicate")[0]
    weight = kernel.to(picture.dtype).expand(channels, 1, *kernel.shape)
    return conv2d(padded, weight, groups=channels, backend=backend)


def edges(picture: Tensor, backend: str | None = None) -> Tensor:
    """The gradient's magnitude by Sobel: sqrt(gx^2 + gy^2) of the channels' mean, (1, h, w)."""
    grey = picture.mean(0, keepdim=True)
    return torch.hypot(apply(grey, sobel_x(), backend), apply(grey, sobel_y(), backend))
