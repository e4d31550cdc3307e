"""What several threads compute together is what one computes, every time.

A result's memory is that of the one before (csrc/results.h).  It is filled with NaN in between, so
that an element shows that a thread has put back after another one had written it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fastconv import backends, conv2d
from fastconv.plans import plan_of

pytestmark = pytest.mark.skipif(
    not backends()["native"].available, reason=backends()["native"].reason
)

CALLS = 100

# Channels side by side, of which a call of the kernel writes every second element: input, weight.
TWO_CHANNELS = {
    "two groups of one": ((16, 2, 96, 96), (2, 1, 3, 3), 2),
    "64 channels to two": ((2, 64, 56, 57), (2, 64, 3, 3), 1),
    "two channels to 16": ((4, 2, 56, 57), (16, 2, 3, 3), 1),
}


@pytest.fixture(params=[2, 3, 7])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def forward(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    return conv2d(x, weight, padding=1, groups=groups, backend="native")


def grad_input(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    plan = plan_of(x, weight, None, 1, 1, 1, groups, "native", None)
    dy = torch.ones(plan.g.output_shape, dtype=x.dtype).to(memory_format=torch.channels_last)
    return plan.grad_input(dy.mul_(x.flatten()[0]), weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("operation", [forward, grad_input])
@pytest.mark.parametrize("name", TWO_CHANNELS)
def test_no_thread_puts_back_what_another_has_written(
    threads: int, name: str, operation: object, dtype: torch.dtype
) -> None:
    shape, kernel, groups = TWO_CHANNELS[name]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(kernel, generator=generator, dtype=dtype)
    expected = operation(x, weight, groups).clone()  # type: ignore[operator]
    wrong = 0
    for _ in range(CALLS):
        result = operation(x, weight, groups)  # type: ignore[operator]
        wrong += not torch.equal(result, expected)
        result.fill_(float("nan"))
        del result
    assert wrong == 0, f"{wrong} of {CALLS} calls"
