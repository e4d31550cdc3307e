"""The specification: the equations of `base.py` as plain loops over NumPy arrays.

All functions walk over the elements of y and, for each, look at the window of x that it is
made from.  They differ in one line: what flows between window, weight and y.  Sums run in
double precision and are rounded once, at the end.  Shortest and slowest; never optimise it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from ..geometry import ConvGeometry
from .base import FLOATS

DTYPES = FLOATS
DEVICES = frozenset({"cpu"})

Array = NDArray[np.float64]
Index = tuple[int, int, int, int]

_silent = np.errstate(all="ignore")  # NaN and Inf go through without a word, as in torch


@_silent
def forward(x: Tensor, weight: Tensor, bias: Tensor | None, g: ConvGeometry) -> Tensor:
    w, y = _double(weight), np.zeros(g.output_shape)
    for at, window in _windows(_pad(_double(x), g), g):
        y[at] = np.sum(w[at[1]] * window)
    if bias is not None:
        y += _double(bias)[:, None, None]
    return _like(x, y)


@_silent
def grad_input(dy: Tensor, weight: Tensor, g: ConvGeometry) -> Tensor:
    w, gradient, padded = _double(weight), _double(dy), np.zeros(g.padded_shape)
    for at, window in _windows(padded, g):
        window += gradient[at] * w[at[1]]  # a view: this writes into `padded`
    top, _, left, _ = g.padding
    return _like(dy, padded[:, :, top : top + g.h, left : left + g.w])


@_silent
def grad_weight(dy: Tensor, x: Tensor, g: ConvGeometry) -> Tensor:
    gradient, dw = _double(dy), np.zeros(g.weight_shape)
    for at, window in _windows(_pad(_double(x), g), g):
        dw[at[1]] += gradient[at] * window
    return _like(dy, dw)


@_silent
def grad_bias(dy: Tensor, g: ConvGeometry) -> Tensor:
    return _like(dy, np.sum(_double(dy), axis=(0, 2, 3)))


def _windows(padded: Array, g: ConvGeometry) -> Iterator[tuple[Index, Array]]:
    """Every index (n, o, i, j) of y with its window, a view of shape (c_in/groups, kh, kw)."""
    channels, outputs = g.c_in // g.groups, g.c_out // g.groups
    (s_h, s_w), (d_h, d_w) = g.stride, g.dilation
    reach_h, reach_w = (g.kh - 1) * d_h + 1, (g.kw - 1) * d_w + 1
    for n, o, i, j in np.ndindex(g.output_shape):
        first = o // outputs * channels
        top, left = i * s_h, j * s_w
        rows, columns = slice(top, top + reach_h, d_h), slice(left, left + reach_w, d_w)
        yield (n, o, i, j), padded[n, first : first + channels, rows, columns]


def _pad(x: Array, g: ConvGeometry) -> Array:
    top, bottom, left, right = g.padding
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))


def _double(tensor: Tensor) -> Array:
    return tensor.detach().resolve_neg().double().numpy()


def _like(tensor: Tensor, values: Array) -> Tensor:
    return from_numpy(np.ascontiguousarray(values)).to(tensor.dtype)
