"""torch.ops.fastconv.conv2d and its two gradients: what torch's tracers and transforms see.

    conv2d(x, weight, bias, <options>) -> y
    conv2d_grad_input(dy, weight, input_size, <options>) -> dx
    conv2d_grad_weight(dy, x, weight_size, <options>) -> dweight

with <options> = stride, padding, dilation, groups, backend, algo, precision; padding is top,
bottom, left, right, or None for 'same'.  One such operator stands for every backend, which is named
by an argument, as its algorithm and precision are.  Shapes are as in base.py; sizes may be symbols.

An eager call goes past them: a kernel in Python would cost it as much again.  They are for
torch.compile, export, make_fx, torch.jit, FakeTensorMode, FlopCounterMode, torch.func's transforms
and forward-mode AD, and have what those ask for: a fake kernel, derivatives, rules for vmap, a
count of operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import vmap_rules
from .derivatives import Forward, GradInput, GradWeight, OperatorCall, apply
from .errors import ArgumentError
from .plans import Plan, check_alike, check_operands, operator_plan

Sizes = Sequence[int]

OPTIONS = (
    "SymInt[] stride, SymInt[]? padding, SymInt[] dilation, SymInt groups, "
    "str? backend, str? algo, str? precision"
)
SCHEMAS = {
    "conv2d": f"(Tensor x, Tensor weight, Tensor? bias, {OPTIONS}) -> Tensor",
    "conv2d_grad_input": f"(Tensor dy, Tensor weight, SymInt[] input_size, {OPTIONS}) -> Tensor",
    "conv2d_grad_weight": f"(Tensor dy, Tensor x, SymInt[] weight_size, {OPTIONS}) -> Tensor",
}


# --- plans, with all that a backend relies on checked: anyone may call torch.ops


def _conv2d_plan(x: Tensor, weight: Tensor, bias: Tensor | None, options: Any) -> Plan:
    check_operands(x, weight, bias)
    return operator_plan(x, x.shape, weight.shape, *options)


def _grad_input_plan(dy: Tensor, weight: Tensor, input_size: Sizes, options: Any) -> Plan:
    check_alike("weight", weight, dy)
    plan = operator_plan(dy, input_size, weight.shape, *options)
    _check_shape("dy", dy, plan.g.output_shape)
    return plan


def _grad_weight_plan(dy: Tensor, x: Tensor, weight_size: Sizes, options: Any) -> Plan:
    check_alike("x", x, dy)
    plan = operator_plan(dy, x.shape, weight_size, *options)
    _check_shape("dy", dy, plan.g.output_shape)
    return plan


def _check_shape(name: str, tensor: Tensor, shape: Sizes) -> None:
    if tuple(tensor.shape) != tuple(shape):
        raise ArgumentError(
            f"conv2d: {name} expects shape {tuple(shape)}, got {tuple(tensor.shape)}"
        )


def _layout(like: Tensor, plan: Plan) -> torch.memory_format:
    """That of the result: channels_last where the backend keeps it, else contiguous."""
    last = (
        plan.backend.KEEPS_CHANNELS_LAST
        and not like.is_contiguous()
        and like.is_contiguous(memory_format=torch.channels_last)
    )
    return torch.channels_last if last else torch.contiguous_format


# --- kernels, on every device


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    plan = _conv2d_plan(x, weight, bias, options)
    wide_bias = None if bias is None else bias.to(plan.compute)
    y = plan.forward(x.to(plan.compute), weight.to(plan.compute), wide_bias)
    return y.to(x.dtype).contiguous(memory_format=_layout(x, plan))


def conv2d_grad_input(dy: Tensor, weight: Tensor, input_size: Sizes, *options: Any) -> Tensor:
    plan = _grad_input_plan(dy, weight, input_size, options)
    dx = plan.grad_input(dy.to(plan.compute), weight.to(plan.compute))
    return dx.to(dy.dtype).contiguous(memory_format=_layout(dy, plan))


def conv2d_grad_weight(dy: Tensor, x: Tensor, weight_size: Sizes, *options: Any) -> Tensor:
    plan = _grad_weight_plan(dy, x, weight_size, options)
    dw = plan.grad_weight(dy.to(plan.compute), x.to(plan.compute))
    return dw.to(dy.dtype).contiguous()


# --- fake kernels: the same checks, shapes and layouts, without numbers


def fake_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    plan = _conv2d_plan(x, weight, bias, options)
    return _empty(x, plan.g.output_shape, _layout(x, plan))


def fake_grad_input(dy: Tensor, weight: Tensor, input_size: Sizes, *options: Any) -> Tensor:
    plan = _grad_input_plan(dy, weight, input_size, options)
    return _empty(dy, plan.g.input_shape, _layout(dy, plan))


def fake_grad_weight(dy: Tensor, x: Tensor, weight_size: Sizes, *options: Any) -> Tensor:
    plan = _grad_weight_plan(dy, x, weight_size, options)
    return _empty(dy, plan.g.weight_shape, torch.contiguous_format)


def _empty(like: Tensor, shape: Sizes, layout: torch.memory_format) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


# --- derivatives


def differentiable_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    call = OperatorCall(x.shape, weight.shape, options)
    return apply(Forward, x, weight, bias, call)


def differentiable_grad_input(
    dy: Tensor, weight: Tensor, input_size: Sizes, *options: Any
) -> Tensor:
    call = OperatorCall(input_size, weight.shape, options)
    return apply(GradInput, dy, weight, call)


def differentiable_grad_weight(dy: Tensor, x: Tensor, weight_size: Sizes, *options: Any) -> Tensor:
    call = OperatorCall(x.shape, weight_size, options)
    return apply(GradWeight, dy, x, call)


# --- the table


def _flops(x: Sizes, weight: Sizes, *_: Any, out_shape: Sizes, **__: Any) -> int:
    n, _channels, out_h, out_w = out_shape
    return 2 * n * out_h * out_w * math.prod(weight)


def _grad_input_flops(dy: Sizes, weight: Sizes, *_: Any, **__: Any) -> int:
    return 2 * dy[0] * dy[2] * dy[3] * math.prod(weight)


def _grad_weight_flops(dy: Sizes, x: Sizes, weight: Sizes, *_: Any, **__: Any) -> int:
    return 2 * dy[0] * dy[2] * dy[3] * math.prod(weight)


_RULES: dict[str, tuple[Callable[..., Any], ...]] = {
    "conv2d": (conv2d, fake_conv2d, differentiable_conv2d, vmap_rules.conv2d, _flops),
    "conv2d_grad_input": (
        conv2d_grad_input,
        fake_grad_input,
        differentiable_grad_input,
        vmap_rules.grad_input,
        _grad_input_flops,
    ),
    "conv2d_grad_weight": (
        conv2d_grad_weight,
        fake_grad_weight,
        differentiable_grad_weight,
        vmap_rules.grad_weight,
        _grad_weight_flops,
    ),
}
# Operators live as long as this object does.
_library = torch.library.Library("fastconv", "FRAGMENT")
for _name, (_kernel, _fake, _differentiable, _vmap, _count) in _RULES.items():
    _library.define(_name + SCHEMAS[_name], tags=torch.Tag.pt2_compliant_tag)
    _library.impl(_name, _kernel, "CompositeExplicitAutograd")
    _library.impl(_name, _differentiable, "Autograd")
    torch.library.register_fake(f"fastconv::{_name}", _fake, lib=_library)
    torch.library.register_vmap(f"fastconv::{_name}", _vmap, lib=_library)
    register_flop_formula(getattr(torch.ops.fastconv, _name))(_count)
