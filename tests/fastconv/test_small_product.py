"""Small 1x1 convolutions of planes, which are one product of matrices (small_product.cpp)."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fastconv import backends, conv2d, registry
from fastconv.geometry import geometry_of

pytestmark = pytest.mark.skipif(
    not backends()["native"].available, reason=backends()["native"].reason
)

# n, c_in, c_out, h, w: pixels that fill vectors of 16, 8, 4 or 2, and rows beyond one tile's.
SHAPES = [
    (1, 16, 16, 4, 4),
    (3, 1, 1, 4, 4),
    (2, 5, 37, 8, 8),
    (1, 33, 15, 4, 12),
    (2, 64, 3, 16, 4),
    (1, 7, 29, 1, 16),
    (4, 128, 14, 4, 6),
]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("n", "c_in", "c_out", "h", "w"), SHAPES)
def test_it_is_the_convolution(
    n: int, c_in: int, c_out: int, h: int, w: int, dtype: torch.dtype, bias: bool
) -> None:
    x = torch.randn(n, c_in, h, w, dtype=dtype, requires_grad=True)
    weight = torch.randn(c_out, c_in, 1, 1, dtype=dtype)
    b = torch.randn(c_out, dtype=dtype) if bias else None
    y = conv2d(x, weight, b, backend="native")
    wanted = F.conv2d(x.double(), weight.double(), None if b is None else b.double())
    dy = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, dy)
    (wanted_dx,) = torch.autograd.grad(wanted, x, dy.double())
    error = 3e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(y.double(), wanted, rtol=error, atol=error * c_in)
    torch.testing.assert_close(dx.double(), wanted_dx.double(), rtol=error, atol=error * c_out)


@pytest.mark.parametrize("operation", ["forward", "grad_input"])
def test_what_it_takes(operation: str) -> None:
    explain = registry.load("native").explain  # type: ignore[attr-defined]

    def name(x: tuple[int, ...], w: tuple[int, ...], last: bool = False, **options: int) -> str:
        return explain(operation, geometry_of(x, w, **options), torch.float32, last)

    assert name((1, 16, 8, 8), (8, 16, 1, 1)) == "small_product"
    assert name((1, 16, 8, 8), (8, 16, 1, 1), last=True) == "general"
    assert name((1, 16, 8, 8), (8, 16, 1, 1), stride=2) == "general"
    assert name((1, 16, 8, 8), (8, 16, 1, 1), padding=1) == "general"
    assert name((1, 16, 8, 8), (8, 8, 1, 1), groups=2) == "general"
    assert name((1, 16, 5, 5), (8, 16, 1, 1)) == "general"
    assert name((1, 256, 64, 64), (256, 256, 1, 1)) == "general"
