"""The fused runs of a frozen stack on CUDA; frozen.py draws the picture.

Pictures stay channels_last from the stack's input to its end.  A stage's convolution adds the bias
and applies the ReLU before it stores; its pool is a kernel of its own.  On the way back the
convolution to a stage's input also adds the gradient that arrives at a tap there and applies the
mask of the ReLU before it:

    dx[i-1] = (conv^T dx[i] + dtap[i-1])  where  y[i-1] > 0

so that a mask is a look at a picture that is kept anyway, and pools look at their input again.

Memory: one arena for the pictures of a call, kept until its gradient is done, and one for two
gradients on the way back.  Both come from torch's caching allocator, which from the second call on
finds the same blocks again: nothing is allocated on the card, calls on several streams do not meet
in them, and inside the capture of a CUDA graph they belong to the graph.  Nothing waits for the
card.

What is computed in: float32 in the precision that was in force at freeze(), where `bf16` keeps the
pictures in bfloat16 as well; halves as they are; inside torch.autocast its dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .errors import ArgumentError, DtypeError
from .frozen_stage import POOLS, Stage, check_channels
from .geometry import ConvGeometry

ops: Any = torch.ops.fastconv  # csrc/ops_frozen_cuda.cpp
ALIGNED = 128  # numbers: pictures in the arena begin at multiples
DIRECTIONS = ("forward", "grad_input")


def fits(conv: nn.Conv2d) -> bool:
    """Whether the kernels know this convolution: all of them."""
    return True


def dtypes_for(x: Tensor, precision: str) -> tuple[torch.dtype, torch.dtype]:
    """What pictures are kept in, and what the outputs are."""
    if torch.is_autocast_enabled("cuda") and x.dtype != torch.float64:
        lower = torch.get_autocast_dtype("cuda")
        return lower, lower
    if x.dtype == torch.float32 and precision == "bf16":
        return torch.bfloat16, x.dtype
    return x.dtype, x.dtype


@dataclass
class Step:
    """A stage at one size of pictures, on one card."""

    stage: Stage
    g: ConvGeometry
    height: int  # after pooling
    width: int
    like: Tensor  # an empty one, of the pictures' dtype and card
    precision: str

    @cached_property
    def flat(self) -> list[int]:
        return self.g.flat

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return (self.g.n, self.g.c_out, self.height, self.width)

    @property
    def sizes(self) -> list[int]:
        """n, channels, height and width before the pool."""
        return list(self.g.output_shape)

    @property
    def full_numbers(self) -> int:
        return self.g.n * self.g.c_out * self.g.out_h * self.g.out_w

    @property
    def input_numbers(self) -> int:
        return self.g.n * self.g.c_in * self.g.h * self.g.w

    @property
    def is_masked_on_arrival(self) -> bool:
        """Whether the convolution back to this stage's output can apply its ReLU's mask."""
        return self.stage.relu and not self.stage.pool

    @cached_property
    def rows(self) -> tuple[str, str]:
        """The implementations, forward and back."""
        forward, backward = (
            ops.cuda_row(self.like, direction, self.flat, self.precision)
            for direction in DIRECTIONS
        )
        return forward, backward

    @cached_property
    def space(self) -> int:
        """Bytes of scratch for the larger of both directions."""
        return max(
            ops.cuda_space(self.like, row, direction, self.flat, self.precision)
            for row, direction in zip(self.rows, DIRECTIONS, strict=True)
        )

    @cached_property
    def weights(self) -> tuple[Tensor, Tensor]:
        """As the implementations want them, forward and back; made once for all sizes."""
        weight = self.stage.conv.weight.detach()

        def arranged(direction: str, row: str) -> Tensor:
            def make() -> Tensor:
                given = weight.to(self.like.dtype).contiguous()
                return ops.cuda_arrange(given, row, direction, self.flat, self.precision)

            key = (direction, row, self.like.dtype, self.precision, self.like.device)
            return self.stage.once(key, make)

        forward, backward = map(arranged, DIRECTIONS, self.rows)
        return forward, backward

    @cached_property
    def bias(self) -> Tensor | None:
        bias = self.stage.bias
        return None if bias is None else bias.to(self.like.dtype)


def step_of(stage: Stage, like: Tensor, precision: str, n: int, h: int, w: int) -> Step:
    g = stage.geometry(n, h, w)
    return Step(stage, g, *stage.output_size(g), like, precision)


@dataclass(frozen=True)
class Pictures:
    """What a stage writes: `full` by its convolution, `output` by its pool or the same."""

    full: Tensor
    output: Tensor


class Plan:
    """A run at one size of pictures: its steps, and how its arenas are divided."""

    def __init__(
        self, run: Run, like: Tensor, output_dtype: torch.dtype, shape: torch.Size
    ) -> None:
        n, _, h, w = shape
        self.like, self.output_dtype, self.precision = like, output_dtype, run.precision
        self.steps: list[Step] = []
        for stage in run.stages:
            step = step_of(stage, like, run.precision, n, h, w)
            self.steps.append(step)
            h, w = step.height, step.width
        self.taps = [i for i, step in enumerate(self.steps) if step.stage.last in run.taps]

    def is_own(self, index: int) -> bool:
        """Whether the stage's output is a tensor of its own, because the caller receives it."""
        return index in self.taps and self.output_dtype == self.like.dtype

    @cached_property
    def lengths(self) -> list[tuple[int, int]]:
        """Numbers of the arena for each stage's picture before its pool, and after it."""
        found = []
        for i, step in enumerate(self.steps):
            pooled = torch.Size(step.output_shape).numel() if step.stage.pool else 0
            own = self.is_own(i)
            full = 0 if own and not step.stage.pool else step.full_numbers
            found.append((_aligned(full), 0 if own else _aligned(pooled)))
        return found

    def arena_numbers(self, keep: bool) -> int:
        flat = [length for pair in self.lengths for length in pair]
        return sum(flat) if keep else sum(self.places)

    @cached_property
    def places(self) -> tuple[int, int]:
        """The sizes of two places in which pictures take turns where none is kept."""
        written = [length for pair in self.lengths for length in pair if length]
        return max(written[::2], default=0), max(written[1::2], default=0)

    def channels_last(self, shape: torch.Size | tuple[int, ...]) -> Tensor:
        like, layout = self.like, torch.channels_last
        return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)

    def own_outputs(self) -> dict[int, Tensor]:
        taps = filter(self.is_own, self.taps)
        return {i: self.channels_last(self.steps[i].output_shape) for i in taps}

    def pictures(self, arena: Tensor, own: dict[int, Tensor], keep: bool) -> Iterator[Pictures]:
        """Each stage's.  Where nothing is kept for a gradient, two places take turns."""
        start, turn = 0, 0
        for i, (step, lengths) in enumerate(zip(self.steps, self.lengths, strict=True)):
            parts = []
            for length in lengths:
                at = start if keep else turn * self.places[0]
                parts.append(arena[at : at + length])
                start += length
                turn ^= length > 0
            full = parts[0][: step.full_numbers]
            pooled = parts[1][: torch.Size(step.output_shape).numel()]
            if not step.stage.pool:
                full = own.get(i, full)
                yield Pictures(full, full)
            else:
                yield Pictures(full, own.get(i, pooled))

    @cached_property
    def space(self) -> int:
        return max(step.space for step in self.steps)

    @cached_property
    def gradient_numbers(self) -> int:
        """Of the largest gradient on the way back."""
        return _aligned(max(max(step.full_numbers, step.input_numbers) for step in self.steps))

    def scratch(self) -> Tensor | None:
        return self.like.new_empty(self.space, dtype=torch.uint8) if self.space else None

    def memory(self) -> int:
        outputs = sum(torch.Size(self.steps[i].output_shape).numel() for i in self.taps)
        numbers = self.arena_numbers(keep=True) + 2 * self.gradient_numbers
        weights = sum(part.nbytes for step in self.steps for part in step.weights)
        kept = numbers * self.like.element_size() + outputs * self.output_dtype.itemsize
        return kept + weights + self.space


def _aligned(numbers: int) -> int:
    return (numbers + ALIGNED - 1) // ALIGNED * ALIGNED


class Run:
    """Consecutive stages.  Calling it gives {layer index: output} for its taps and its end."""

    def __init__(self, stages: list[Stage], taps: set[int], precision: str) -> None:
        self.stages, self.taps, self.precision = stages, taps, precision
        self._plan: tuple[object, Plan] | None = None

    def plan(self, x: Tensor) -> Plan:
        """That of the last size is kept."""
        dtype, output_dtype = dtypes_for(x, self.precision)
        key = (x.shape, dtype, output_dtype, x.device)
        kept = self._plan
        if kept is None or kept[0] != key:
            kept = (key, Plan(self, x.new_empty(0, dtype=dtype), output_dtype, x.shape))
            self._plan = kept
        return kept[1]

    def __call__(self, x: Tensor) -> dict[int, Tensor]:
        check_channels(self.stages[0], x)
        self._check_weights(x)
        plan = self.plan(x)
        outputs = _Run.apply(x, plan, torch.is_grad_enabled() and x.requires_grad)
        return {plan.steps[i].stage.last: y for i, y in zip(plan.taps, outputs, strict=True)}

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

    def _plan_for(self, n: int, h: int, w: int) -> Plan:
        conv = self.stages[0].conv
        x = conv.weight.new_empty(0)
        dtype, output_dtype = dtypes_for(x, self.precision)
        shape = torch.Size((n, conv.in_channels, h, w))
        return Plan(self, x.to(dtype), output_dtype, shape)

    def memory(self, n: int, h: int, w: int) -> int:
        return self._plan_for(n, h, w).memory()

    def output_shape(self, shape: torch.Size) -> torch.Size:
        n, _, h, w = shape
        return torch.Size(self._plan_for(n, h, w).steps[-1].output_shape)

    def describe(self, h: int, w: int, taps: set[int]) -> list[str]:
        return [
            step.stage.describe(step.g, step.rows, step.stage.last in taps)
            for step in self._plan_for(1, h, w).steps
        ]


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Plan, keep: bool) -> tuple[Tensor, ...]:  # type: ignore[override]
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
                ops.cuda_pool(made.full, made.output, _is_average(step), step.sizes)
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
        plan: Plan = ctx.plan
        arena, *own = ctx.saved_tensors
        pictures = list(plan.pictures(arena, dict(zip(ctx.own, own, strict=True)), keep=True))
        arriving = {
            i: _dense(dy, plan)
            for i, dy in zip(plan.taps, gradients, strict=True)
            if dy is not None
        }
        if not arriving or not ctx.needs_input_grad[0]:
            return None, None, None
        dx = plan.channels_last(ctx.shape)
        _way_back(plan, pictures, arriving, dx)
        return dx.to(ctx.dtype), None, None


def _dense(picture: Tensor, plan: Plan) -> Tensor:
    """The picture as kernels read it: in their dtype and layout, beginning at 16 bytes."""
    dense = picture.to(plan.like.dtype).contiguous(memory_format=torch.channels_last)
    return dense.clone() if dense.data_ptr() % 16 else dense


def _is_average(step: Step) -> bool:
    return POOLS[step.stage.pool] == "average"


def _as_output(plan: Plan, step: Step, picture: Tensor) -> Tensor:
    """The same numbers as a tensor in the outputs' dtype."""
    n, c, h, w = step.output_shape
    return picture.view(n, h, w, c).permute(0, 3, 1, 2).to(plan.output_dtype)


def _convolve(
    plan: Plan,
    step: Step,
    direction: int,
    source: Tensor,
    to: Tensor,
    scratch: Tensor | None,
    added: Tensor | None = None,
    mask: Tensor | None = None,
) -> None:
    forward = direction == 0
    ops.cuda_conv(
        source,
        step.weights[direction],
        step.bias if forward else None,
        added,
        mask,
        to,
        scratch,
        step.rows[direction],
        DIRECTIONS[direction],
        forward and step.stage.relu,
        step.flat,
        plan.precision,
    )


def _way_back(
    plan: Plan, pictures: list[Pictures], arriving: dict[int, Tensor], dx: Tensor
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
                ops.cuda_unpool(gradient, made.full, target, average, relu, step.sizes)
            else:
                ops.cuda_mask(gradient, made.full, target)
            gradient, turn = target, turn ^ 1
        masked = i > 0 and plan.steps[i - 1].is_masked_on_arrival
        mask = pictures[i - 1].full if masked else None
        target = buffers[turn][: step.input_numbers] if i else dx
        _convolve(plan, step, 1, gradient, target, scratch, arriving.get(i - 1), mask)
        gradient, turn = target, turn ^ 1
