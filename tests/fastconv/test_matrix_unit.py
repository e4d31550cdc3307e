"""Convolutions that the matrix unit takes where there is one (gather_squares.cpp).

They are large enough to pay, and of sizes that fill squares of 32 x 32 badly; elsewhere they run as
all others do.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from fastconv import backends, conv2d

pytestmark = [
    pytest.mark.skipif(not backends()["native"].available, reason=backends()["native"].reason),
    pytest.mark.filterwarnings("ignore:Using padding='same'"),
]

# x, weight, and the other arguments
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "1x1, a line of odd length": ((1, 193, 13, 29), (97, 193, 1, 1), {}),
    "1x1 with a stride": ((1, 200, 27, 31), (130, 200, 1, 1), {"stride": 2}),
    "1x1 with padding": ((1, 224, 15, 17), (100, 224, 1, 1), {"padding": 1}),
    "1x1 with padding, a block a line": ((1, 192, 4, 530), (96, 192, 1, 1), {"padding": 1}),
    "1x1, every second line": ((1, 192, 7, 530), (96, 192, 1, 1), {"stride": (2, 1)}),
    "1x1, lines in parts": ((1, 192, 1, 1300), (96, 192, 1, 1), {}),
    "5x5, one channel over a step": ((1, 33, 37, 41), (49, 33, 5, 5), {"padding": 2}),
    "24 channels, the fewest": ((1, 24, 40, 33), (24, 24, 7, 7), {"padding": 3}),
    "16 outputs, the fewest": ((1, 64, 35, 35), (16, 64, 3, 3), {"padding": 1, "stride": 2}),
    "lines longer than a block": ((1, 40, 3, 700), (40, 40, 3, 5), {"padding": (1, 2)}),
    "lines of three pixels": ((2, 48, 90, 3), (64, 48, 5, 3), {"padding": (2, 1)}),
    "even kernel, stride 2": ((1, 65, 38, 42), (70, 65, 4, 4), {"stride": 2, "padding": 1}),
    "padding on one side": ((1, 64, 30, 31), (33, 64, 2, 4), {"padding": "same"}),
    "dilation": ((1, 64, 40, 37), (48, 64, 3, 3), {"dilation": 3, "padding": 3}),
    "dilation and stride": ((1, 64, 61, 63), (48, 64, 3, 3), {"dilation": 2, "stride": 3}),
    "groups": ((2, 96, 29, 23), (99, 32, 3, 3), {"groups": 3, "padding": 1, "stride": 2}),
    "a batch of small pictures": ((9, 256, 7, 6), (128, 256, 1, 1), {}),
    "weights in several parts": ((1, 1024, 14, 13), (1024, 1024, 3, 3), {"stride": 2}),
}
ERROR = 2e-6  # relative L2; torch's own is 4e-7 for the longest sums here


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.detach().double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("name", CASES)
def test_forward(name: str, bias: bool) -> None:
    shape, weight_shape, options = CASES[name]
    x, weight = torch.randn(shape), torch.randn(weight_shape)
    b = torch.randn(weight_shape[0]) * 10 if bias else None
    expected = F.conv2d(x.double(), weight.double(), None if b is None else b.double(), **options)
    found = conv2d(x, weight, b, **options, backend="native", algo="direct")
    assert apart(found, expected) < ERROR


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    shape, weight_shape, options = CASES[name]
    x, weight = torch.randn(shape), torch.randn(weight_shape)
    given = [t.clone().requires_grad_() for t in (x, weight)]
    doubles = [t.double().requires_grad_() for t in (x, weight)]
    expected = F.conv2d(*doubles, **options)
    dy = torch.randn(expected.shape)
    found = conv2d(*given, **options, backend="native", algo="direct")
    for mine, true in zip(
        torch.autograd.grad(found, given, dy),
        torch.autograd.grad(expected, doubles, dy.double()),
        strict=True,
    ):
        assert apart(mine, true) < ERROR


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads(threads: int) -> None:
    shape, weight_shape, options = CASES["5x5, one channel over a step"]
    x, weight = torch.randn(shape), torch.randn(weight_shape)
    expected = F.conv2d(x.double(), weight.double(), **options)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert apart(conv2d(x, weight, **options, backend="native"), expected) < ERROR
    finally:
        torch.set_num_threads(before)


def test_a_picture_that_is_part_of_a_larger_one_and_channels_last() -> None:
    x = torch.randn(1, 80, 40, 44)[:, ::2, 3:, 5:]
    weight = torch.randn(48, 40, 5, 5)
    expected = F.conv2d(x.double(), weight.double(), padding=2)
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        assert apart(conv2d(given, weight, padding=2, backend="native"), expected) < ERROR


def test_what_lies_beside_a_picture_does_not_come_in() -> None:
    """Squares reach beyond the copy of the picture, where memory is whatever it was: NaN, here."""
    x, weight = torch.randn(1, 36, 33, 35), torch.randn(40, 36, 3, 7)
    options: dict[str, Any] = {"padding": (1, 3), "backend": "native", "algo": "direct"}
    conv2d(torch.full_like(x, float("nan")), weight, **options)
    assert conv2d(x, weight, **options).isfinite().all()
