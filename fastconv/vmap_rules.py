"""How vmap calls the operators of operators.py: once, with its dimension folded into another.

The B examples of the vmapped dimension go

    where only x or dy has them         into the batch
    where only the weight has them      into the channels of the result, within each group
    where both have them                into groups: example b is groups b g ... b g + g - 1

and of grad_weight, where the batch is summed over, into the channels of dweight or into groups.
So per-sample gradients, vmap(grad(...)), are one convolution with B times as many groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

ops: Any = torch.ops.fastconv

Result = tuple[Tensor, int | None]
Dims = Sequence[Any]
Sizes = Sequence[int]


def conv2d(
    info: Any, dims: Dims, x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any
) -> Result:
    y, at = _conv2d(
        info.batch_size, dims, x, weight, None if dims[2] is not None else bias, options
    )
    if dims[2] is None or bias is None:
        return y, at
    y = y[None] if at is None else y.movedim(at, 0)
    return y + bias.movedim(dims[2], 0)[:, None, :, None, None], 0


def _conv2d(
    b: int, dims: Dims, x: Tensor, weight: Tensor, bias: Tensor | None, options: Sequence[Any]
) -> Result:
    stride, padding, dilation, groups, *rest = options

    def call(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        return ops.conv2d.default(x, weight, bias, stride, padding, dilation, groups, *rest)

    if dims[0] is dims[1] is None:
        return call(x, weight, bias, groups), None
    if dims[1] is None:
        x = x.movedim(dims[0], 0)
        return call(x.flatten(0, 1), weight, bias, groups).unflatten(0, x.shape[:2]), 0
    w = weight.movedim(dims[1], 0)
    outputs = w.shape[1]
    if dims[0] is None:
        y = call(x, _within_groups(w, groups, 1).flatten(0, 2), None, groups)
        y = _of_groups(y, 1, groups, b)
    else:
        y = call(_as_groups(x, dims[0]), w.flatten(0, 1), None, b * groups)
        y = y.unflatten(1, (b, outputs)).movedim(1, 0)
    return (y if bias is None else y + bias[:, None, None]), 0


def grad_input(
    info: Any, dims: Dims, dy: Tensor, weight: Tensor, size: Sizes, *options: Any
) -> Result:
    stride, padding, dilation, groups, *rest = options
    b, (n, channels, *hw) = info.batch_size, size

    def call(dy: Tensor, weight: Tensor, n: int, channels: int, groups: int) -> Tensor:
        to = (n, channels, *hw)
        arguments = (dy, weight, to, stride, padding, dilation, groups, *rest)
        return ops.conv2d_grad_input.default(*arguments)

    if dims[1] is None:
        dy = dy.movedim(dims[0], 0).flatten(0, 1)
        return call(dy, weight, b * n, channels, groups).unflatten(0, (b, n)), 0
    if dims[0] is None:
        w = weight.movedim(dims[1], 1).flatten(1, 2)
        return _of_groups(call(dy, w, n, b * channels, groups), 1, groups, b), 0
    w = weight.movedim(dims[1], 0).flatten(0, 1)
    dx = call(_as_groups(dy, dims[0]), w, n, b * channels, b * groups)
    return dx.unflatten(1, (b, channels)), 1


def grad_weight(info: Any, dims: Dims, dy: Tensor, x: Tensor, size: Sizes, *options: Any) -> Result:
    stride, padding, dilation, groups, *rest = options
    b, (outputs, channels, *taps) = info.batch_size, size

    def call(dy: Tensor, x: Tensor, outputs: int, channels: int, groups: int) -> Tensor:
        to = (outputs, channels, *taps)
        arguments = (dy, x, to, stride, padding, dilation, groups, *rest)
        return ops.conv2d_grad_weight.default(*arguments)

    if dims[1] is None:
        dy = _within_groups(dy.movedim(dims[0], 0), groups, 2).movedim(2, 0).flatten(1, 3)
        return _of_groups(call(dy, x, b * outputs, channels, groups), 0, groups, b), 0
    if dims[0] is None:
        x = _within_groups(x.movedim(dims[1], 0), groups, 2).movedim(2, 0).flatten(1, 3)
        return call(dy, x, outputs, b * channels, groups).unflatten(1, (b, channels)), 1
    dw = call(_as_groups(dy, dims[0]), _as_groups(x, dims[1]), b * outputs, channels, b * groups)
    return dw.unflatten(0, (b, outputs)), 0


def _as_groups(picture: Tensor, dim: int) -> Tensor:
    """(n, b c, h, w) of a batched (n, c, h, w)."""
    return picture.movedim(dim, 1).flatten(1, 2)


def _within_groups(batched: Tensor, groups: int, axis: int) -> Tensor:
    """(b, ...) as (groups, b, channels of a group, ...), its channels being at `axis`."""
    apart = batched.unflatten(axis, (groups, batched.shape[axis] // groups))
    return apart.movedim(axis, 0)


def _of_groups(tensor: Tensor, axis: int, groups: int, b: int) -> Tensor:
    """The inverse for a result: its channels at `axis` are (groups, b, channels of a group)."""
    channels = tensor.shape[axis] // (groups * b)
    apart = tensor.unflatten(axis, (groups, b, channels)).movedim(axis + 1, 0)
    return apart.flatten(axis + 1, axis + 2)
