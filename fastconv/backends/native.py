"""The C++ extension behind the protocol: operators of `csrc/`, and what torch.compile needs.

The operators are torch.ops.fastconv.forward, grad_input and grad_weight: for tensors on the CPU,
and on CUDA where native_cuda.py finds kernels.  Each takes the geometry as a flat list of integers
and validates it against its tensors before a kernel runs; an algorithm and a precision are given by
their places in CHOICES.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .. import algorithms
from .. import precision as precisions
from ..algorithms import checked, current_algorithm
from ..errors import ArgumentError
from ..geometry import ConvGeometry
from ..precision import current_precision
from . import native_cuda
from .base import FLOATS, HALVES
from .prepared import prepared

try:
    from .. import _C  # type: ignore[attr-defined]  # noqa: F401  (registers the operators)
except ImportError as error:
    raise ImportError(f"its compiled module cannot be loaded ({error})") from error

WITHOUT_CUDA = native_cuda.load()  # the reason, or nothing
DTYPES = FLOATS
DTYPES_ON = {"cuda": FLOATS | HALVES}
DEVICES = FUSES_ON = frozenset({"cpu"} if WITHOUT_CUDA else {"cpu", "cuda"})
KEEPS_CHANNELS_LAST = True

_ops = torch.ops.fastconv
try:
    _ops.isa()
    _ops.keep_limit()
except ValueError as error:  # FASTCONV_ISA names no set that is there, FASTCONV_KEEP_MB no number
    raise ArgumentError(str(error)) from None
# The overloads themselves: looking for one among several takes 0.3 us at every call.
_forward, _grad_input = _ops.forward.default, _ops.grad_input.default
_grad_weight = _ops.grad_weight.default


def against(device: str) -> str:
    """Why the backend cannot run on this device, where more can be said than DEVICES does."""
    if not device.startswith("cuda"):
        return ""
    return WITHOUT_CUDA or native_cuda.against_card(device)


class Native:
    """The backend's four functions, with the algorithm of 3x3 convolutions on the CPU and the
    precision of products on CUDA laid down."""

    NAME = "native"
    DTYPES = DTYPES
    DEVICES = DEVICES
    KEEPS_CHANNELS_LAST = KEEPS_CHANNELS_LAST

    def __init__(self, algo: str, precision: str) -> None:
        self.algo, self.precision = checked(algo), precisions.checked(precision)
        # The operators take numbers: a string would be copied twice at every call.
        self.algo_number = algorithms.CHOICES.index(algo)
        self.precision_number = precisions.CHOICES.index(precision)
        self.plain = self.algo_number == self.precision_number == 0  # the operators' own defaults

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None, g: ConvGeometry) -> Tensor:
        if self.plain and g.kh != 3:  # what is not said is not converted: 0.2 us
            return _forward(x, weight, bias, g.flat)
        u = self._prepared("forward", x, weight, g)
        return _forward(x, weight, bias, g.flat, self.algo_number, u, self.precision_number)

    def grad_input(self, dy: Tensor, weight: Tensor, g: ConvGeometry) -> Tensor:
        if self.plain and g.kh != 3:
            return _grad_input(dy, weight, g.flat)
        u = self._prepared("grad_input", dy, weight, g)
        return _grad_input(dy, weight, g.flat, self.algo_number, u, self.precision_number)

    def grad_weight(self, dy: Tensor, x: Tensor, g: ConvGeometry) -> Tensor:
        if self.plain:
            return _grad_weight(dy, x, g.flat)
        return _grad_weight(dy, x, g.flat, self.algo_number, self.precision_number)

    def grad_bias(self, dy: Tensor, g: ConvGeometry) -> Tensor:
        return _ops.grad_bias(dy, g.flat) if dy.is_cuda else dy.sum((0, 2, 3))

    def _prepared(
        self, operation: str, picture: Tensor, weight: Tensor, g: ConvGeometry
    ) -> Tensor | None:
        """The transformed weights, if the algorithm wants any."""
        if (g.kh, g.kw) != (3, 3) or picture.is_cuda:
            return None
        last = not picture.is_contiguous()
        name = _explain_once(operation, g, picture.dtype == torch.float64, last, self.algo)
        tile = TILES.get(name)
        return None if tile is None else prepared(weight, tile, operation == "grad_input")


# The implementations that want their weights prepared, and for which tile.
TILES = {"winograd_f4": 4, "winograd_f6": 6, "dilated_f4": 4, "dilated_f6": 6}
_BY_NAMES = {
    (algo, precision): Native(algo, precision)
    for algo in algorithms.CHOICES
    for precision in precisions.CHOICES
}


def using(algo: str | None = None, precision: str | None = None) -> Native:
    """The backend with both laid down: what a call needs whose gradient comes later."""
    names = (algo or current_algorithm(), precision or current_precision())
    return _BY_NAMES.get(names) or Native(*names)  # which tells what is wrong with a name


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, g: ConvGeometry) -> Tensor:
    return using().forward(x, weight, bias, g)


def grad_input(dy: Tensor, weight: Tensor, g: ConvGeometry) -> Tensor:
    return using().grad_input(dy, weight, g)


def grad_weight(dy: Tensor, x: Tensor, g: ConvGeometry) -> Tensor:
    return using().grad_weight(dy, x, g)


def grad_bias(dy: Tensor, g: ConvGeometry) -> Tensor:
    return using().grad_bias(dy, g)


def instruction_set() -> str:
    """The instruction set in use; FASTCONV_ISA forces one of `instruction_sets()`."""
    return _ops.isa()


def instruction_sets() -> list[str]:
    """The instruction sets that this build holds and this processor has, best first."""
    return _ops.isas().split()


def keeps_results() -> bool:
    """Whether results live in memory that is kept (csrc/results.h): torch >= 2.11 and no
    FASTCONV_KEEP_MB=0."""
    return _ops.keeps_results()


def kept_bytes(release: bool = False) -> int:
    """Bytes kept for results to come; `release` gives them back to the system first."""
    return _ops.kept_bytes(release)


def explain(
    operation: str,
    g: ConvGeometry,
    dtype: torch.dtype,
    channels_last: bool,
    algo: str | None = None,
) -> str:
    """The name of the implementation that runs `operation`, one of this module's functions."""
    double = dtype == torch.float64
    return _explain_once(operation, g, double, channels_last, algo or current_algorithm())


_IMPLEMENTATIONS = {
    operation: (place, _ops.implementations(place).split())
    for place, operation in enumerate(("forward", "grad_input", "grad_weight"))
}


@lru_cache(maxsize=4096)
def _explain_once(
    operation: str, g: ConvGeometry, double: bool, channels_last: bool, algo: str
) -> str:
    number = algorithms.CHOICES.index(checked(algo))
    place, names = _IMPLEMENTATIONS[operation]
    return names[_ops.explain(place, g.flat, double, channels_last, number)]


# Fake kernels: the shapes and layouts of the results, for torch.compile.


def _picture(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    last = not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


@torch.library.register_fake("fastconv::forward")
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: list[int],
    algo: int = 0,
    prepared: Tensor | None = None,
    precision: int = 0,
) -> Tensor:
    return _picture(x, ConvGeometry.from_flat(geometry).output_shape)


@torch.library.register_fake("fastconv::grad_input")
def _(
    dy: Tensor,
    weight: Tensor,
    geometry: list[int],
    algo: int = 0,
    prepared: Tensor | None = None,
    precision: int = 0,
) -> Tensor:
    return _picture(dy, ConvGeometry.from_flat(geometry).input_shape)


@torch.library.register_fake("fastconv::grad_weight")
def _(dy: Tensor, x: Tensor, geometry: list[int], algo: int = 0, precision: int = 0) -> Tensor:
    return dy.new_empty(ConvGeometry.from_flat(geometry).weight_shape)
