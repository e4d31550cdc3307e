"""Numbers that a convolution gives exactly are given exactly, by `auto` too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastconv import backends, conv2d

pytestmark = pytest.mark.skipif(
    not backends()["native"].available, reason=backends()["native"].reason
)


def integers(seed: int, *shape: int, most: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-most, most + 1, shape, generator=generator).float()


def results(
    x: Tensor, weight: Tensor, dy: Tensor, algo: str | None, dilation: int = 1
) -> list[Tensor]:
    """Forward, and both gradients; without `algo` torch's in float64."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    if algo is None:
        x, weight, dy = x.double(), weight.double(), dy.double()
        y = F.conv2d(x, weight, padding=dilation, dilation=dilation)
    else:
        y = conv2d(x, weight, padding=dilation, dilation=dilation, backend="native", algo=algo)
    return [y.detach(), *torch.autograd.grad(y, (x, weight), dy)]


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_small_integers_come_out_as_integers(layout: torch.memory_format, dilation: int) -> None:
    x, dy = (integers(seed, 2, 128, 32, 34).to(memory_format=layout) for seed in (0, 1))
    weight = integers(2, 128, 128, 3, 3)
    for got, exact in zip(
        results(x, weight, dy, "auto", dilation),
        results(x, weight, dy, None, dilation),
        strict=True,
    ):
        assert torch.equal(got.double(), exact)


def test_a_mask_is_counted_exactly() -> None:
    x, weight = integers(3, 1, 64, 120, 120, most=1).abs(), torch.ones(64, 64, 3, 3)
    assert torch.equal(
        conv2d(x, weight, padding=1, backend="native"), F.conv2d(x, weight, padding=1)
    )


@pytest.mark.parametrize("place", [0, 777, -1])
def test_one_number_that_is_no_integer_is_found(place: int) -> None:
    """Then `auto` is what it is for any other picture: F(4x4) here."""
    x, weight = integers(4, 1, 64, 30, 30), integers(5, 64, 64, 3, 3)
    x.view(-1)[place] += 0.5
    usual = conv2d(x, weight, padding=1, backend="native", algo="f4")
    assert torch.equal(conv2d(x, weight, padding=1, backend="native"), usual)


@pytest.mark.parametrize("value", [2.0**24, float("inf"), float("nan")])
def test_integers_too_large_to_be_exact_change_nothing(value: float) -> None:
    x, weight = integers(6, 1, 64, 30, 30), integers(7, 64, 64, 3, 3)
    x[0, 3, 4, 5] = value
    usual = conv2d(x, weight, padding=1, backend="native", algo="f4")
    got = conv2d(x, weight, padding=1, backend="native")
    assert torch.equal(got.nan_to_num(7), usual.nan_to_num(7))


def test_another_algorithm_that_is_named_is_taken() -> None:
    x, weight = integers(8, 1, 64, 30, 30), integers(9, 64, 64, 3, 3)
    exact = F.conv2d(x, weight, padding=1)
    assert not torch.equal(conv2d(x, weight, padding=1, backend="native", algo="f4"), exact)
    assert torch.equal(conv2d(x, weight, padding=1, backend="native", algo="direct"), exact)


# Denormal numbers, below 2.2e-308 in float64, 1.2e-38 in float32.


@pytest.mark.parametrize("channels", [3, 64])
def test_denormal_numbers_count_in_double_precision(channels: int) -> None:
    x = torch.full((1, channels, 9, 9), 1e-310, dtype=torch.float64)
    weight = torch.ones(channels, channels, 3, 3, dtype=torch.float64)
    y = conv2d(x, weight, padding=1, backend="native")
    torch.testing.assert_close(y, F.conv2d(x, weight, padding=1), rtol=1e-12, atol=0)
    assert y[0, 0, 4, 4] == pytest.approx(9e-310 * channels)
