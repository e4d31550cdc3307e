"""mean_square against torch's, in values and gradients, with and without the native operators."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from fastconv import mean_square
from fastconv.memory import Recycler
from fastconv.registry import has

AWKWARD = [1, 2, 31, 32, 33, 16383, 16384, 16385, 50001]


def pair(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    a, b = torch.randn(2, 1, 1, count, generator=generator, dtype=torch.float64).to(dtype)
    return a, b


def check(a: Tensor, b: Tensor, memory: Recycler | None = None) -> None:
    mine, theirs = a.clone().requires_grad_(), a.double().requires_grad_()
    value, expected = mean_square(mine, b, memory), F.mse_loss(theirs, b.double())
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-30)
    (-3 * value).backward()
    (-3 * expected).backward()
    torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("count", AWKWARD)
def test_it_is_torch_s_mean_square(count: int) -> None:
    check(*pair(count))


@pytest.mark.parametrize("count", [1, 33, 20000])
def test_memory_of_its_own_changes_nothing(count: int) -> None:
    a, b = pair(count)
    check(a, b, Recycler.like(a))


@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_any_shape_and_layout_will_do(c: int, h: int, w: int, last: bool) -> None:
    layout = torch.channels_last if last else torch.contiguous_format
    a = torch.rand(2, c, h, w).to(memory_format=layout)
    check(a, torch.rand(2, c, h, w))


def test_what_the_native_operators_do_not_take_is_computed_all_the_same() -> None:
    a, b = pair(40, torch.float64)
    assert torch.autograd.gradcheck(lambda x: mean_square(x, b), (a.requires_grad_(),))


def test_large_numbers_that_nearly_agree_lose_nothing() -> None:
    b = torch.full((1, 70000), 1000.0)
    value = mean_square(b + 0.5, b)
    assert float(value) == 0.25


@pytest.mark.skipif(not has("native"), reason="the native backend is not here")
def test_the_operators_refuse_what_they_would_read_wrongly() -> None:
    a, one = torch.zeros(6), torch.zeros(())
    square, scaled = torch.ops.fastconv.square_distance, torch.ops.fastconv.scaled_difference
    for other in (a[:5], a.double(), torch.zeros(12)[::2]):
        for call in ((square, a, other, one), (square, a, a, other), (scaled, a, a, one, other)):
            with pytest.raises(ValueError, match="float32 numbers"):
                call[0](*call[1:])
