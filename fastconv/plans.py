"""What a call of conv2d comes down to, worked out once for its shapes, dtypes and arguments.

Checking, choosing a backend and the shape arithmetic take 5 us in Python, longer than torch takes
for the whole of a tiny convolution.  A network makes the same few calls at every step, so what was
found for one is kept for the next.  What is kept depends on nothing but the key: not on a tensor's
contents, layout or place in the graph.  A mistake is never kept, and is told at every call.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .algorithms import CHOICE as ALGORITHM
from .backends.base import Backend
from .errors import ArgumentError, DtypeError, OutOfMemoryError, ran_out_of_memory
from .geometry import ConvGeometry, IntOrPair, as_count, as_pair, geometry_of, traced_geometry
from .precision import CHOICE as PRECISION
from .registry import CHOICE as BACKEND
from .registry import current_backend, place_of, resolve

most_kept = 1024


class Plan(NamedTuple):
    """How a call is computed, whatever its tensors contain."""

    g: ConvGeometry
    backend: Backend  # with its algorithm and precision laid down
    compute: torch.dtype
    direct: bool  # whether the tensors can be given to the backend as they are
    empty: bool  # whether there is nothing to add up: backends need not know of it

    # What operators.py takes to compute the same.

    @property
    def x_size(self) -> Sequence[int]:
        return self.g.input_shape

    @property
    def weight_size(self) -> Sequence[int]:
        return self.g.weight_shape

    @property
    def arguments(self) -> tuple[Any, ...]:
        g, backend = self.g, self.backend
        options = (g.stride, g.padding, g.dilation, g.groups)
        return (*options, backend.NAME, backend.algo, backend.precision)

    # The operations without derivatives.  One wrapper for all four would cost tiny calls 0.3 us.

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.empty:
            y = x.new_zeros(self.g.output_shape)
            return y if bias is None else y + bias[:, None, None]
        try:
            return self.backend.forward(x, weight, bias, self.g)
        except (MemoryError, RuntimeError) as error:
            self._tell_if_memory_ran_out(error)
            raise

    def grad_input(self, dy: Tensor, weight: Tensor) -> Tensor:
        if self.empty:
            return dy.new_zeros(self.g.input_shape)
        try:
            return self.backend.grad_input(dy, weight, self.g)
        except (MemoryError, RuntimeError) as error:
            self._tell_if_memory_ran_out(error)
            raise

    def grad_weight(self, dy: Tensor, x: Tensor) -> Tensor:
        if self.empty:
            return dy.new_zeros(self.g.weight_shape)
        try:
            return self.backend.grad_weight(dy, x, self.g)
        except (MemoryError, RuntimeError) as error:
            self._tell_if_memory_ran_out(error)
            raise

    def grad_bias(self, dy: Tensor) -> Tensor:
        try:
            return self.backend.grad_bias(dy, self.g)
        except (MemoryError, RuntimeError) as error:
            self._tell_if_memory_ran_out(error)
            raise

    def _tell_if_memory_ran_out(self, error: Exception) -> None:
        if ran_out_of_memory(error):
            raise OutOfMemoryError(f"conv2d: not enough memory for {self.g}") from error


_kept: dict[Hashable, Plan] = {}


def forget() -> None:
    """Work every plan out again: after the table of backends has changed."""
    _kept.clear()
    _known.cache_clear()


def plan_of(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: IntOrPair,
    padding: IntOrPair | str,
    dilation: IntOrPair,
    groups: int,
    backend: str | None,
    algo: str | None,
) -> Plan | None:
    """The plan of a call, once its arguments are checked; none on `meta` or in torch.jit.trace."""
    # A key must not take True for 1; whole numbers are known without a call.
    if not type(stride) is type(dilation) is type(groups) is int:
        stride, dilation = as_pair(stride, "stride", 1), as_pair(dilation, "dilation", 1)
        groups = as_count(groups)
    if type(padding) is tuple and len(padding) == 2:
        if not type(padding[0]) is type(padding[1]) is int:
            padding = as_pair(padding, "padding", 0)
    elif type(padding) is not int and type(padding) is not str:
        padding = as_pair(padding, "padding", 0)  # type: ignore[arg-type]
    # Devices take 0.25 us to ask for, hash and compare.
    shape_of_bias = None if bias is None else bias.shape
    on_cpu = input.is_cpu and weight.is_cpu and (bias is None or bias.is_cpu)
    key = (
        input.shape,
        weight.shape,
        shape_of_bias,
        on_cpu or _devices(input, weight, bias),
        input.dtype,
        weight.dtype,
        None if bias is None else bias.dtype,
        stride,
        padding,
        dilation,
        groups,
        backend,
        algo,
        BACKEND.chosen,
        ALGORITHM.chosen,
        PRECISION.chosen,
    )
    plan = _kept.get(key)
    if plan is None:
        # Only asked here: sizes that are traced are tensors, and so never those of a key.
        if input.is_meta or torch._C._get_tracing_state() is not None:
            return None
        plan = _made(input, weight, bias, stride, padding, dilation, groups, backend, algo)
        if len(_kept) >= most_kept:
            _kept.clear()
        _kept[key] = plan
    return plan


def _made(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: IntOrPair,
    padding: IntOrPair | str,
    dilation: IntOrPair,
    groups: int,
    backend: str | None,
    algo: str | None,
) -> Plan:
    check_operands(input, weight, bias)
    shape = input.shape if input.dim() == 4 else (1, *input.shape)
    g = geometry_of(shape, weight.shape, stride, padding, dilation, groups)
    chosen, compute = resolve(backend or current_backend(), place_of(input), input.dtype)
    direct = compute == input.dtype and input.dim() == 4
    return Plan(g, chosen.using(algo), compute, direct, g.n == 0 or g.c_in == 0)


def operator_plan(
    like: Tensor,
    x_size: Sequence[int],
    weight_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] | None,
    dilation: Sequence[int],
    groups: int,
    backend: str | None,
    algo: str | None,
    precision: str | None,
) -> Plan:
    """The plan for an operator's arguments (operators.py), whose sizes may be symbols."""
    sizes = (tuple(x_size), tuple(weight_size))
    pads = None if padding is None else tuple(padding)
    options = (tuple(stride), pads, tuple(dilation), groups)
    arguments = (place_of(like), like.dtype, *sizes, *options, backend, algo, precision)
    if all(type(size) is int for size in (*x_size, *weight_size)):
        return _known((BACKEND.chosen, ALGORITHM.chosen, PRECISION.chosen), *arguments)
    return _for_operator(*arguments)


@lru_cache(maxsize=most_kept)
def _known(in_force: tuple[str | None, ...], *arguments: Any) -> Plan:
    return _for_operator(*arguments)


def _for_operator(
    place: str,
    dtype: torch.dtype,
    x_size: tuple[int, ...],
    weight_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...] | None,
    dilation: tuple[int, ...],
    groups: int,
    backend: str | None,
    algo: str | None,
    precision: str | None,
) -> Plan:
    g = traced_geometry(x_size, weight_size, stride, padding, dilation, groups)
    chosen, compute = resolve(backend or current_backend(), place, dtype)
    empty = g.n == 0 or g.c_in == 0
    return Plan(g, chosen.using(algo, precision), compute, compute == dtype, empty)


def check_operands(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Refuse tensors that cannot be convolved with each other whatever the other arguments."""
    check_types(input, weight, bias)
    _check_sizes(input, weight, bias)
    check_alike("weight", weight, input)
    if bias is not None:
        check_alike("bias", bias, input)


def check_types(input: object, weight: object, bias: object) -> None:
    """Refuse what is not a tensor."""
    for name, value in (("input", input), ("weight", weight), ("bias", bias)):
        if not isinstance(value, Tensor) and (name != "bias" or value is not None):
            raise DtypeError(f"conv2d: {name} expects a torch.Tensor, got {type(value).__name__}")


def _check_sizes(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if input.dim() not in (3, 4):
        raise ArgumentError(
            "conv2d: input expects 4 dimensions (N, C_in, H, W) or 3 unbatched, "
            f"got shape {tuple(input.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ArgumentError(
            f"conv2d: bias expects shape ({weight.shape[0] if weight.dim() else 0},), "
            f"one number per output channel of weight, got shape {tuple(bias.shape)}"
        )


def check_alike(name: str, value: Tensor, input: Tensor) -> None:
    if value.dtype != input.dtype:
        raise DtypeError(f"conv2d: {name} expects input's dtype {input.dtype}, got {value.dtype}")
    if value.device != input.device:
        raise ArgumentError(
            f"conv2d: {name} expects input's device '{input.device}', got '{value.device}'"
        )


def _devices(*tensors: Tensor | None) -> tuple[torch.device | None, ...]:
    return tuple(None if tensor is None else tensor.device for tensor in tensors)
