"""Convolutions that are not VGG's: ResNet-50's, other kernels, depthwise, dilated, tiny, many.

native against torch on plain tensors, forward and both gradients: where it loses is published
beside where it wins.
"""

from __future__ import annotations

import pytest
from conftest import TORCH

from fastconv.tools.benchmark import OPERATIONS, Contender, operation_call
from fastconv.tools.shapes import ODD, RESNET50

CONTENDERS = (TORCH, Contender("native", "native"))
TABLES = {"ResNet-50 at 224 px": RESNET50, "Other shapes": ODD}


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda c: c.label)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("table", "shape"),
    [(table, shape) for table, shapes in TABLES.items() for shape in shapes],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def bench_shape(table, shape, operation, contender, benchmark, time_side_by_side) -> None:
    benchmark.group = f"{shape.name} {operation}"
    benchmark.extra_info.update(table=table, row=shape.name, column=operation)
    time_side_by_side(contender, lambda: operation_call(shape, operation, contender))
