"""Patches side by side, which are the channels of a smaller picture (patches.cpp)."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fastconv import backends, conv2d, registry
from fastconv.geometry import geometry_of

pytestmark = pytest.mark.skipif(
    not backends()["native"].available, reason=backends()["native"].reason
)

# x, weight: the last patches incomplete, one patch, lines of patches, more than one picture
SHAPES = [
    ((1, 3, 32, 48), (40, 3, 16, 16)),
    ((2, 3, 35, 53), (17, 3, 8, 8)),
    ((1, 1, 7, 7), (5, 1, 7, 7)),
    ((3, 4, 9, 30), (6, 4, 3, 5)),
    ((1, 31, 5, 64), (8, 31, 1, 2)),
]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("shape", "weight_shape"), SHAPES)
def test_it_is_the_convolution(
    shape: tuple[int, ...], weight_shape: tuple[int, ...], dtype: torch.dtype, bias: bool
) -> None:
    x, weight = torch.randn(shape, dtype=dtype), torch.randn(weight_shape, dtype=dtype)
    b = torch.randn(weight_shape[0], dtype=dtype) if bias else None
    stride = weight_shape[2:]
    y = conv2d(x, weight, b, stride, backend="native")
    wanted = F.conv2d(x.double(), weight.double(), None if b is None else b.double(), stride)
    error = 3e-6 if dtype == torch.float32 else 1e-13
    assert float((y.double() - wanted).norm() / wanted.norm()) < error


@pytest.mark.parametrize(
    ("name", "shape", "weight_shape", "options"),
    [
        ("patches", (1, 3, 224, 224), (768, 3, 16, 16), {"stride": 16}),
        ("general", (1, 3, 224, 224), (64, 3, 7, 7), {"stride": 7, "padding": 1}),
        ("general", (1, 3, 224, 224), (64, 3, 7, 7), {"stride": 4}),
        ("general", (1, 64, 56, 56), (64, 64, 2, 2), {"stride": 2}),
    ],
)
def test_what_it_takes(
    name: str, shape: tuple[int, ...], weight_shape: tuple[int, ...], options: dict[str, int]
) -> None:
    explain = registry.load("native").explain  # type: ignore[attr-defined]
    g = geometry_of(shape, weight_shape, **options)
    assert explain("forward", g, torch.float32, channels_last=False) == name
