"""The window that slides over a picture: where it stops, and the frame around the picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..errors import ArgumentError
from ..geometry import ConvGeometry, IntOrPair, as_pair, geometry_of
from .layer import Array

Place = tuple[int, int, slice, slice]


def windows(g: ConvGeometry) -> Iterator[Place]:
    """Every place (i, j) of the output with the rows and columns of the padded input it sees."""
    (s_h, s_w), (d_h, d_w) = g.stride, g.dilation
    reach_h, reach_w = (g.kh - 1) * d_h + 1, (g.kw - 1) * d_w + 1
    for i, j in np.ndindex(g.out_h, g.out_w):
        top, left = i * s_h, j * s_w
        yield i, j, slice(top, top + reach_h, d_h), slice(left, left + reach_w, d_w)


def pad(x: Array, g: ConvGeometry, value: float = 0.0) -> Array:
    """x (n, c, h, w) with a frame of `value` around each picture."""
    top, bottom, left, right = g.padding
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def unpad(padded: Array, g: ConvGeometry) -> Array:
    """The inverse of `pad`: what fell on the frame is dropped."""
    top, _, left, _ = g.padding
    return padded[:, :, top : top + g.h, left : left + g.w]


def sizes(
    layer: str,
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: IntOrPair,
    padding: IntOrPair | str,
    groups: int = 1,
) -> ConvGeometry:
    """conv2d's own checks and sizes."""
    with named(layer):
        return geometry_of(input_shape, weight_shape, stride, padding, 1, groups)


def pair(layer: str, value: IntOrPair, name: str, least: int) -> tuple[int, int]:
    with named(layer):
        return as_pair(value, name, least)


@contextmanager
def named(layer: str) -> Iterator[None]:
    """conv2d's messages with the layer's name in them."""
    try:
        yield
    except ArgumentError as error:
        raise ArgumentError(str(error).replace("conv2d", layer, 1)) from None
