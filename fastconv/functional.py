"""conv2d: have the call planned (plans.py), compute it, make it differentiable.

Convolution is linear in x and in w, so its three operations

    forward(x, w) = y        grad_input(dy, w) = dx        grad_weight(dy, x) = dw

are each other's derivatives:

    of forward      to x: grad_input(., w)     to w: grad_weight(., x)
    of grad_input   to dy: forward(., w)       to w: grad_weight(dy, .)
    of grad_weight  to dy: forward(x, .)       to x: grad_input(dy, .)

Written down once here, this gives every backend derivatives of any order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .errors import OutOfMemoryError
from .geometry import IntOrPair
from .plans import Plan, check_types, plan_of

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
    try:
        # is_cpu is told 0.3 us sooner than the device's type
        device_type = "cpu" if input.is_cpu else input.device.type
        if device_type != "meta" and torch.is_autocast_enabled(device_type):
            input, weight, bias = _lowered(input, weight, bias)
        plan = plan_of(input, weight, bias, stride, padding, dilation, groups, backend, algo)
    except AttributeError:  # asking at every call whether they are tensors takes 0.2 us
        check_types(input, weight, bias)
        raise
    if plan.direct and not torch.is_grad_enabled():
        return _forward(input, weight, bias, plan)
    if plan.direct:
        return _convolve(input, weight, bias, plan)
    x = (input if input.dim() == 4 else input.unsqueeze(0)).to(plan.compute)
    wide_bias = None if bias is None else bias.to(plan.compute)
    y = _convolve(x, weight.to(plan.compute), wide_bias, plan).to(input.dtype)
    return y if input.dim() == 4 else y.squeeze(0)


def _lowered(
    input: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inside torch.autocast, convolutions take the lower precision, doubles excepted."""
    lower = torch.get_autocast_dtype(input.device.type)

    def cast(tensor: Tensor) -> Tensor:
        floating = tensor.is_floating_point() and tensor.dtype != torch.float64
        return tensor.to(lower) if floating else tensor

    return cast(input), cast(weight), None if bias is None else cast(bias)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan) -> Tensor:
    if torch.is_grad_enabled() and (
        x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        return _Forward.apply(x, weight, bias, plan)
    return _forward(x, weight, bias, plan)


# The operations without derivatives.  One wrapper for all four would cost tiny calls 0.3 us.


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan) -> Tensor:
    if plan.empty:
        y = x.new_zeros(plan.g.output_shape)
        return y if bias is None else y + bias[:, None, None]
    try:
        return plan.backend.forward(x, weight, bias, plan.g)
    except (MemoryError, RuntimeError) as error:
        _tell_if_memory_ran_out(error, plan)
        raise


def _grad_input(dy: Tensor, weight: Tensor, plan: Plan) -> Tensor:
    if plan.empty:
        return dy.new_zeros(plan.g.input_shape)
    try:
        return plan.backend.grad_input(dy, weight, plan.g)
    except (MemoryError, RuntimeError) as error:
        _tell_if_memory_ran_out(error, plan)
        raise


def _grad_weight(dy: Tensor, x: Tensor, plan: Plan) -> Tensor:
    if plan.empty:
        return dy.new_zeros(plan.g.weight_shape)
    try:
        return plan.backend.grad_weight(dy, x, plan.g)
    except (MemoryError, RuntimeError) as error:
        _tell_if_memory_ran_out(error, plan)
        raise


def _grad_bias(dy: Tensor, plan: Plan) -> Tensor:
    try:
        return plan.backend.grad_bias(dy, plan.g)
    except (MemoryError, RuntimeError) as error:
        _tell_if_memory_ran_out(error, plan)
        raise


def _tell_if_memory_ran_out(error: Exception, plan: Plan) -> None:
    # torch's allocator on the CPU has no exception class of its own.
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "alloc" in str(error):
        raise OutOfMemoryError(f"conv2d: not enough memory for {plan.g}") from error


# The same with derivatives.  A gradient is differentiable only where its own derivative is wanted
# (create_graph=True, which leaves gradients enabled in backward).


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.plan = plan
        return _forward(x, weight, bias, plan)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Gradients:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        plan = ctx.plan
        to_x, to_weight, to_bias, _ = ctx.needs_input_grad
        if torch.is_grad_enabled():
            grad_input, grad_weight = _GradInput.apply, _GradWeight.apply
            grad_bias = _GradBias.apply
        else:
            grad_input, grad_weight, grad_bias = _grad_input, _grad_weight, _grad_bias
        dx = grad_input(dy, weight, plan) if to_x else None
        dw = grad_weight(dy, x, plan) if to_weight else None
        db = grad_bias(dy, plan) if to_bias else None
        return dx, dw, db, None


class _GradInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dy: Tensor, weight: Tensor, plan: Plan) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(dy, weight)
        ctx.plan = plan
        return _grad_input(dy, weight, plan)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> Gradients:  # type: ignore[override]
        dy, weight = ctx.saved_tensors
        to_dy, to_weight, _ = ctx.needs_input_grad
        ddy = _Forward.apply(ddx, weight, None, ctx.plan) if to_dy else None
        dw = _GradWeight.apply(dy, ddx, ctx.plan) if to_weight else None
        return ddy, dw, None


class _GradWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, plan: Plan) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(dy, x)
        ctx.plan = plan
        return _grad_weight(dy, x, plan)

    @staticmethod
    def backward(ctx: Any, ddw: Tensor) -> Gradients:  # type: ignore[override]
        dy, x = ctx.saved_tensors
        to_dy, to_x, _ = ctx.needs_input_grad
        ddy = _Forward.apply(x, ddw, None, ctx.plan) if to_dy else None
        dx = _GradInput.apply(dy, ddw, ctx.plan) if to_x else None
        return ddy, dx, None


class _GradBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dy: Tensor, plan: Plan) -> Tensor:  # type: ignore[override]
        ctx.plan = plan
        return _grad_bias(dy, plan)

    @staticmethod
    def backward(ctx: Any, ddb: Tensor) -> Gradients:  # type: ignore[override]
        return ddb[:, None, None].expand(ctx.plan.g.output_shape), None
