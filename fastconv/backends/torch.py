"""torch's own convolution behind the same protocol: the yardstick, and the way to any device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..geometry import ConvGeometry
from .base import FLOATS, HALVES

DTYPES = FLOATS | HALVES
DEVICES = frozenset({"cpu", "cuda", "mps", "xpu", "meta"})


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, g: ConvGeometry) -> Tensor:
    padded, padding = _pad(x, g)
    return F.conv2d(padded, weight, bias, g.stride, padding, g.dilation, g.groups)


def grad_input(dy: Tensor, weight: Tensor, g: ConvGeometry) -> Tensor:
    shape = g.input_shape if g.is_symmetric else g.padded_shape
    dx = _backward(dy, dy.new_empty(1).expand(shape), weight, g, (True, False, False))[0]
    if g.is_symmetric:
        return dx
    top, _, left, _ = g.padding
    return dx[:, :, top : top + g.h, left : left + g.w]


def grad_weight(dy: Tensor, x: Tensor, g: ConvGeometry) -> Tensor:
    weight = dy.new_empty(1).expand(g.weight_shape)
    return _backward(dy, _pad(x, g)[0], weight, g, (False, True, False))[1]


def grad_bias(dy: Tensor, g: ConvGeometry) -> Tensor:
    return dy.sum((0, 2, 3))


def _backward(
    dy: Tensor, x: Tensor, weight: Tensor, g: ConvGeometry, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    padding = (g.padding[0], g.padding[2]) if g.is_symmetric else (0, 0)
    return torch.ops.aten.convolution_backward(
        dy, x, weight, None, g.stride, padding, g.dilation, False, (0, 0), g.groups, wanted
    )


def _pad(x: Tensor, g: ConvGeometry) -> tuple[Tensor, tuple[int, int]]:
    """torch pads both sides alike; other paddings are written out first."""
    if g.is_symmetric:
        return x, (g.padding[0], g.padding[2])
    top, bottom, left, right = g.padding
    return F.pad(x, (left, right, top, bottom)), (0, 0)
