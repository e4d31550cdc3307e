"""The gradient to the input where the output is a single pixel (one_pixel.cpp)."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fastconv import backends, conv2d, registry
from fastconv.geometry import geometry_of

pytestmark = pytest.mark.skipif(
    not backends()["native"].available, reason=backends()["native"].reason
)

# x, weight, stride, padding, dilation: each gives one pixel.
CALLS = [
    pytest.param((1, 16, 1, 1), (9, 16, 3, 3), 1, 1, 1, id="one tap of nine"),
    pytest.param((4, 32, 3, 3), (5, 32, 3, 3), 1, 0, 1, id="every tap, four images"),
    pytest.param((2, 48, 5, 4), (64, 48, 3, 2), 3, 0, 2, id="pixels between dilated taps"),
    pytest.param((3, 16, 2, 4), (7, 16, 5, 5), 2, (2, 1), 1, id="most taps outside"),
    pytest.param((1, 512, 1, 1), (130, 512, 3, 3), 1, 1, 1, id="several parts, a rest of outputs"),
]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("x", "w", "stride", "padding", "dilation"), CALLS)
def test_it_is_the_gradient(x, w, stride, padding, dilation, dtype, layout) -> None:
    picture = torch.randn(x, dtype=dtype).to(memory_format=layout).requires_grad_()
    weight = torch.randn(w, dtype=dtype)
    y = conv2d(picture, weight, None, stride, padding, dilation, backend="native")
    assert y.shape[2:] == (1, 1)
    dy = torch.randn_like(y)
    (got,) = torch.autograd.grad(y, picture, dy)
    exact = F.conv2d(picture.double(), weight.double(), None, stride, padding, dilation)
    (wanted,) = torch.autograd.grad(exact, picture, dy.double())
    error = 3e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(got.double(), wanted.double(), rtol=error, atol=error * w[0])


def test_what_it_takes() -> None:
    explain = registry.load("native").explain  # type: ignore[attr-defined]

    def name(x: tuple[int, ...], w: tuple[int, ...], **options: int) -> str:
        return explain("grad_input", geometry_of(x, w, **options), torch.float32, False)

    assert name((1, 16, 1, 1), (9, 16, 3, 3), padding=1) == "one_pixel"
    assert name((5, 16, 1, 1), (9, 16, 3, 3), padding=1) == "general"  # more images
    assert name((1, 16, 2, 1), (9, 16, 3, 3), padding=1) == "general"  # more pixels
    assert name((1, 7, 1, 1), (9, 7, 3, 3), padding=1) == "general"  # no whole vectors
    assert name((1, 32, 1, 1), (10, 16, 3, 3), padding=1, groups=2) == "general"
