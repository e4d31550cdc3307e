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
    dw = _backward(dy, _pad(x, g)[0], weight, g, (False, True, False))[1]
    if dw.dtype is torch.bfloat16 and dw.device.type == "cpu":
        _clear_unseeing_taps(dw, g)
    return dw


def grad_bias(dy: Tensor, g: ConvGeometry) -> Tensor:
    return dy.sum((0, 2, 3))


def _backward(
    dy: Tensor, x: Tensor, weight: Tensor, g: ConvGeometry, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    padding = (g.padding[0], g.padding[2]) if g.is_symmetric else (0, 0)
    return torch.ops.aten.convolution_backward(
        dy, x, weight, None, g.stride, padding, g.dilation, False, (0, 0), g.groups, wanted
    )


def _clear_unseeing_taps(dw: Tensor, g: ConvGeometry) -> None:
    """Taps that lie on padding alone have gradient 0; torch 2.13 leaves what was in memory there.

    It does so for bfloat16 on processors with AMX, and not always.
    """
    top, _, left, _ = g.padding
    for u in range(g.kh):
        if not _sees(u * g.dilation[0] - top, g.stride[0], g.out_h, g.h):
            dw[:, :, u].zero_()
    for v in range(g.kw):
        if not _sees(v * g.dilation[1] - left, g.stride[1], g.out_w, g.w):
            dw[:, :, :, v].zero_()


def _sees(first: int, stride: int, outputs: int, size: int) -> bool:
    """Whether one of first, first + stride, ... (`outputs` of them) lies in [0, size)."""
    inside = first if first >= 0 else first % stride
    return inside < size and inside <= first + (outputs - 1) * stride


def _pad(x: Tensor, g: ConvGeometry) -> tuple[Tensor, tuple[int, int]]:
    """torch pads both sides alike; other paddings are written out first."""
    if g.is_symmetric:
        return x, (g.padding[0], g.padding[2])
    top, bottom, left, right = g.padding
    return F.pad(x, (left, right, top, bottom)), (0, 0)
