"""conv2d: have the call planned (plans.py) and computed, with derivatives where they are wanted.

A call takes one of two ways.  An eager one gives its tensors to the backend at once, inside an
autograd.Function if a backward pass may follow (derivatives.py).  Where anyone else watches (a
tracer, a transform of torch.func, forward-mode AD, a dispatch mode, a tensor that is none), it is
one operator (operators.py) that says all that those want to know.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function_variadic

from . import operators  # noqa: F401  (registers them)
from .derivatives import Forward
from .geometry import IntOrPair, as_count, as_pair, sides
from .plans import Plan, check_alike, check_types, plan_of
from .registry import chosen_backend, current_backend, place_of

PLAIN = frozenset({Tensor, Parameter})
_dispatch_modes = torch._C._len_torch_dispatch_stack
_transforms = torch._C._are_functorch_transforms_active


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
    compiling = torch.compiler.is_compiling()  # asked first: a compiler must see nothing below
    if not compiling and has_torch_function_variadic(input, weight, bias):
        # Those that are not quite tensors have the say that torch gives them.
        operands, options = (input, weight, bias), (stride, padding, dilation, groups)
        named = {"backend": backend, "algo": algo}
        return handle_torch_function(conv2d, operands, *operands, *options, **named)  # type: ignore[arg-type]
    plan = None
    if not (
        compiling
        or _dispatch_modes()
        or _transforms()
        or forward_ad._current_level >= 0
        or type(input) not in PLAIN
        or type(weight) not in PLAIN
    ):
        try:
            # is_cpu is told 0.3 us sooner than the device's type
            device_type = "cpu" if input.is_cpu else input.device.type
            if device_type != "meta" and torch.is_autocast_enabled(device_type):
                input, weight, bias = _lowered(input, weight, bias)
            plan = plan_of(input, weight, bias, stride, padding, dilation, groups, backend, algo)
        except AttributeError:  # asking at every call whether they are tensors takes 0.2 us
            check_types(input, weight, bias)
            raise
    if plan is None:
        return _by_operator(input, weight, bias, stride, padding, dilation, groups, backend, algo)
    if plan.direct and not torch.is_grad_enabled():
        return plan.forward(input, weight, bias)
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
        return Forward.apply(x, weight, bias, plan)
    return plan.forward(x, weight, bias)


def _by_operator(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: IntOrPair,
    padding: IntOrPair | str,
    dilation: IntOrPair,
    groups: int,
    backend: str | None,
    algo: str | None,
) -> Tensor:
    """The call as one operator, whose kernels check sizes; of torch's backend, as torch's own."""
    check_types(input, weight, bias)
    device_type = input.device.type
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        input, weight, bias = _lowered(input, weight, bias)
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None:
            check_alike(name, tensor, input)
    chosen = chosen_backend(backend or current_backend(), place_of(input), input.dtype).using(algo)
    strides, dilations = as_pair(stride, "stride", 1), as_pair(dilation, "dilation", 1)
    count = as_count(groups)
    if chosen.NAME == "torch":
        return F.conv2d(input, weight, bias, strides, padding, dilations, count)
    options = (strides, sides(padding), dilations, count)
    chosen_by_name = (chosen.NAME, chosen.algo, chosen.precision)
    x = input.unsqueeze(0) if input.dim() == 3 else input
    y = torch.ops.fastconv.conv2d.default(x, weight, bias, *options, *chosen_by_name)
    return y.squeeze(0) if input.dim() == 3 else y
