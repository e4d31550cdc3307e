"""The CUDA table of implementations on the CPU: torch tensors in, torch tensors out.

Mirrors csrc/cuda/table.h; the kernels run under the emulator of cuda_on_cpu.py, every tensor
between guard pages.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from cuda_on_cpu import KernelError, Memory, library, run
from torch import Tensor

from fastconv.geometry import ConvGeometry

OPERATIONS = ("forward", "grad_input", "grad_weight")
TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
PRECISIONS = ("fp32", "tf32", "bf16")


class Problem(ctypes.Structure):
    _fields_ = (
        ("g", ctypes.c_int64 * 18),
        ("operation", ctypes.c_int32),
        ("type", ctypes.c_int32),
        ("precision", ctypes.c_int32),
        ("channels_last", ctypes.c_bool),
        ("capability", ctypes.c_int32),
        ("processors", ctypes.c_int32),
    )


class Operands(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("a", "b", "bias", "added", "mask", "out", "space")),
        ("prepared", ctypes.c_void_p),
        ("relu", ctypes.c_bool),
    )


@dataclass(frozen=True)
class Card:
    """What a problem asks of the card, the row of the table by name if one is wanted, and how the
    emulator runs it."""

    capability: int = 75
    processors: int = 1
    precision: str = "fp32"
    row: str | None = None
    order: int = 0
    at_end: bool = True


@dataclass(frozen=True)
class Epilogue:
    bias: Tensor | None = None
    added: Tensor | None = None
    mask: Tensor | None = None
    relu: bool = False


PLAIN, NOTHING = Card(), Epilogue()


@dataclass
class Buffers:
    """Tensors as a card's memory, for as long as this object lives."""

    at_end: bool
    held: list[Memory] = field(default_factory=list)

    def put(self, tensor: Tensor | None, channels_last: bool) -> int | None:
        if tensor is None:
            return None
        if channels_last and tensor.dim() == 4:
            tensor = tensor.permute(0, 2, 3, 1)
        self.held.append(Memory(numpy_of(tensor.contiguous()), self.at_end))
        return self.held[-1].pointer

    def room(self, count: int) -> int:
        self.held.append(Memory(np.zeros(count, np.uint8), self.at_end, filled=False))
        return self.held[-1].pointer


def numpy_of(tensor: Tensor) -> np.ndarray:
    """Halves as their bits: NumPy has no bfloat16."""
    tensor = tensor.detach()
    return (tensor.view(torch.int16) if tensor.dtype.itemsize == 2 else tensor).numpy()


def problem_of(
    operation: str, g: ConvGeometry, dtype: torch.dtype, channels_last: bool, card: Card
) -> Problem:
    return Problem(
        (ctypes.c_int64 * 18)(*g.flat),
        OPERATIONS.index(operation),
        TYPES.index(dtype),
        PRECISIONS.index(card.precision),
        channels_last,
        card.capability,
        card.processors,
    )


def choice(problem: Problem) -> str:
    function = library().fastconv_cuda_choice
    function.restype = ctypes.c_char_p
    return function(ctypes.byref(problem)).decode()


def accepts(problem: Problem, row: str) -> bool:
    return bool(library().fastconv_cuda_accepts(ctypes.byref(problem), row.encode()))


def bytes_for(function: str, problem: Problem, *row: bytes | None) -> int:
    call = getattr(library(), function)
    call.restype = ctypes.c_int64
    return call(ctypes.byref(problem), *row)


def convolve(
    operation: str,
    a: Tensor,
    b: Tensor,
    g: ConvGeometry,
    channels_last: bool = False,
    card: Card = PLAIN,
    epilogue: Epilogue = NOTHING,
) -> Tensor:
    """One operation of the table; a and b as `Operands` of table.h has them."""
    problem = problem_of(operation, g, a.dtype, channels_last, card)
    row = card.row.encode() if card.row else None
    if card.row and not accepts(problem, card.row):
        raise KernelError(f"{card.row} does not accept {operation} of {g}")
    memory = Buffers(card.at_end)
    weights = operation != "grad_weight"
    shape = {"forward": g.output_shape, "grad_input": g.input_shape}.get(operation, g.weight_shape)
    result = torch.full(shape, torch.nan, dtype=a.dtype)
    to = result.permute(0, 2, 3, 1) if channels_last and weights else result
    operands = Operands(
        memory.put(a, channels_last),
        memory.put(b, channels_last and not weights),
        memory.put(epilogue.bias, False),
        memory.put(epilogue.added, channels_last),
        memory.put(epilogue.mask, channels_last),
        memory.put(to.contiguous(), False),
        relu=epilogue.relu,
    )
    out = memory.held[-1].array
    if count := bytes_for("fastconv_cuda_space_bytes", problem, row):
        operands.space = memory.room(count)
    if count := bytes_for("fastconv_cuda_prepared_bytes", problem, row):
        operands.prepared = memory.room(count)
        prepared = ctypes.c_void_p(operands.prepared)
        weight = ctypes.c_void_p(operands.b)
        run(
            "fastconv_cuda_prepare",
            ctypes.byref(problem),
            row,
            weight,
            prepared,
            order=card.order,
        )
    run(
        "fastconv_cuda_launch",
        ctypes.byref(problem),
        row,
        ctypes.byref(operands),
        order=card.order,
    )
    answer = torch.from_numpy(out.copy()).view(a.dtype).view(to.shape)
    return answer.permute(0, 3, 1, 2) if channels_last and weights else answer


def grad_bias(
    dy: Tensor, g: ConvGeometry, channels_last: bool = False, card: Card = PLAIN
) -> Tensor:
    problem = problem_of("forward", g, dy.dtype, channels_last, card)
    memory = Buffers(card.at_end)
    source = ctypes.c_void_p(memory.put(dy, channels_last))
    target = ctypes.c_void_p(memory.put(dy.new_full((g.c_out,), torch.nan), False))
    out = memory.held[-1].array
    space = ctypes.c_void_p(memory.room(bytes_for("fastconv_cuda_grad_bias_bytes", problem)))
    call = ("fastconv_cuda_grad_bias", ctypes.byref(problem), source, target, space)
    run(*call, order=card.order)
    return torch.from_numpy(out.copy()).view(dy.dtype)


class Convolution(torch.autograd.Function):
    """The table as one differentiable function, for fastconv.tools.checking.compare."""

    @staticmethod
    def forward(ctx, x, weight, bias, g, channels_last, card):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        ctx.rest = (g, channels_last, card)
        return convolve("forward", x, weight, *ctx.rest, Epilogue(bias))

    @staticmethod
    def backward(ctx, dy):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        g, channels_last, card = ctx.rest
        dx = convolve("grad_input", dy, weight, g, channels_last, card)
        dw = convolve("grad_weight", dy, x, g, channels_last, card)
        db = grad_bias(dy, g, channels_last, card) if ctx.needs_input_grad[2] else None
        return dx, dw, db, None, None, None


def convolution(g: ConvGeometry, channels_last: bool, card: Card) -> Callable[..., Tensor]:
    """`conv2d` over the table for the geometry of a case; unbatched pictures too."""

    def run_case(x: Tensor, w: Tensor, b: Tensor | None, *_: object) -> Tensor:
        batched = x if x.dim() == 4 else x[None]
        y = Convolution.apply(batched, w, b, g, channels_last, card)
        return y if x.dim() == 4 else y[0]

    return run_case
