"""The stacks that tests of frozen ones use, and how far these are from double precision."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fastconv import backends
from fastconv.frozen import Frozen, freeze

native_only = pytest.mark.skipif(
    not backends()["native"].available, reason=backends()["native"].reason
)


FORWARD, BACKWARD = 1e-5, 1e-4


def network(pool: Callable[..., nn.Module] = nn.MaxPool2d, channels: int = 16) -> nn.Sequential:
    """Three scales: 0..4, 5..9, 10..11; one convolution without padding, one odd width."""
    c = channels
    return nn.Sequential(
        nn.Conv2d(3, c, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(c, c, 3, padding=1),
        nn.ReLU(inplace=True),
        pool(2, 2),
        nn.Conv2d(c, 2 * c, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(2 * c, 2 * c + 1, 3, padding=0, bias=False),
        nn.ReLU(),
        pool(2, 2),
        nn.Conv2d(2 * c + 1, 3 * c, 3, padding="same"),
        nn.ReLU(),
    )


def outputs_of(module: nn.Sequential, taps: list[int], x: Tensor) -> list[Tensor]:
    found = {}
    for index, layer in enumerate(module):
        x = found[index] = torch.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
    return [found[tap] for tap in taps]


def differences(
    module: nn.Sequential, taps: list[int], x: Tensor, frozen: Frozen | None = None
) -> tuple[float, float]:
    """Relative L2 errors: the worst of the outputs, and the gradient of a random linear loss.

    By rounding, a ReLU or a pool may decide the other way than in double precision, which moves
    the gradient by percents.  That is rare: another picture has none, where a mistake stays.
    """
    frozen = frozen or freeze(module, taps, "native")
    worst, gradients = 0.0, []
    for _ in range(3):
        forward, backward = _differences_once(module, taps, x, frozen)
        worst, gradients = max(worst, forward), [*gradients, backward]
        if backward < BACKWARD:
            break
        x = torch.rand_like(x)
    return worst, min(gradients)


def _differences_once(
    module: nn.Sequential, taps: list[int], x: Tensor, frozen: Frozen
) -> tuple[float, float]:
    exact = copy.deepcopy(module).double()
    x64 = x.double().requires_grad_()
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    expected, results = outputs_of(exact, taps, x64), frozen(x)
    weights = [torch.randn(y.shape) for y in expected]
    torch.autograd.backward(expected, [w.double() for w in weights])
    torch.autograd.backward(results, weights)
    worst = max(relative(y, e) for y, e in zip(results, expected, strict=True))
    return worst, relative(x.grad, x64.grad)


def relative(result: Tensor | None, expected: Tensor | None) -> float:
    assert result is not None
    assert expected is not None
    return float((result.detach().double() - expected.detach()).norm() / expected.detach().norm())
