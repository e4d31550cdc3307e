"""Total variation: how much neighbouring pixels differ."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Neighbours of a pixel: which part of the padded picture is compared with which, and how much.
NEIGHBOURS = (
    ((slice(None), slice(1, None)), (slice(None), slice(None, -1)), 1.0),  # right
    ((slice(1, None), slice(None)), (slice(None, -1), slice(None)), 1.0),  # down
    ((slice(1, None), slice(1, None)), (slice(None, -1), slice(None, -1)), 0.5),  # falling
    ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None)), 0.5),  # rising
)


class _TotalVariation(torch.autograd.Function):
    """Value and gradient together: half of autograd's passes over memory, and no graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        gradient = torch.zeros_like(padded) if ctx.needs_input_grad[0] else None
        total = x.new_zeros(())
        for (y1, x1), (y0, x0), weight in NEIGHBOURS:
            difference = padded[..., y1, x1] - padded[..., y0, x0]
            flat = difference.view(-1)
            total += torch.dot(flat, flat) * (weight / flat.numel())
            if gradient is not None:
                difference *= 2 * weight / flat.numel()
                gradient[..., y1, x1] += difference
                gradient[..., y0, x0] -= difference
        if gradient is not None:
            ctx.save_for_backward(_folded(gradient))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * grad


def _folded(padded: Tensor) -> Tensor:
    """The gradient at the replicated border is added to the pixels that were replicated."""
    padded[..., 1, :] += padded[..., 0, :]
    padded[..., -2, :] += padded[..., -1, :]
    padded[..., 1] += padded[..., 0]
    padded[..., -2] += padded[..., -1]
    return padded[..., 1:-1, 1:-1].contiguous()


def total_variation(x: Tensor) -> Tensor:
    """Mean of squared differences between neighbours, diagonals included at half weight.

    The border is replicated first: otherwise the outermost pixels have fewer neighbours, and
    the frame of the picture is left rough.
    """
    return _TotalVariation.apply(x)  # type: ignore[no-any-return]
