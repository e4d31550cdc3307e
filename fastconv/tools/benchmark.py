"""What is timed, and how: one convolution's operations on every contender, torch's always there.

Only public calls are timed: conv2d under no_grad for the forward pass, torch.autograd.grad
for the gradients.  The yardstick is torch.nn.functional.conv2d itself, on plain (NCHW) and on
channels_last tensors.  Used by `fastconv bench` and by the files in `bench/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..functional import conv2d
from .shapes import ConvShape, vgg19
from .timing import measure

OPERATIONS = ("forward", "grad_input", "grad_weight")
YARDSTICK = "torch"


@dataclass(frozen=True)
class Contender:
    """A way to compute a convolution: a backend, and the layout of its pictures."""

    label: str
    backend: str
    channels_last: bool = False


YARDSTICKS = (Contender(YARDSTICK, "torch"), Contender("torch cl", "torch", channels_last=True))


def contenders(names: Iterable[str]) -> list[Contender]:
    """torch in both layouts, then every other backend in `names` on plain tensors."""
    return [*YARDSTICKS, *(Contender(name, name) for name in names if name != "torch")]


def operation_call(shape: ConvShape, operation: str, contender: Contender) -> Callable[[], Tensor]:
    """A call without arguments that does `operation` of `shape` once; its tensors are ready."""
    layout = torch.channels_last if contender.channels_last else torch.contiguous_format
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape.input_shape, generator=generator).relu().to(memory_format=layout)
    weight = torch.randn(shape.weight_shape, generator=generator).to(memory_format=layout)
    bias = torch.randn(shape.c_out, generator=generator)
    options: dict[str, Any] = dict(shape.options)

    def forward() -> Tensor:
        if contender.backend == "torch":
            return F.conv2d(x, weight, bias, **options)
        return conv2d(x, weight, bias, **options, backend=contender.backend)

    if operation == "forward":
        return torch.no_grad()(forward)
    leaf = x if operation == "grad_input" else weight
    leaf.requires_grad_()
    y = forward()
    dy = torch.randn(y.shape, generator=generator).to(memory_format=layout)
    return lambda: torch.autograd.grad(y, leaf, dy, retain_graph=True)[0]


def vgg19_rows(
    names: Iterable[str], size: int, batch: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """Time VGG19's distinct layers; yields a row per layer and operation as it is measured."""
    chosen = contenders(names)
    for shape in vgg19(size, batch):
        for operation in OPERATIONS:
            calls = {c.label: operation_call(shape, operation, c) for c in chosen}
            timings = measure(calls, seconds)
            yield {
                "layer": shape.name,
                "operation": operation,
                "gflop": shape.geometry.flops / 1e9,
                "milliseconds": {label: t.median * 1e3 for label, t in timings.items()},
                "quartiles": {label: [t.low * 1e3, t.high * 1e3] for label, t in timings.items()},
            }


def table(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The rows as text: milliseconds, and behind each how many times as fast as torch it is."""
    header = False
    for row in rows:
        times = row["milliseconds"]
        if not header:
            yield f"{'layer':9}{'operation':12}" + "".join(f"{label:>18}" for label in times)
            header = True
        cells = (f"{ms:9.2f} ({times[YARDSTICK] / ms:5.2f}x)" for ms in times.values())
        yield f"{row['layer']:9}{row['operation']:12}" + "".join(f"{cell:>18}" for cell in cells)
    if header:
        yield f"milliseconds, medians; in brackets: times as fast as '{YARDSTICK}'"
