"""How far two tensors are apart, with as few passes over memory as can be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .frozen.stage import Moments
from .memory import Recycler
from .registry import has


def mean_square(a: Tensor, b: Tensor, memory: Recycler | None = None) -> Tensor:
    """mean (a - b)^2, differentiable to a alone: 2 (a - b) / count.

    `memory` is where tensors like a come from, if not from the allocator.
    """
    return _MeanSquare.apply(a.contiguous(), b.contiguous(), memory)  # type: ignore[no-any-return]


def gram_distance(moments: Moments, target: Tensor, scale: float = 1.0) -> Tensor:
    """mean (scale G - A)^2 of the Gram matrix G = S + mu mu^T of moments mu, S and a target A.

    Shapes: mu (1, c), S (1, c, c), A (c, c).  Differentiable to the moments.
    """
    return _GramDistance.apply(*moments, target, scale)  # type: ignore[no-any-return]


def _are_fused(*tensors: Tensor) -> bool:
    """Whether the native operators take them; they need no memory for the difference."""
    plain = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    return plain and has("native")


class _MeanSquare(torch.autograd.Function):
    """Saves a and b where the native operators take them, or else their difference."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, memory: Recycler | None) -> Tensor:  # type: ignore[override]
        ctx.memory = memory
        if a.shape == b.shape and _are_fused(a, b):
            ctx.save_for_backward(a, b)
            mean = a.new_empty(())
            torch.ops.fastconv.mean_square.default(a, b, mean)
            return mean
        difference = torch.sub(a, b, out=_buffer(memory))
        ctx.save_for_backward(difference)
        flat = difference.view(-1)
        return torch.dot(flat, flat) / flat.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        a, *others = ctx.saved_tensors
        buffer = _buffer(ctx.memory)
        if not others:
            return torch.mul(a, grad * (2 / a.numel()), out=buffer), None, None
        to = torch.empty_like(a) if buffer is None else buffer
        torch.ops.fastconv.mean_square_backward.default(a, *others, grad, to)
        return to, None, None


class _GramDistance(torch.autograd.Function):
    """With D = scale G - A, symmetric: d_S = 2 scale D / c^2,  d_mu = 2 d_S mu."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, mean: Tensor, covariance: Tensor, target: Tensor, scale: float
    ) -> Tensor:
        ctx.scale = scale
        if _are_fused(mean, covariance, target):
            known = mean.contiguous(), covariance.contiguous(), target.contiguous()
            ctx.save_for_backward(*known)
            distance = mean.new_empty(())
            torch.ops.fastconv.gram_distance.default(*known, scale, distance)
            return distance
        (mu,) = mean
        difference = torch.addr(covariance[0], mu, mu, beta=scale, alpha=scale).sub_(target)
        ctx.save_for_backward(mean, difference)
        flat = difference.view(-1)
        return torch.dot(flat, flat) / flat.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        mean, *others = ctx.saved_tensors
        if len(others) == 2:
            to_mean, to_s = torch.empty_like(mean), torch.empty_like(others[0])
            backward = torch.ops.fastconv.gram_distance_backward.default
            backward(mean, *others, ctx.scale, grad, to_mean, to_s)
            return to_mean, to_s, None, None
        (difference,) = others
        to_s = difference * (grad * (2 * ctx.scale / difference.numel()))
        return torch.mv(to_s, 2 * mean[0])[None], to_s[None], None, None


def _buffer(memory: Recycler | None) -> Tensor | None:
    return memory.take() if memory else None
