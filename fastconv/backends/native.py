"""The C++ extension behind the protocol: operators of `csrc/`, and what torch.compile needs.

The operators are torch.ops.fastconv.forward, grad_input and grad_weight.  Each takes the geometry
as a flat list of integers and validates it against its tensors before a kernel runs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..geometry import ConvGeometry
from .base import FLOATS

try:
    from .. import _C  # type: ignore[attr-defined]  # noqa: F401  (importing registers the operators)
except ImportError as error:
    raise ImportError(f"its compiled module cannot be loaded ({error})") from error

DTYPES = FLOATS
DEVICES = frozenset({"cpu"})

_ops = torch.ops.fastconv
try:
    _ops.isa()
except ValueError as error:  # FASTCONV_ISA names a set that is not there
    raise ArgumentError(str(error)) from None


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, g: ConvGeometry) -> Tensor:
    return _ops.forward(x, weight, bias, g.flat)


def grad_input(dy: Tensor, weight: Tensor, g: ConvGeometry) -> Tensor:
    return _ops.grad_input(dy, weight, g.flat)


def grad_weight(dy: Tensor, x: Tensor, g: ConvGeometry) -> Tensor:
    return _ops.grad_weight(dy, x, g.flat)


def grad_bias(dy: Tensor, g: ConvGeometry) -> Tensor:
    return dy.sum((0, 2, 3))


def instruction_set() -> str:
    """The instruction set in use; FASTCONV_ISA forces one of `instruction_sets()`."""
    return _ops.isa()


def instruction_sets() -> list[str]:
    """The instruction sets that this build holds and this processor has, best first."""
    return _ops.isas().split()


def explain(operation: str, g: ConvGeometry, dtype: torch.dtype, channels_last: bool) -> str:
    """The name of the implementation that runs `operation`, one of this module's functions."""
    return _ops.explain(operation, g.flat, dtype == torch.float64, channels_last)


# Fake kernels: the shapes and layouts of the results, for torch.compile.


def _picture(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    last = not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


@torch.library.register_fake("fastconv::forward")
def _(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: list[int]) -> Tensor:
    return _picture(x, ConvGeometry.from_flat(geometry).output_shape)


@torch.library.register_fake("fastconv::grad_input")
def _(dy: Tensor, weight: Tensor, geometry: list[int]) -> Tensor:
    return _picture(dy, ConvGeometry.from_flat(geometry).input_shape)


@torch.library.register_fake("fastconv::grad_weight")
def _(dy: Tensor, x: Tensor, geometry: list[int]) -> Tensor:
    return dy.new_empty(ConvGeometry.from_flat(geometry).weight_shape)
