"""The frozen stack: VGG19 up to conv5_1 with ReLU and pools, forward and backward to the picture.

What a step of style transfer costs.  torch runs the same layers as an nn.Sequential, on plain and
on channels_last tensors, as shipped and with a warm allocator; the weights are random.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from conftest import contenders
from networks import vgg19_to_conv5_1
from torch import Tensor

from fastconv import freeze
from fastconv.tools.benchmark import Contender


def step(size: int, contender: Contender) -> Callable[[], Tensor]:
    """One forward pass and the gradient of the last output's sum to the picture."""
    model = vgg19_to_conv5_1()
    layout = torch.channels_last if contender.channels_last else torch.contiguous_format
    if contender.backend == "torch":
        network = model.to(memory_format=layout)
    else:
        frozen = freeze(model, [len(model) - 1], backend=contender.backend)

        def network(x: Tensor) -> Tensor:
            return frozen(x)[0]

    x = torch.rand(1, 3, size, size).to(memory_format=layout).requires_grad_()
    return lambda: torch.autograd.grad(network(x).sum(), x)[0]


@pytest.mark.parametrize("contender", contenders(), ids=lambda c: c.label)
@pytest.mark.parametrize("size", [256, 512, 1024])
def bench_frozen_stack(size, contender, benchmark, time_side_by_side) -> None:
    benchmark.group = f"VGG19 to conv5_1 @{size}"
    benchmark.extra_info.update(
        table="VGG19 conv1_1 to conv5_1, frozen", row=f"{size} px", column="forward + backward"
    )
    time_side_by_side(contender, lambda: step(size, contender))
