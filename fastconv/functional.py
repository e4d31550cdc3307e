"""conv2d: check the arguments, choose the backend, make it differentiable.

Convolution is linear in x and in w, so its three operations

    forward(x, w) = y        grad_input(dy, w) = dx        grad_weight(dy, x) = dw

are each other's derivatives:

    of forward      to x: grad_input(., w)     to w: grad_weight(., x)
    of grad_input   to dy: forward(., w)       to w: grad_weight(dy, .)
    of grad_weight  to dy: forward(x, .)       to x: grad_input(dy, .)

Written down once here, this gives every backend derivatives of any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .backends.base import Backend
from .errors import ArgumentError, DtypeError, OutOfMemoryError, UnsupportedError
from .geometry import ConvGeometry, IntOrPair, geometry_of
from .registry import current_backend, place_of, resolve

Gradients = tuple[Tensor | None, ...]


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    backend: str | None = None,
    algo: str | None = None,
) -> Tensor:
    """A drop-in for `torch.nn.functional.conv2d`, on a backend of your choice.

        y[n,o,i,j] = bias[o] + sum_cuv weight[o,c,u,v] x[n, c, i s + u d - p, j s + v d - p]

    Shapes: input (n, c_in, h, w) or (c_in, h, w); weight (c_out, c_in/groups, kh, kw); bias
    (c_out,); result (n, c_out, out_h, out_w), or without n if the input has none.

    `backend` is 'auto', 'native', 'torch', 'numba' or 'naive'; without it `use_backend` and then
    FASTCONV_BACKEND decide.  `algo` is 'auto', 'direct', 'f4' or 'f6' (algorithms.py) and for the
    native backend alone; without it `use_algorithm` and then FASTCONV_ALGO decide.  On CUDA,
    `set_precision` says how exactly that backend multiplies float32 (precision.py).  float16 and
    bfloat16 are computed in float32 and rounded once on backends that have no such kernels.
    """
    _check_tensors(input, weight, bias)
    input, weight, bias = _autocast(input, weight, bias)
    _check_alike("weight", weight, input)
    if bias is not None:
        _check_alike("bias", bias, input)
    x = input if input.dim() == 4 else input.unsqueeze(0)
    g = geometry_of(x.shape, weight.shape, stride, padding, dilation, groups)
    chosen, compute = resolve(backend or current_backend(), place_of(x), x.dtype)
    chosen = _with_algorithm(chosen, algo)
    if compute == x.dtype:
        y = _convolve(x, weight, bias, g, chosen)
    else:
        wide_bias = None if bias is None else bias.to(compute)
        y = _convolve(x.to(compute), weight.to(compute), wide_bias, g, chosen).to(x.dtype)
    return y if input.dim() == 4 else y.squeeze(0)


def _with_algorithm(backend: Backend, algo: str | None) -> Backend:
    """The backend with its algorithm and precision laid down: gradients use what forward used."""
    using = getattr(backend, "using", None)
    if using is not None:
        return using(algo)
    if algo is not None:
        raise UnsupportedError(
            f"conv2d: algo={algo!r} is for the native backend; leave it out, or backend='native'"
        )
    return backend


def _check_tensors(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    _check_type("input", input)
    _check_type("weight", weight)
    if bias is not None:
        _check_type("bias", bias)
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


def _check_type(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise DtypeError(f"conv2d: {name} expects a torch.Tensor, got {type(value).__name__}")


def _check_alike(name: str, value: Tensor, input: Tensor) -> None:
    if value.dtype != input.dtype:
        raise DtypeError(f"conv2d: {name} expects input's dtype {input.dtype}, got {value.dtype}")
    if value.device != input.device:
        raise ArgumentError(
            f"conv2d: {name} expects input's device '{input.device}', got '{value.device}'"
        )


def _autocast(
    input: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inside torch.autocast, convolutions take the lower precision, doubles excepted."""
    device_type = input.device.type
    if device_type == "meta" or not torch.is_autocast_enabled(device_type):
        return input, weight, bias
    lower = torch.get_autocast_dtype(device_type)

    def cast(tensor: Tensor) -> Tensor:
        floating = tensor.is_floating_point() and tensor.dtype != torch.float64
        return tensor.to(lower) if floating else tensor

    return cast(input), cast(weight), None if bias is None else cast(bias)


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, g: ConvGeometry, backend: Backend
) -> Tensor:
    wanted = x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    if torch.is_grad_enabled() and wanted:
        return _Forward.apply(x, weight, bias, g, backend)
    return _forward(x, weight, bias, g, backend)


def _forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, g: ConvGeometry, backend: Backend
) -> Tensor:
    if g.n == 0 or g.c_in == 0:  # nothing to add up: backends need not know of it
        y = x.new_zeros(g.output_shape)
        return y if bias is None else y + bias[:, None, None]
    return _call(backend.forward, x, weight, bias, g)


def _call(operation: Callable[..., Tensor], *arguments: Any) -> Tensor:
    try:
        return operation(*arguments)
    except (MemoryError, RuntimeError) as error:
        # torch's allocator on the CPU has no exception class of its own.
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "alloc" in str(error):
            g = arguments[-1]
            raise OutOfMemoryError(f"conv2d: not enough memory for {g}") from error
        raise


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        g: ConvGeometry,
        backend: Backend,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.g, ctx.backend = g, backend
        return _forward(x, weight, bias, g, backend)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Gradients:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad[:3]
        dx = _GradInput.apply(dy, weight, ctx.g, ctx.backend) if to_x else None
        dw = _GradWeight.apply(dy, x, ctx.g, ctx.backend) if to_weight else None
        db = _GradBias.apply(dy, ctx.g, ctx.backend) if to_bias else None
        return dx, dw, db, None, None


class _GradInput(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, dy: Tensor, weight: Tensor, g: ConvGeometry, backend: Backend
    ) -> Tensor:
        ctx.save_for_backward(dy, weight)
        ctx.g, ctx.backend = g, backend
        if g.n == 0 or g.c_in == 0:
            return dy.new_zeros(g.input_shape)
        return _call(backend.grad_input, dy, weight, g)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> Gradients:  # type: ignore[override]
        dy, weight = ctx.saved_tensors
        to_dy, to_weight = ctx.needs_input_grad[:2]
        ddy = _Forward.apply(ddx, weight, None, ctx.g, ctx.backend) if to_dy else None
        dw = _GradWeight.apply(dy, ddx, ctx.g, ctx.backend) if to_weight else None
        return ddy, dw, None, None


class _GradWeight(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, dy: Tensor, x: Tensor, g: ConvGeometry, backend: Backend
    ) -> Tensor:
        ctx.save_for_backward(dy, x)
        ctx.g, ctx.backend = g, backend
        if g.n == 0 or g.c_in == 0:
            return dy.new_zeros(g.weight_shape)
        return _call(backend.grad_weight, dy, x, g)

    @staticmethod
    def backward(ctx: Any, ddw: Tensor) -> Gradients:  # type: ignore[override]
        dy, x = ctx.saved_tensors
        to_dy, to_x = ctx.needs_input_grad[:2]
        ddy = _Forward.apply(x, ddw, None, ctx.g, ctx.backend) if to_dy else None
        dx = _GradInput.apply(dy, ddw, ctx.g, ctx.backend) if to_x else None
        return ddy, dx, None, None


class _GradBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dy: Tensor, g: ConvGeometry, backend: Backend) -> Tensor:  # type: ignore[override]
        ctx.g = g
        return _call(backend.grad_bias, dy, g)

    @staticmethod
    def backward(ctx: Any, ddb: Tensor) -> Gradients:  # type: ignore[override]
        return ddb[:, None, None].expand(ctx.g.output_shape), None, None
