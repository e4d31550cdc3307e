"""The fused runs of a frozen stack on the CPU; stack.py draws the picture."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..geometry import ConvGeometry
from ..memory import Recycler, empty
from ..registry import load
from .clock import Clock
from .stage import (
    Moments,
    Outputs,
    Readings,
    Stage,
    check_channels,
    memory_reported,
    once_differentiable,
)

BLOCK = 16  # channels side by side
PLANAR, LAST, BLOCKED = 0, 1, 2  # layouts, as csrc/ops_frozen.cpp counts them
SHARED_FROM = 4 << 20  # numbers; smaller sets of weights are kept for each direction
KERNELS = {1: "few_channels", 4: "winograd_f4", 6: "winograd_f6"}


def fits(conv: nn.Conv2d) -> bool:
    """Whether the kernels know this convolution."""
    sizes = (conv.kernel_size, conv.stride, conv.dilation, conv.groups)
    weight = conv.weight
    standard = sizes == ((3, 3), (1, 1), (1, 1), 1)
    return standard and weight.dtype == torch.float32 and weight.device.type == "cpu"


def folds(conv: nn.Conv2d) -> bool:
    """Whether a normalisation goes into its weights: the kernel for few channels pads with any
    number, as what is 0 after it is not before it."""
    return conv.in_channels <= 3 < conv.out_channels


def weights(stage: Stage, tile: int, rotated: bool) -> Tensor:
    """Winograd's U."""
    prepare = torch.ops.fastconv.prepare
    return stage.once((tile, rotated), lambda: prepare(stage.weight, tile, rotated))


Call = tuple[Tensor, list[int]]  # what an operator takes that is the same at every call: U, numbers


@dataclass
class CpuStep:
    """A stage at one size of pictures."""

    stage: Stage
    g: ConvGeometry
    tiles: tuple[int, int]  # of F(tile x tile, 3x3): forward, backward
    height: int  # after pooling
    width: int
    one_set: bool = False  # of weights: the forward ones serve the backward pass too

    def numbers(self, backward: bool, layout: int) -> list[int]:
        """The operators' arguments, as csrc/ops_frozen.cpp names them."""
        g, stage = self.g, self.stage
        sizes = [g.n, g.c_in, g.h, g.w, g.c_out, g.out_h, g.out_w, g.padding[0], g.padding[2]]
        fused = [int(stage.relu), stage.pool, layout, int(self.one_set)]
        return [*sizes, self.tiles[backward], *fused]

    @property
    def weights(self) -> list[tuple[int, bool]]:
        """The sets it needs: tile, rotated."""
        forward, back = self.tiles
        return [(forward, False)] if self.one_set else [(forward, False), (back, True)]

    def call(self, backward: bool) -> Call:
        return weights(self.stage, *self.weights[-backward]), self.numbers(backward, BLOCKED)

    @property
    def tile_products(self) -> int:
        """Multiplications of one tile, forward."""
        return self.g.c_in * self.g.c_out * (self.tiles[0] + 2) ** 2

    @property
    def tile_count(self) -> int:
        tile = self.tiles[0]
        return self.g.n * -(-self.g.out_h // tile) * -(-self.g.out_w // tile)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return (self.g.n, self.g.c_out, self.height, self.width)

    @property
    def output_floats(self) -> int:
        return self.g.n * _padded(self.g.c_out) * self.height * self.width

    @property
    def decision_words(self) -> int:
        """16 decisions each."""
        if not self.stage.relu and not self.stage.pool:
            return 0
        each = 4 if self.stage.pool else 1
        return self.output_floats // BLOCK * each


def _padded(channels: int) -> int:
    return (channels + BLOCK - 1) // BLOCK * BLOCK


class CpuPlan:
    """A run at one size of pictures: its steps and its memory."""

    def __init__(
        self, stages: Iterable[Stage], read: Readings, algo: str, n: int, h: int, w: int
    ) -> None:
        self.steps = []
        for stage in stages:
            step = _step(stage, algo, n, h, w)
            self.steps.append(step)
            h, w = step.height, step.width
        _share_weights(self.steps)
        # the output of stage i, and the gradient to it, is in buffer i % 2
        floats = [s.output_floats for s in self.steps]
        self.buffer_floats = [max(floats[0::2]), max(floats[1::2], default=1)]
        self.taps = [i for i, step in enumerate(self.steps) if step.stage.last in read.taps]
        self.moments = [i for i, step in enumerate(self.steps) if step.stage.last in read.moments]
        self.outputs = {i: Recycler(torch.float32, self.steps[i].output_shape) for i in self.taps}
        # features whose moments are read are kept, blocked, for the backward pass
        self.features = {
            i: Recycler(torch.float32, (self.steps[i].output_floats,)) for i in self.moments
        }
        self.words = [step.decision_words for step in self.steps]
        self.decisions = Recycler(torch.int16, (max(sum(self.words), 1),))
        self._space: Tensor | None = None
        self._threads = 0

    @property
    def space_floats(self) -> int:
        ask = torch.ops.fastconv.frozen_space
        both = (False, True)
        space = max(ask(back, s.numbers(back, BLOCKED)) for s in self.steps for back in both)
        ask = torch.ops.fastconv.frozen_moments_space
        return max(
            [space, *(ask(back, self.steps[i].g.c_out) for i in self.moments for back in both)]
        )

    @cached_property
    def arena(self) -> tuple[Tensor, Tensor]:
        """Two pictures, from one of which each stage goes to the other."""
        first, second = (empty(torch.float32, size) for size in self.buffer_floats)
        return first, second

    def space(self) -> Tensor:
        """The workspace, of which each of torch's threads has a part."""
        threads = torch.get_num_threads()
        if self._space is None or threads > self._threads:
            self._space, self._threads = empty(torch.float32, self.space_floats), threads
        return self._space

    # Cached, as Python's own data is not in the caches after a kernel: computing this at every step
    # took 1.3 ms of VGG19's 390 at 512 px (3fad366, 2026-11).

    @cached_property
    def forward_calls(self) -> list[Call]:
        return [step.call(backward=False) for step in self.steps]

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the stages' outputs."""
        return [step.output_shape for step in self.steps]

    @cached_property
    def backward_calls(self) -> list[Call]:
        return [step.call(backward=True) for step in self.steps]

    def bits(self, decisions: Tensor) -> list[Tensor | None]:
        return (
            [part if part.numel() else None for part in decisions.split(self.words)]
            if sum(self.words)
            else [None] * len(self.words)
        )

    def memory(self) -> int:
        outputs = sum(math.prod(self.steps[i].output_shape) for i in self.taps)
        features = sum(self.steps[i].output_floats for i in self.moments)
        floats = sum(self.buffer_floats) + self.space_floats + outputs + features
        weights = 0
        for step in self.steps:
            for tile, rotated in step.weights:
                weights += _weight_floats(step.g, tile, rotated)
        return 4 * (floats + weights) + 2 * sum(self.words)


def _share_weights(steps: list[CpuStep]) -> None:
    """Decide where one set of weights serves both directions (csrc/cpu/winograd_turn.h).

    Rotating them for the backward pass costs as much as 8 tiles' multiplications, once for some 112
    tiles, or a few times in all: much for a small picture with many channels, which has few tiles
    (512 -> 512 with 64 tiles 16 %, with 16 tiles 60 %), little for a large one (with 256 tiles
    nothing).  A layer may cost the run half a percent.  VGG19's run to conv5_1 has its
    512 x 512 x 36 weights, 38 MB a layer, once from 512 px on, and twice at 256 px.  Smaller
    weights are not worth it: those of 256 -> 256, 19 MB less in all, cost 1.5 of 250 ms
    (7517156, 2026-11).
    """
    whole = 2 * sum(step.tile_products * step.tile_count for step in steps)
    for step in steps:
        large = step.tile_products >= SHARED_FROM
        turns = min(max((step.tile_count + 56) // 112, 1), 4)
        cheap = 200 * 8 * turns * step.tile_products <= whole
        step.one_set = step.tiles[0] == step.tiles[1] != 1 and large and cheap


def _weight_floats(g: ConvGeometry, tile: int, rotated: bool) -> int:
    return torch.ops.fastconv.prepared_floats(g.c_out, g.c_in, tile, rotated)


def _step(stage: Stage, algo: str, n: int, h: int, w: int) -> CpuStep:
    native = load("native")
    g = stage.geometry(n, h, w)
    names = [
        native.explain(operation, g, torch.float32, False, algo)
        for operation in ("forward", "grad_input")
    ]
    # Where `auto` prefers the definition, the stack has a direct kernel for a picture's channels
    # (it takes single rows, which cannot be pooled, and its backward pass adds no tap's gradient),
    # and uses F(4x4) for anything else.
    few = stage.begins and g.c_in <= 3 < g.c_out
    forward = native.TILES.get(names[0], 1 if few and not stage.pool else 4)
    backward = native.TILES.get(names[1], 1 if few else 4)
    return CpuStep(stage, g, (forward, backward), *stage.output_size(g))


class CpuRun:
    """Consecutive stages.  Calling it gives {layer index: output} for its taps and its end."""

    def __init__(self, stages: list[Stage], read: Readings, algo: str) -> None:
        self.stages, self.read, self.algo = stages, read, algo
        self.lock = threading.Lock()  # the arena serves one call at a time
        self._plan: tuple[tuple[int, ...], CpuPlan] | None = None

    def plan(self, n: int, h: int, w: int) -> CpuPlan:
        """That of the last size is kept, with its arena."""
        size = (n, h, w)
        if self._plan is None or self._plan[0] != size:
            plan = CpuPlan(self.stages, self.read, self.algo, n, h, w)
            for step in plan.steps:  # a size before this one may have needed more
                step.stage.keep_only(step.weights)
            self._plan = (size, plan)
        return self._plan[1]

    def __call__(self, x: Tensor, clock: Clock | None = None) -> Outputs:
        check_channels(self.stages[0], x)
        n, _, h, w = x.shape
        padded = self.stages[0].padded(x)
        with memory_reported(x.shape):
            with self.lock:
                plan = self.plan(n, *self.stages[0].padded_size(h, w))
            found = iter(_CpuFunction.apply(padded, plan, self.lock, clock))
        taps = {plan.steps[i].stage.last: next(found) for i in plan.taps}
        moments = {
            plan.steps[i].stage.last: Moments(next(found), next(found)) for i in plan.moments
        }
        return Outputs(taps, moments)

    def memory(self, n: int, h: int, w: int) -> int:
        h, w = self.stages[0].padded_size(h, w)
        return CpuPlan(self.stages, self.read, self.algo, n, h, w).memory()

    def output_shape(self, shape: torch.Size) -> torch.Size:
        n, _, h, w = shape
        h, w = self.stages[0].padded_size(h, w)
        for stage in self.stages:
            step = _step(stage, self.algo, n, h, w)
            h, w = step.height, step.width
        return torch.Size(step.output_shape)

    def describe(self, h: int, w: int) -> list[str]:
        lines = []
        h, w = self.stages[0].padded_size(h, w)
        for stage in self.stages:
            step = _step(stage, self.algo, 1, h, w)
            kernels = (KERNELS[step.tiles[0]], KERNELS[step.tiles[1]])
            lines.append(stage.describe(step.g, kernels, self.read))
            h, w = step.height, step.width
        return lines


class _CpuFunction(torch.autograd.Function):
    """Gives the outputs at plan.taps, then both moments at each of plan.moments."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, plan: CpuPlan, lock: threading.Lock, clock: Clock | None
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        source = x if last else x.contiguous()
        layout = LAST if last else PLANAR
        ctx.plan, ctx.lock, ctx.layout, ctx.shape, ctx.clock = plan, lock, layout, x.shape, clock
        ctx.decisions = plan.decisions.take()
        ctx.features = {i: plan.features[i].take() for i in plan.moments}
        outputs = {i: plan.outputs[i].take() for i in plan.taps}
        moments = {i: _empty_moments(plan.steps[i]) for i in plan.moments}
        with lock:
            buffers, space = plan.arena, plan.space()
            frozen_forward = torch.ops.fastconv.frozen_forward.default
            frozen_moments = torch.ops.fastconv.frozen_moments.default
            bits = plan.bits(ctx.decisions)
            calls = zip(plan.steps, plan.forward_calls, strict=True)
            for i, (step, (u, numbers)) in enumerate(calls):
                # features that are kept are written where they stay
                to = ctx.features.get(i, buffers[i % 2])
                frozen_forward(
                    source,
                    u,
                    step.stage.bias,
                    step.stage.outside,
                    to,
                    bits[i],
                    outputs.get(i),
                    space,
                    numbers if i else step.numbers(False, layout),
                )
                if clock:
                    clock.stop(step.stage.last, "forward")
                if i in moments:
                    frozen_moments(to, *moments[i], space, plan.shapes[i])
                    if clock:
                        clock.stop(step.stage.last, "moments")
                source = to
        # what is returned is the caller's
        ctx.means = {i: found.mean.clone() for i, found in moments.items()}
        return (*outputs.values(), *(t for found in moments.values() for t in found))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None, None]:  # type: ignore[override]
        plan: CpuPlan = ctx.plan
        clock: Clock | None = ctx.clock
        if clock:
            clock.start()
        taps = dict(zip(plan.taps, gradients))
        pairs = gradients[len(taps) :]
        arriving = {i: dy.contiguous() for i, dy in taps.items() if dy is not None}
        moments = {
            i: [None if d is None else d.contiguous() for d in pair]
            for i, *pair in zip(plan.moments, pairs[::2], pairs[1::2], strict=True)
            if pair != [None, None]
        }
        if not (arriving or moments) or not ctx.needs_input_grad[0]:
            return None, None, None, None
        bits = plan.bits(ctx.decisions)
        layout = torch.channels_last if ctx.layout == LAST else torch.contiguous_format
        dx = torch.empty(ctx.shape, dtype=torch.float32, memory_format=layout)
        with memory_reported(ctx.shape), ctx.lock:
            buffers, space = plan.arena, plan.space()
            moments_backward = torch.ops.fastconv.frozen_moments_backward.default

            def add_moments(i: int, add: bool) -> None:
                if i in moments:
                    known, to = (ctx.features[i], ctx.means[i]), buffers[i % 2]
                    moments_backward(*known, *moments[i], add, to, space, plan.shapes[i])
                    if clock:
                        clock.stop(plan.steps[i].stage.last, "moments_backward")

            end = max([*arriving, *moments])
            if end in arriving:
                torch.ops.fastconv.frozen_block(arriving[end], buffers[end % 2], plan.shapes[end])
            add_moments(end, add=end in arriving)
            frozen_backward = torch.ops.fastconv.frozen_backward.default
            for i in range(end, -1, -1):
                u, numbers = plan.backward_calls[i]
                frozen_backward(
                    buffers[i % 2],
                    bits[i],
                    u,
                    buffers[(i - 1) % 2] if i else dx,
                    arriving.get(i - 1),
                    space,
                    numbers if i else plan.steps[0].numbers(True, ctx.layout),
                )
                if clock:
                    clock.stop(plan.steps[i].stage.last, "backward")
                add_moments(i - 1, add=True)
        return dx, None, None, None


def _empty_moments(step: CpuStep) -> Moments:
    n, c, _, _ = step.output_shape

    def new(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32)  # whatever the default is

    return Moments(new(n, c), new(n, c, c))
