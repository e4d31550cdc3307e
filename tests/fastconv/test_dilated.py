"""3x3 convolutions with a dilation, as a batch of pictures without (dilated.cpp)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from fastconv import backends, conv2d, registry
from fastconv.geometry import geometry_of

pytestmark = pytest.mark.skipif(
    not backends()["native"].available, reason=backends()["native"].reason
)

# x, c_out, dilation, padding: sides that the dilation divides and does not, two dilations, none or
# more padding than it takes to keep the size
CASES: list[tuple[tuple[int, ...], int, Any, Any]] = [
    ((1, 128, 32, 32), 128, 2, 2),
    ((2, 130, 19, 34), 127, 2, 2),
    ((1, 128, 41, 27), 128, 3, 3),
    ((1, 140, 24, 36), 120, (2, 4), (2, 4)),
    ((1, 128, 33, 17), 128, (3, 1), (3, 1)),
    ((1, 128, 37, 40), 128, 2, 0),
    ((1, 128, 21, 22), 128, 2, 4),
    ((1, 128, 20, 23), 128, (1, 2), (0, 2)),
]
TOLERANCE = {"f4": 3e-6, "f6": 1.5e-5}


@pytest.mark.parametrize("algo", TOLERANCE)
@pytest.mark.parametrize(("shape", "c_out", "dilation", "padding"), CASES)
def test_it_is_the_convolution_and_its_gradients(
    shape: tuple[int, ...], c_out: int, dilation: Any, padding: Any, algo: str
) -> None:
    x, weight, bias = torch.randn(shape), torch.randn(c_out, shape[1], 3, 3), torch.randn(c_out)
    given = [t.clone().requires_grad_() for t in (x, weight, bias)]
    doubles = [t.double().requires_grad_() for t in (x, weight, bias)]
    options: dict[str, Any] = {"padding": padding, "dilation": dilation}
    y = conv2d(*given, **options, backend="native", algo=algo)
    expected = F.conv2d(*doubles, **options)
    dy = torch.randn(expected.shape)
    pairs = [(y, expected)]
    gradients = torch.autograd.grad(y, given, dy)
    pairs += zip(gradients, torch.autograd.grad(expected, doubles, dy.double()), strict=True)
    for mine, true in pairs:
        apart = float((mine.detach().double() - true).detach().norm() / true.detach().norm())
        assert apart < TOLERANCE[algo]


@pytest.mark.parametrize("operation", ["forward", "grad_input", "grad_weight"])
@pytest.mark.parametrize(
    ("name", "size", "channels", "dilation", "padding"),
    [
        ("dilated_f4", 32, 256, 4, 4),
        ("general", 32, 256, 4, 3),  # not as many pixels as the dilation has
        ("general", 32, 32, 4, 4),  # copying would take longer
        ("general", 33, 256, 12, 12),  # 3 x 3 pixels fill no tile
    ],
)
def test_what_it_takes(
    operation: str, name: str, size: int, channels: int, dilation: int, padding: int
) -> None:
    explain = registry.load("native").explain  # type: ignore[attr-defined]
    shapes = (1, channels, size, size), (channels, channels, 3, 3)
    g = geometry_of(*shapes, padding=padding, dilation=dilation)
    assert explain(operation, g, torch.float32, channels_last=False, algo="auto") == name


def test_weights_changed_in_place_are_noticed() -> None:
    x, weight = torch.randn(1, 128, 24, 24), torch.randn(128, 128, 3, 3)
    options: dict[str, Any] = {"padding": 2, "dilation": 2, "backend": "native"}
    before = conv2d(x, weight, **options)
    weight.mul_(2)
    torch.testing.assert_close(conv2d(x, weight, **options), 2 * before)
