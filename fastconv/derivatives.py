"""The derivatives of the four operations, on any backend.

Convolution is linear in x and in w, so its three operations

    forward(x, w) = y        grad_input(dy, w) = dx        grad_weight(dy, x) = dw

are each other's derivatives:

    of forward      to x: grad_input(., w)     to w: grad_weight(., x)
    of grad_input   to dy: forward(., w)       to w: grad_weight(dy, .)
    of grad_weight  to dy: forward(x, .)       to x: grad_input(dy, .)

and in forward mode each is its own: b(p, q), linear in both, has the tangent b(p', q) + b(p, q').
Written down once here, this gives every backend derivatives of any order in both modes.

A call is computed in one of two ways, which these rules do not tell apart.  A `Plan` gives the
tensors to the backend at once.  An `OperatorCall` goes through torch.ops.fastconv (operators.py),
which torch's tracers and transforms see; its parts are asked for below torch's autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.forward_ad import _set_fwd_grad_enabled

from .plans import Plan

Gradients = tuple[Tensor | None, ...]

ops: Any = torch.ops.fastconv
_dispatch_modes = torch._C._len_torch_dispatch_stack
_transforms = torch._C._are_functorch_transforms_active
_is_batched = torch._C._functorch.is_legacy_batchedtensor


def is_watched(*tensors: Tensor) -> bool:
    """Whether anyone but autograd's backward mode follows: a tracer, a transform or a tangent."""
    return (
        torch.compiler.is_compiling()
        or _dispatch_modes() > 0
        or _transforms()
        or forward_ad._current_level >= 0
        or any(map(_is_batched, tensors))  # by torch.autograd.grad(..., is_grads_batched=True)
    )


def apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """`function.apply` inside an operator's kernel, where torch.func's transforms have already been
    taken apart and this level alone is left: `apply` itself would hand the call back to them."""
    with enable_single_level_autograd_function():
        return super(torch.autograd.Function, function).apply(*arguments)  # type: ignore[misc]


@contextmanager
def _below_autograd() -> Iterator[None]:
    """Go on to the next transform, or to the kernels.  A function's forward has both modes of
    differentiation off, which are to be off for its own level alone."""
    with torch.enable_grad(), _set_fwd_grad_enabled(True), torch._C._AutoDispatchBelowAutograd():
        yield


class OperatorCall(NamedTuple):
    """One call of an operator: what Plan offers, for sizes that may be symbols."""

    x_size: Sequence[int]
    weight_size: Sequence[int]
    arguments: tuple[Any, ...]  # stride and all after it

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        with _below_autograd():
            return ops.conv2d.default(x, weight, bias, *self.arguments)

    def grad_input(self, dy: Tensor, weight: Tensor) -> Tensor:
        with _below_autograd():
            return ops.conv2d_grad_input.default(dy, weight, self.x_size, *self.arguments)

    def grad_weight(self, dy: Tensor, x: Tensor) -> Tensor:
        with _below_autograd():
            return ops.conv2d_grad_weight.default(dy, x, self.weight_size, *self.arguments)


Call = Plan | OperatorCall


# The differentiable operations.  A node is made only where a derivative may be wanted: in a
# backward pass with create_graph=True, which leaves gradients enabled.


def forward(x: Tensor, weight: Tensor, call: Call) -> Tensor:
    if isinstance(call, OperatorCall) or is_watched(x, weight):
        return ops.conv2d.default(x, weight, None, *call.arguments)
    if torch.is_grad_enabled():
        return Forward.apply(x, weight, None, call)
    return call.forward(x, weight, None)


def grad_input(dy: Tensor, weight: Tensor, call: Call) -> Tensor:
    if isinstance(call, OperatorCall) or is_watched(dy, weight):
        return ops.conv2d_grad_input.default(dy, weight, call.x_size, *call.arguments)
    if torch.is_grad_enabled():
        return GradInput.apply(dy, weight, call)
    return call.grad_input(dy, weight)


def grad_weight(dy: Tensor, x: Tensor, call: Call) -> Tensor:
    if isinstance(call, OperatorCall) or is_watched(dy, x):
        return ops.conv2d_grad_weight.default(dy, x, call.weight_size, *call.arguments)
    if torch.is_grad_enabled():
        return GradWeight.apply(dy, x, call)
    return call.grad_weight(dy, x)


def grad_bias(dy: Tensor, call: Call) -> Tensor:
    if isinstance(call, OperatorCall) or is_watched(dy):
        return dy.sum((0, 2, 3))
    if torch.is_grad_enabled():
        return GradBias.apply(dy, call)
    return call.grad_bias(dy)


class Forward(torch.autograd.Function):
    """y of x, weight and bias."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, call: Call
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.call = call
        y = call.forward(x, weight, bias)
        if isinstance(call, OperatorCall):
            ctx.save_for_forward(x, weight)
            ctx.shape = y.shape
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Gradients:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        call = ctx.call
        to_x, to_weight, to_bias, _ = ctx.needs_input_grad
        dx = grad_input(dy, weight, call) if to_x else None
        dw = grad_weight(dy, x, call) if to_weight else None
        db = grad_bias(dy, call) if to_bias else None
        return dx, dw, db, None

    @staticmethod
    def jvp(  # type: ignore[override]
        ctx: Any, dx: Tensor | None, dw: Tensor | None, db: Tensor | None, _: None
    ) -> Tensor | None:
        return _tangent(forward, ctx, dx, dw, db)


class GradInput(torch.autograd.Function):
    """dx of dy and weight."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, weight: Tensor, call: Call) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(dy, weight)
        if isinstance(call, OperatorCall):
            ctx.save_for_forward(dy, weight)
        ctx.call = call
        return call.grad_input(dy, weight)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> Gradients:  # type: ignore[override]
        dy, weight = ctx.saved_tensors
        to_dy, to_weight, _ = ctx.needs_input_grad
        ddy = forward(ddx, weight, ctx.call) if to_dy else None
        dw = grad_weight(dy, ddx, ctx.call) if to_weight else None
        return ddy, dw, None

    @staticmethod
    def jvp(ctx: Any, ddy: Tensor | None, dw: Tensor | None, _: None) -> Tensor | None:  # type: ignore[override]
        return _tangent(grad_input, ctx, ddy, dw)


class GradWeight(torch.autograd.Function):
    """dweight of dy and x."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, call: Call) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(dy, x)
        if isinstance(call, OperatorCall):
            ctx.save_for_forward(dy, x)
        ctx.call = call
        return call.grad_weight(dy, x)

    @staticmethod
    def backward(ctx: Any, ddw: Tensor) -> Gradients:  # type: ignore[override]
        dy, x = ctx.saved_tensors
        to_dy, to_x, _ = ctx.needs_input_grad
        ddy = forward(x, ddw, ctx.call) if to_dy else None
        dx = grad_input(dy, ddw, ctx.call) if to_x else None
        return ddy, dx, None

    @staticmethod
    def jvp(ctx: Any, ddy: Tensor | None, dx: Tensor | None, _: None) -> Tensor | None:  # type: ignore[override]
        return _tangent(grad_weight, ctx, ddy, dx)


class GradBias(torch.autograd.Function):
    """Eager alone: the operators leave this sum to torch."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, call: Plan) -> Tensor:  # type: ignore[override]
        ctx.shape = dy.shape
        return call.grad_bias(dy)

    @staticmethod
    def backward(ctx: Any, ddb: Tensor) -> Gradients:  # type: ignore[override]
        return ddb[:, None, None].expand(ctx.shape), None


def _tangent(
    operation: Callable[[Tensor, Tensor, Call], Tensor],
    ctx: Any,
    first: Tensor | None,
    second: Tensor | None,
    bias: Tensor | None = None,
) -> Tensor | None:
    """b(p', q) + b(p, q') + bias' of an operation b and its saved p and q.

    p and q still have their tangents p' and q', which are this level's and done with here.  Other
    levels may want to follow what is done here, for which forward mode is off in a jvp.
    """
    with _set_fwd_grad_enabled(True):
        p, q = (forward_ad.unpack_dual(saved, level=0).primal for saved in ctx.saved_tensors)
        terms = []
        if first is not None:
            terms.append(operation(first, q, ctx.call))
        if second is not None:
            terms.append(operation(p, second, ctx.call))
        if bias is not None:
            terms.append(bias[:, None, None].expand(ctx.shape))
        return sum(terms[1:], terms[0]) if terms else None
