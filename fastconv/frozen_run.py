"""The fused runs of a frozen stack on the CPU; frozen.py draws the picture."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .frozen_stage import Stage, check_channels
from .geometry import ConvGeometry
from .registry import load

BLOCK = 16  # channels side by side
PLANAR, LAST, BLOCKED = 0, 1, 2  # layouts, as csrc/ops_frozen.cpp counts them
KERNELS = {1: "few_channels", 4: "winograd_f4", 6: "winograd_f6"}


def fits(conv: nn.Conv2d) -> bool:
    """Whether the kernels know this convolution."""
    sizes = (conv.kernel_size, conv.stride, conv.dilation, conv.groups)
    weight = conv.weight
    standard = sizes == ((3, 3), (1, 1), (1, 1), 1)
    return standard and weight.dtype == torch.float32 and weight.device.type == "cpu"


def weights(stage: Stage, tile: int, rotated: bool) -> Tensor:
    """Winograd's U."""
    prepare = torch.ops.fastconv.prepare
    return stage.once((tile, rotated), lambda: prepare(stage.conv.weight.detach(), tile, rotated))


@dataclass
class Step:
    """A stage at one size of pictures."""

    stage: Stage
    g: ConvGeometry
    tiles: tuple[int, int]  # of F(tile x tile, 3x3): forward, backward
    height: int  # after pooling
    width: int

    def numbers(self, backward: bool, layout: int) -> list[int]:
        """What the operators want to know; csrc/ops_frozen.cpp names them."""
        g, stage = self.g, self.stage
        sizes = [g.n, g.c_in, g.h, g.w, g.c_out, g.out_h, g.out_w, g.padding[0], g.padding[2]]
        return [*sizes, self.tiles[backward], int(stage.relu), stage.pool, layout]

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return (self.g.n, self.g.c_out, self.height, self.width)

    @property
    def output_floats(self) -> int:
        return self.g.n * _padded(self.g.c_out) * self.height * self.width

    @property
    def input_floats(self) -> int:
        return self.g.n * _padded(self.g.c_in) * self.g.h * self.g.w

    @property
    def decision_words(self) -> int:
        """16 decisions each."""
        if not self.stage.relu and not self.stage.pool:
            return 0
        each = 4 if self.stage.pool else 1
        return self.output_floats // BLOCK * each


def _padded(channels: int) -> int:
    return (channels + BLOCK - 1) // BLOCK * BLOCK


class Recycler:
    """Buffers that come back when the last tensor on them is gone.

    Memory that is mapped afresh costs a page fault every 4 KB; a frozen stack is called hundreds
    of times with the same sizes.
    """

    def __init__(self, dtype: type[np.generic], size: int) -> None:
        self._dtype, self._size = dtype, size
        self._free: list[np.ndarray] = []

    def take(self) -> Tensor:
        try:
            base = self._free.pop()
        except IndexError:
            base = np.empty(self._size, self._dtype)
        lent = base[:]  # the tensor's storage holds on to this array, and it to `base`
        weakref.finalize(lent, self._free.append, base)
        return torch.from_numpy(lent)


class Plan:
    """A run at one size of pictures: its steps and its memory."""

    def __init__(self, stages: Iterable[Stage], taps: set[int], algo: str, n: int, h: int, w: int):
        self.steps = []
        for stage in stages:
            step = _step(stage, algo, n, h, w)
            self.steps.append(step)
            h, w = step.height, step.width
        floats = max(max(s.output_floats for s in self.steps), 1)
        inner = max((s.input_floats for s in self.steps[1:]), default=1)
        self.buffer_floats = max(floats, inner)
        self.taps = [i for i, step in enumerate(self.steps) if step.stage.last in taps]
        self.outputs = {
            i: Recycler(np.float32, int(np.prod(self.steps[i].output_shape))) for i in self.taps
        }
        self.words = [step.decision_words for step in self.steps]
        self.decisions = Recycler(np.int16, max(sum(self.words), 1))

    @property
    def space_floats(self) -> int:
        ask = torch.ops.fastconv.frozen_space
        return max(
            ask(back, s.numbers(back, BLOCKED)) for s in self.steps for back in (False, True)
        )

    @cached_property
    def arena(self) -> tuple[Tensor, Tensor, Tensor]:
        """Two pictures, from one of which each stage goes to the other, and the work space."""
        sizes = [self.buffer_floats, self.buffer_floats, self.space_floats]
        whole = torch.empty(sum(sizes) + 16 * 3)
        start = -whole.data_ptr() // 4 % 16  # cache lines
        parts = []
        for size in sizes:
            parts.append(whole[start : start + size])
            start += _padded(size)
        return (parts[0], parts[1], parts[2])

    def bits(self, decisions: Tensor) -> list[Tensor | None]:
        return (
            [part if part.numel() else None for part in decisions.split(self.words)]
            if sum(self.words)
            else [None] * len(self.words)
        )

    def memory(self) -> int:
        outputs = sum(int(np.prod(self.steps[i].output_shape)) for i in self.taps)
        floats = 2 * self.buffer_floats + self.space_floats + outputs
        weights = 0
        for step in self.steps:
            for back, tile in enumerate(step.tiles):
                weights += _weight_floats(step.g, tile, bool(back))
        return 4 * (floats + weights) + 2 * sum(self.words)


def _weight_floats(g: ConvGeometry, tile: int, rotated: bool) -> int:
    return torch.ops.fastconv.prepared_floats(g.c_out, g.c_in, tile, rotated)


def _step(stage: Stage, algo: str, n: int, h: int, w: int) -> Step:
    native: Any = load("native")
    g = stage.geometry(n, h, w)
    names = [
        native.explain(operation, g, torch.float32, False, algo)
        for operation in ("forward", "grad_input")
    ]
    # Where `auto` prefers the definition, the stack has a direct kernel for a picture's channels
    # (it takes single rows, which cannot be pooled), and uses F(4x4) for anything else.
    few = g.c_in <= 3 < g.c_out
    forward = native.TILES.get(names[0], 1 if few and not stage.pool else 4)
    backward = native.TILES.get(names[1], 1 if few else 4)
    return Step(stage, g, (forward, backward), *stage.output_size(g))


class Run:
    """Consecutive stages.  Calling it gives {layer index: output} for its taps and its end."""

    def __init__(self, stages: list[Stage], taps: set[int], algo: str) -> None:
        self.stages, self.taps, self.algo = stages, taps, algo
        self.lock = threading.Lock()  # the arena serves one call at a time
        self._plan: tuple[tuple[int, ...], Plan] | None = None

    def plan(self, n: int, h: int, w: int) -> Plan:
        """That of the last size is kept, with its arena."""
        size = (n, h, w)
        if self._plan is None or self._plan[0] != size:
            self._plan = (size, Plan(self.stages, self.taps, self.algo, n, h, w))
        return self._plan[1]

    def __call__(self, x: Tensor) -> dict[int, Tensor]:
        check_channels(self.stages[0], x)
        n, _, h, w = x.shape
        with self.lock:
            plan = self.plan(n, h, w)
        outputs = _Run.apply(x, plan, self.lock)
        return {plan.steps[i].stage.last: y for i, y in zip(plan.taps, outputs, strict=True)}

    def memory(self, n: int, h: int, w: int) -> int:
        return Plan(self.stages, self.taps, self.algo, n, h, w).memory()

    def output_shape(self, shape: torch.Size) -> torch.Size:
        n, _, h, w = shape
        for stage in self.stages:
            step = _step(stage, self.algo, n, h, w)
            h, w = step.height, step.width
        return torch.Size(step.output_shape)

    def describe(self, h: int, w: int, taps: set[int]) -> list[str]:
        lines = []
        for stage in self.stages:
            step = _step(stage, self.algo, 1, h, w)
            kernels = (KERNELS[step.tiles[0]], KERNELS[step.tiles[1]])
            lines.append(stage.describe(step.g, kernels, stage.last in taps))
            h, w = step.height, step.width
        return lines


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Plan, lock: threading.Lock) -> tuple[Tensor, ...]:  # type: ignore[override]
        ctx.set_materialize_grads(False)
        last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        source = x if last else x.contiguous()
        layout = LAST if last else PLANAR
        ctx.plan, ctx.lock, ctx.layout, ctx.shape = plan, lock, layout, x.shape
        ctx.decisions = plan.decisions.take()
        outputs = {i: plan.outputs[i].take().view(plan.steps[i].output_shape) for i in plan.taps}
        with lock:
            here, there, space = plan.arena
            for i, (step, bits) in enumerate(
                zip(plan.steps, plan.bits(ctx.decisions), strict=True)
            ):
                u = weights(step.stage, step.tiles[0], False)
                torch.ops.fastconv.frozen_forward(
                    source,
                    u,
                    step.stage.bias,
                    here,
                    bits,
                    outputs.get(i),
                    space,
                    step.numbers(False, layout),
                )
                source, here, there, layout = here, there, here, BLOCKED
        return tuple(outputs.values())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None]:  # type: ignore[override]
        plan: Plan = ctx.plan
        arriving = {
            i: dy.contiguous() for i, dy in zip(plan.taps, gradients, strict=True) if dy is not None
        }
        if not arriving or not ctx.needs_input_grad[0]:
            return None, None, None
        bits = plan.bits(ctx.decisions)
        layout = torch.channels_last if ctx.layout == LAST else torch.contiguous_format
        dx = torch.empty(ctx.shape, memory_format=layout)
        with ctx.lock:
            here, there, space = plan.arena
            end = max(arriving)
            torch.ops.fastconv.frozen_block(arriving[end], here, plan.steps[end].output_shape)
            for i in range(end, -1, -1):
                step = plan.steps[i]
                u = weights(step.stage, step.tiles[1], True)
                torch.ops.fastconv.frozen_backward(
                    here,
                    bits[i],
                    u,
                    there if i else dx,
                    arriving.get(i - 1),
                    space,
                    step.numbers(True, BLOCKED if i else ctx.layout),
                )
                here, there = there, here
        return dx, None, None
