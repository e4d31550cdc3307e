"""mean_square and gram_distance against torch's, with and without the native operators."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from fastconv import Moments, gram_distance, mean_square
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
    ops = torch.ops.fastconv
    square, back = ops.mean_square, ops.mean_square_backward
    for other in (a[:5], a.double(), torch.zeros(12)[::2]):
        for call in ((square, a, other, one), (square, a, a, other), (back, a, a, one, other)):
            with pytest.raises(ValueError, match=r"expects \d+ (float32 )?numbers"):
                call[0](*call[1:])
    c, square = torch.zeros(2), torch.zeros(2, 2)
    for other in (torch.zeros(2, 3), square.double(), torch.zeros(4, 2)[::2]):
        for call in ((c, other, square, 1.0, one), (c, square, other, 1.0, one)):
            with pytest.raises(ValueError, match=r"expects \d+ (float32 )?numbers"):
                ops.gram_distance(*call)
        with pytest.raises(ValueError, match=r"expects \d+ (float32 )?numbers"):
            ops.gram_distance_backward(c, square, square, 1.0, one, c, other)


def moments(channels: int, dtype: torch.dtype) -> tuple[Moments, Tensor]:
    """Of some features, and the Gram matrix of others."""
    generator = torch.Generator().manual_seed(channels)
    f, other = torch.randn(2, channels, 50, generator=generator, dtype=torch.float64)
    found = Moments(f.mean(1)[None], torch.cov(f, correction=0).view(1, channels, channels))
    return Moments(*(t.to(dtype) for t in found)), (other @ other.T / 50).to(dtype)


@pytest.mark.parametrize("channels", [1, 2, 7, 8, 9, 31, 33, 64, 130])
@pytest.mark.parametrize("scale", [1.0, 0.125])
def test_gram_matrices_are_apart_by_the_mean_square_of_their_difference(
    channels: int, scale: float
) -> None:
    found, target = moments(channels, torch.float32)
    mine = Moments(*(t.clone().requires_grad_() for t in found))
    theirs = Moments(*(t.double().requires_grad_() for t in found))
    value = gram_distance(mine, target, scale)
    gram = theirs.covariance[0] + torch.outer(theirs.mean[0], theirs.mean[0])
    expected = F.mse_loss(scale * gram, target.double())
    # what is subtracted is rounded before
    apart = 3e-6 * float(max((scale * gram).abs().max().item(), target.abs().max().item()))
    torch.testing.assert_close(
        value.double().sqrt(), expected.sqrt(), rtol=1e-5, atol=max(apart, 1e-15)
    )
    (-3 * value).backward()
    (-3 * expected).backward()
    for ours, known in zip(mine, theirs):
        close = {"rtol": 1e-5, "atol": 1e-5 * float(known.grad.abs().max())}
        torch.testing.assert_close(ours.grad.double(), known.grad, **close)


def test_gram_matrices_in_double_precision_have_the_right_gradient() -> None:
    found, target = moments(5, torch.float64)
    symmetric = found.covariance.requires_grad_()

    def distance(mean: Tensor, root: Tensor) -> Tensor:
        return gram_distance(Moments(mean, root + root.mT), target, 0.3)

    assert torch.autograd.gradcheck(distance, (found.mean.requires_grad_(), symmetric))
