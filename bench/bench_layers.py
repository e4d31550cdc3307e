"""VGG19's layers: forward and both gradients, torch beside native and numba.

Yardsticks: torch NCHW and channels_last, as shipped and with a warm allocator.
"""

from __future__ import annotations

import pytest
from conftest import contenders

from fastconv.tools.benchmark import OPERATIONS, operation_call
from fastconv.tools.shapes import vgg19

SIZES = (256, 512)


@pytest.mark.parametrize("contender", contenders("numba"), ids=lambda c: c.label)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("size", "shape"),
    [(size, shape) for size in SIZES for shape in vgg19(size)],
    ids=lambda value: value if isinstance(value, int) else value.name,
)
def bench_layer(size, shape, operation, contender, benchmark, time_side_by_side) -> None:
    benchmark.group = f"{shape.name} @{size} {operation}"
    benchmark.extra_info.update(table=f"VGG19 at {size} px", row=shape.name, column=operation)
    time_side_by_side(contender, lambda: operation_call(shape, operation, contender))


@pytest.mark.parametrize("contender", contenders(), ids=lambda c: c.label)
@pytest.mark.parametrize("shape", vgg19(1024), ids=lambda shape: shape.name)
def bench_large_picture(shape, contender, benchmark, time_side_by_side) -> None:
    benchmark.group = f"{shape.name} @1024 forward"
    benchmark.extra_info.update(table="VGG19 at 1024 px", row=shape.name, column="forward")
    time_side_by_side(contender, lambda: operation_call(shape, "forward", contender))
