"""The fused runs of a frozen stack on CUDA; stack.py draws the picture.

Pictures stay channels_last from the stack's input to its end.  A stage's convolution adds the bias
and applies the ReLU before it stores; its pool is a kernel of its own.  In the backward
pass the convolution to a stage's input also adds the gradient that arrives at a tap there and
applies the mask of the ReLU before it:

    dx[i-1] = (conv^T dx[i] + dtap[i-1])  where  y[i-1] > 0

so that a mask is read from a picture that is kept anyway, and pools read their input again.

Memory: one arena for the pictures of a call, kept until its gradient is done, and one for two
gradients in the backward pass.  Both come from torch's caching allocator, which from the second
call on finds the same blocks again: nothing is allocated on the GPU, calls on several streams do
not share them, and inside the capture of a CUDA graph they belong to the graph.  Nothing
synchronises with the GPU.

What is computed in: float32 in the precision that was in force at freeze(), where `bf16` keeps the
pictures in bfloat16 as well; halves as they are; inside torch.autocast its dtype.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, DtypeError
from . import cuda_plan as planning
from .clock import Clock
from .cuda_plan import CudaPlan, CudaStep, Pictures
from .stage import (
    POOLS,
    Outputs,
    Readings,
    Stage,
    check_channels,
    memory_reported,
    moments_of,
    once_differentiable,
)

ON_CARD = " on the card"


def fits(conv: nn.Conv2d) -> bool:
    """Whether the kernels know this convolution: all that are padded with zeros."""
    return conv.padding_mode == "zeros"


def dtypes_for(x: Tensor, precision: str) -> tuple[torch.dtype, torch.dtype]:
    """What pictures are kept in, and what the outputs are."""
    if torch.is_autocast_enabled("cuda") and x.dtype != torch.float64:
        lower = torch.get_autocast_dtype("cuda")
        return lower, lower
    if x.dtype == torch.float32 and precision == "bf16":
        return torch.bfloat16, x.dtype
    return x.dtype, x.dtype


class CudaRun:
    """Consecutive stages.  Moments are taken by torch from outputs that nobody else sees."""

    def __init__(self, stages: list[Stage], read: Readings, precision: str) -> None:
        self.stages, self.read, self.precision = stages, read, precision
        self._plan: tuple[object, CudaPlan] | None = None

    def plan(self, x: Tensor) -> CudaPlan:
        """That of the last size is kept."""
        dtype, output_dtype = dtypes_for(x, self.precision)
        key = (x.shape, dtype, output_dtype, x.device)
        kept = self._plan
        if kept is None or kept[0] != key:
            kept = (key, self._planned(x.new_empty(0, dtype=dtype), output_dtype, x.shape))
            self._plan = kept
        return kept[1]

    def __call__(self, x: Tensor, clock: Clock | None = None) -> Outputs:
        """The card works on its own time: `clock` learns nothing of single layers."""
        check_channels(self.stages[0], x)
        self._check_weights(x)
        plan = self.plan(x)
        with memory_reported(x.shape, ON_CARD):
            outputs = _CudaFunction.apply(x, plan, torch.is_grad_enabled() and x.requires_grad)
        found = {plan.steps[i].stage.last: y for i, y in zip(plan.taps, outputs, strict=True)}
        moments = {layer: moments_of(y) for layer, y in found.items() if layer in self.read.moments}
        return Outputs(found, moments)

    def _check_weights(self, x: Tensor) -> None:
        stage = self.stages[0]
        weight = stage.conv.weight
        if weight.device != x.device:
            raise ArgumentError(
                f"frozen stack: input expects the device of layer {stage.first}'s weight, "
                f"'{weight.device}', got '{x.device}'"
            )
        if weight.dtype != x.dtype and not torch.is_autocast_enabled("cuda"):
            raise DtypeError(
                f"frozen stack: input expects the dtype of layer {stage.first}'s weight, "
                f"{weight.dtype}, got {x.dtype}"
            )

    def _plan_for(self, n: int, h: int, w: int) -> CudaPlan:
        conv = self.stages[0].conv
        x = conv.weight.new_empty(0)
        dtype, output_dtype = dtypes_for(x, self.precision)
        shape = torch.Size((n, conv.in_channels, h, w))
        return self._planned(x.to(dtype), output_dtype, shape)

    def _planned(self, like: Tensor, output_dtype: torch.dtype, shape: torch.Size) -> CudaPlan:
        taps = {*self.read.taps, *self.read.moments}
        return CudaPlan(self.stages, taps, self.precision, like, output_dtype, shape)

    def memory(self, n: int, h: int, w: int) -> int:
        return self._plan_for(n, h, w).memory()

    def output_shape(self, shape: torch.Size) -> torch.Size:
        n, _, h, w = shape
        return torch.Size(self._plan_for(n, h, w).steps[-1].output_shape)

    def describe(self, h: int, w: int) -> list[str]:
        return [
            step.stage.describe(step.g, step.rows, self.read)
            for step in self._plan_for(1, h, w).steps
        ]


class _CudaFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: CudaPlan, keep: bool) -> tuple[Tensor, ...]:  # type: ignore[override]
        ctx.set_materialize_grads(False)
        arena = plan.like.new_empty(plan.arena_numbers(keep))
        own, scratch = plan.own_outputs(), plan.scratch()
        outputs: dict[int, Tensor] = {}
        source = _dense(x, plan)
        for i, (step, made) in enumerate(
            zip(plan.steps, plan.pictures(arena, own, keep), strict=True)
        ):
            _convolve(plan, step, 0, source, made.full, scratch)
            if step.stage.pool:
                planning.ops.cuda_pool(made.full, made.output, _is_average(step), step.sizes)
            if i in plan.taps:
                outputs[i] = own[i] if i in own else _as_output(plan, step, made.output)
            source = made.output
        if keep:
            ctx.plan, ctx.shape, ctx.dtype, ctx.own = plan, x.shape, x.dtype, list(own)
            ctx.save_for_backward(arena, *own.values())
        return tuple(outputs.values())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None]:  # type: ignore[override]
        plan: CudaPlan = ctx.plan
        arena, *own = ctx.saved_tensors
        pictures = list(plan.pictures(arena, dict(zip(ctx.own, own, strict=True)), keep=True))
        arriving = {
            i: _dense(dy, plan)
            for i, dy in zip(plan.taps, gradients, strict=True)
            if dy is not None
        }
        if not arriving or not ctx.needs_input_grad[0]:
            return None, None, None
        with memory_reported(ctx.shape, ON_CARD):
            dx = plan.channels_last(ctx.shape)
            _way_back(plan, pictures, arriving, dx)
            return dx.to(ctx.dtype), None, None


def _dense(picture: Tensor, plan: CudaPlan) -> Tensor:
    """The picture as kernels read it: in their dtype and layout, beginning at 16 bytes."""
    dense = picture.to(plan.like.dtype).contiguous(memory_format=torch.channels_last)
    return dense.clone() if dense.data_ptr() % 16 else dense


def _is_average(step: CudaStep) -> bool:
    return POOLS[step.stage.pool] == "average"


def _as_output(plan: CudaPlan, step: CudaStep, picture: Tensor) -> Tensor:
    """The same numbers as a tensor in the outputs' dtype."""
    n, c, h, w = step.output_shape
    return picture.view(n, h, w, c).permute(0, 3, 1, 2).to(plan.output_dtype)


def _convolve(
    plan: CudaPlan,
    step: CudaStep,
    direction: int,
    source: Tensor,
    to: Tensor,
    scratch: Tensor | None,
    added: Tensor | None = None,
    mask: Tensor | None = None,
) -> None:
    forward = direction == 0
    planning.ops.cuda_conv(
        source,
        step.weights[direction],
        step.bias if forward else None,
        added,
        mask,
        to,
        scratch,
        step.rows[direction],
        planning.DIRECTIONS[direction],
        forward and step.stage.relu,
        step.flat,
        step.precision,
    )


def _way_back(
    plan: CudaPlan, pictures: list[Pictures], arriving: dict[int, Tensor], dx: Tensor
) -> None:
    """From the last tap that a gradient arrives at to dx; two buffers take turns."""
    end = max(arriving)
    buffers = plan.like.new_empty(2, plan.gradient_numbers)
    scratch = plan.scratch()
    gradient, masked, turn = arriving[end], False, 0
    for i in range(end, -1, -1):
        step, made = plan.steps[i], pictures[i]
        if step.stage.pool or (step.stage.relu and not masked):
            target = buffers[turn][: step.full_numbers]
            if step.stage.pool:
                relu, average = step.stage.relu, _is_average(step)
                planning.ops.cuda_unpool(gradient, made.full, target, average, relu, step.sizes)
            else:
                planning.ops.cuda_mask(gradient, made.full, target)
            gradient, turn = target, turn ^ 1
        masked = i > 0 and plan.steps[i - 1].is_masked_on_arrival
        mask = pictures[i - 1].full if masked else None
        target = buffers[turn][: step.input_numbers] if i else dx
        _convolve(plan, step, 1, gradient, target, scratch, arriving.get(i - 1), mask)
        gradient, turn = target, turn ^ 1
