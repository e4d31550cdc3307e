"""The operators of frozen stacks by themselves: the gradient to the input, kernel by kernel."""

from __future__ import annotations

import pytest
import torch
from frozen_cases import native_only, relative
from torch import Tensor, nn


def way_back(tile: int, one_set: bool, shape: tuple[int, ...], c_in: int) -> tuple[Tensor, Tensor]:
    """The operator's gradient to the input, (n, c_in, h, w), and the double-precision one."""
    n, c_out, h, w = shape
    ops = torch.ops.fastconv
    weight, dy = torch.randn(c_out, c_in, 3, 3), torch.randn(shape)
    numbers = [n, c_in, h, w, c_out, h, w, 1, 1, tile, 0, 0, 2, int(one_set)]
    blocks = [(channels + 15) // 16 for channels in (c_out, c_in)]
    gradient, dx = (torch.zeros(n, count, h, w, 16) for count in blocks)
    ops.frozen_block(dy, gradient, shape)
    u = ops.prepare(weight, tile, not one_set)
    space = torch.full((ops.frozen_space(True, numbers),), float("nan"))
    ops.frozen_backward(gradient, None, u, dx, None, space, numbers)
    exact = nn.functional.conv_transpose2d(dy.double(), weight.double(), padding=1)
    return dx.permute(0, 1, 4, 2, 3).flatten(1, 2)[:, :c_in], exact


@native_only
@pytest.mark.parametrize("tile", [4, 6])
@pytest.mark.parametrize(
    ("shape", "c_in"),
    [
        ((1, 1, 5, 5), 1),
        ((2, 17, 13, 19), 33),
        ((1, 65, 7, 9), 64),
        ((1, 200, 24, 24), 31),
        ((1, 31, 24, 25), 200),
        ((1, 130, 20, 21), 70),
        ((1, 512, 9, 8), 40),  # more room between panels of 512
        ((1, 40, 9, 8), 512),
        ((1, 150, 100, 100), 130),  # so many tiles that the weights are turned in whole
        ((1, 48, 200, 200), 50),
    ],
)
def test_forward_weights_serve_the_way_back(
    tile: int, shape: tuple[int, int, int, int], c_in: int
) -> None:
    errors = [relative(*way_back(tile, one_set, shape, c_in)) for one_set in (False, True)]
    assert errors[1] < 1.3 * errors[0] + 1e-7
    assert errors[1] < (3e-6 if tile == 4 else 1.5e-5)


@native_only
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("c_in", [1, 2, 3])
@pytest.mark.parametrize(
    ("shape", "padding"),
    [
        ((1, 4, 3, 1), 1),
        ((2, 16, 13, 19), 1),
        ((1, 64, 9, 48), 1),
        ((1, 64, 9, 49), 0),
        ((1, 80, 21, 97), 2),  # more channels than are taken at once
        ((1, 130, 70, 53), 1),
        ((3, 65, 8, 100), 0),
        ((1, 17, 200, 20), 2),
    ],
)
def test_gradients_to_few_channels_are_those_of_the_definition(
    shape: tuple[int, int, int, int],
    padding: int,
    c_in: int,
    layout: torch.memory_format,
    relu: bool,
) -> None:
    n, c_out, out_h, out_w = shape
    h, w = out_h + 2 - 2 * padding, out_w + 2 - 2 * padding
    ops = torch.ops.fastconv
    weight, dy = torch.randn(c_out, c_in, 3, 3), torch.randn(shape)
    last = int(layout == torch.channels_last)
    numbers = [n, c_in, h, w, c_out, out_h, out_w, padding, padding, 1, int(relu), 0, last, 0]
    blocks = (c_out + 15) // 16
    lets_through = torch.rand(n, blocks, out_h, out_w, 16) > (0.5 if relu else -1)
    gradient = torch.zeros(n, blocks, out_h, out_w, 16)
    ops.frozen_block(dy, gradient, shape)
    bits = (lets_through.long() << torch.arange(16)).sum(-1).to(torch.int16) if relu else None
    dx = torch.full((n, c_in, h, w), float("nan")).to(memory_format=layout)
    space = torch.empty(ops.frozen_space(True, numbers))
    ops.frozen_backward(gradient, bits, ops.prepare(weight, 1, True), dx, None, space, numbers)
    mask = lets_through.permute(0, 1, 4, 2, 3).flatten(1, 2)[:, :c_out]
    exact = nn.functional.conv_transpose2d(dy.double() * mask, weight.double(), padding=padding)
    assert relative(dx, exact) < 1e-6
