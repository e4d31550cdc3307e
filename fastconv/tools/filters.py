"""Classic picture filters as kernels for conv2d, on any backend.

A filter is applied to every colour channel alike: a depthwise convolution with one kernel k,

    y[c, i, j] = sum_{u, v} k[u, v] x[c, i + u - kh//2, j + v - kw//2]

on a picture whose edges are repeated outwards, so that borders show no frame.  As in every neural
network, the kernel is not turned around: what a signal engineer calls a correlation.

`parse("sobel,gaussian:2")` reads a list of filters as the command line writes them, from the table
FILTERS; to add one, write its kernel and give it a row there.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError, did_you_mean
from ..functional import conv2d

# ---------------------------------------------------------------- kernels, all (kh, kw) float32


def gaussian(sigma: float = 2.0) -> Tensor:
    """k[u, v] ~ exp(-(u^2 + v^2) / (2 sigma^2)), cut off at 3 sigma, summing to 1."""
    if not (sigma > 0 and math.isfinite(sigma)):
        raise ArgumentError(f"gaussian: sigma expects a positive number, got {sigma}")
    if sigma > 100:
        raise ArgumentError(f"gaussian: sigma expects 100 at most (a 601x601 kernel), got {sigma}")
    reach = max(1, math.ceil(3 * sigma))
    t = torch.arange(-reach, reach + 1, dtype=torch.float64)
    line = torch.exp(-(t**2) / (2 * sigma**2))
    line /= line.sum()
    return torch.outer(line, line).float()


def box(side: float = 5) -> Tensor:
    """The mean of side x side pixels."""
    if not (1 <= side <= 601 and side % 2 == 1):  # false for NaN
        raise ArgumentError(
            f"box: side expects an odd number from 1 to 601 (an even one has no middle pixel), "
            f"got {side:g}"
        )
    return torch.full((int(side), int(side)), 1 / side**2)


def sobel_x() -> Tensor:
    """The horizontal derivative, smoothed vertically: [1 2 1]^T [-1 0 1]."""
    return _derivative(1, 2)


def sobel_y() -> Tensor:
    """The vertical derivative, smoothed horizontally."""
    return sobel_x().T.contiguous()


def scharr_x() -> Tensor:
    """As Sobel with [3 10 3]^T, whose strength depends least on the edge's direction."""
    return _derivative(3, 10)


def scharr_y() -> Tensor:
    """The vertical one."""
    return scharr_x().T.contiguous()


def prewitt_x() -> Tensor:
    """As Sobel with [1 1 1]^T: the plain mean of three rows."""
    return _derivative(1, 1)


def prewitt_y() -> Tensor:
    """The vertical one."""
    return prewitt_x().T.contiguous()


def _derivative(side: float, middle: float) -> Tensor:
    return torch.outer(torch.tensor([side, middle, side]), torch.tensor([-1.0, 0.0, 1.0]))


def laplacian() -> Tensor:
    """d2/dx2 + d2/dy2: 0 on slopes, strong where a slope begins or ends."""
    return torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])


def sharpen(amount: float = 1.0) -> Tensor:
    """The picture minus `amount` of its Laplacian: edges are overdrawn."""
    if not 0 < amount <= 100:
        raise ArgumentError(f"sharpen: amount expects more than 0 and 100 at most, got {amount}")
    one = torch.zeros(3, 3)
    one[1, 1] = 1.0
    return one - amount * laplacian()


def emboss() -> Tensor:
    """Light from the upper left: the picture plus its derivative along the diagonal."""
    return torch.tensor([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])


def gabor(wavelength: float = 8.0, angle: float = 0.0) -> Tensor:
    """A wave under a bell: answers to stripes of one width in one direction.

        k ~ exp(-(a^2 + b^2/4) / (2 sigma^2)) cos(2 pi a / wavelength),    sigma = wavelength / 2

    with a across the stripes and b along them (0 degrees: stripes upright).  Its mean is taken
    off, so that plain areas answer 0, and |k| sums to 1.
    """
    if not (2 <= wavelength <= 100 and math.isfinite(angle)):
        raise ArgumentError(
            f"gabor: expected a wavelength from 2 to 100 pixels and an angle in degrees, "
            f"got {wavelength:g} and {angle:g}"
        )
    sigma, turn = wavelength / 2, math.radians(angle)
    reach = math.ceil(2.5 * sigma)
    v, u = torch.meshgrid(*[torch.arange(-reach, reach + 1.0)] * 2, indexing="ij")
    a, b = u * math.cos(turn) + v * math.sin(turn), v * math.cos(turn) - u * math.sin(turn)
    bell = torch.exp(-(a**2 + b**2 / 4) / (2 * sigma**2))
    wave = bell * torch.cos(2 * math.pi * a / wavelength)
    wave -= bell * (wave.sum() / bell.sum())
    return wave / wave.abs().sum()


# ---------------------------------------------------------------- applying them


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


def magnitude(picture: Tensor, x: Tensor, y: Tensor, backend: str | None = None) -> Tensor:
    """The length of the gradient by two kernels, sqrt(gx^2 + gy^2), of the grey picture."""
    grey = picture.mean(0, keepdim=True)
    return torch.hypot(apply(grey, x, backend), apply(grey, y, backend))


def edges(picture: Tensor, backend: str | None = None) -> Tensor:
    """The gradient's magnitude by Sobel: sqrt(gx^2 + gy^2) of the channels' mean, (1, h, w)."""
    return magnitude(picture, sobel_x(), sobel_y(), backend)


# ---------------------------------------------------------------- filters by name


@dataclass(frozen=True)
class Filter:
    """Something to do to a picture: its kernels, and what kind of numbers come out.

    `kind` is 'picture' (colours, to be shown as they are), 'signed' (a derivative of the grey
    picture, zero in the middle) or 'magnitude' (two derivatives' length).
    """

    label: str
    kernels: tuple[Tensor, ...]
    kind: str

    def __call__(self, picture: Tensor, backend: str | None = None) -> Tensor:
        """The filtered picture: (c, h, w) for 'picture', (1, h, w) otherwise."""
        if self.kind == "magnitude":
            x, y = self.kernels
            return magnitude(picture, x, y, backend)
        source = picture if self.kind == "picture" else picture.mean(0, keepdim=True)
        return apply(source, self.kernels[0], backend)


Kernel = Callable[..., Tensor]
FILTERS: dict[str, tuple[str, tuple[Kernel, ...]]] = {
    "sobel": ("magnitude", (sobel_x, sobel_y)),
    "sobel_x": ("signed", (sobel_x,)),
    "sobel_y": ("signed", (sobel_y,)),
    "scharr": ("magnitude", (scharr_x, scharr_y)),
    "scharr_x": ("signed", (scharr_x,)),
    "scharr_y": ("signed", (scharr_y,)),
    "prewitt": ("magnitude", (prewitt_x, prewitt_y)),
    "prewitt_x": ("signed", (prewitt_x,)),
    "prewitt_y": ("signed", (prewitt_y,)),
    "laplacian": ("signed", (laplacian,)),
    "gaussian": ("picture", (gaussian,)),
    "box": ("picture", (box,)),
    "sharpen": ("picture", (sharpen,)),
    "emboss": ("picture", (emboss,)),
    "gabor": ("signed", (gabor,)),
}


def usage() -> str:
    """The names with their parameters: 'sobel, ..., gaussian:SIGMA, ...'."""
    return ", ".join(_usage(name) for name in FILTERS)


def _usage(name: str) -> str:
    return ":".join([name, *(parameter.upper() for parameter in _parameters(name))])


def _parameters(name: str) -> list[str]:
    return list(inspect.signature(FILTERS[name][1][0]).parameters)


def parse(text: str) -> list[Filter]:
    """Filters as 'sobel,gaussian:2,gabor:8:45': names with their parameters, or without."""
    if not text.strip(" ,"):
        raise ArgumentError(f"kernel expects one name or more, got {text!r}; choices: {usage()}")
    return [_filter(item.strip()) for item in text.split(",") if item.strip()]


def _filter(item: str) -> Filter:
    name, *words = item.split(":")
    if name not in FILTERS:
        raise ArgumentError(f"unknown kernel {name!r}: {did_you_mean(name, FILTERS)}")
    if len(words) > len(_parameters(name)):
        raise ArgumentError(f"kernel {item!r}: expected {_usage(name)!r} at most")
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise ArgumentError(f"kernel {item!r}: expected {_usage(name)!r} with numbers") from None
    kind, kernels = FILTERS[name]
    return Filter(item, tuple(kernel(*numbers) for kernel in kernels), kind)
