"""A run of a frozen stack on CUDA at one size of pictures: its steps, and how memory is divided.

cuda_run.py explains the whole and runs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..geometry import ConvGeometry
from ..precision import CHOICES
from .stage import Stage

ops: Any = torch.ops.fastconv  # csrc/ops_frozen_cuda.cpp
ALIGNED = 128  # numbers: pictures in the arena begin at multiples
DIRECTIONS = ("forward", "grad_input")


@dataclass
class CudaStep:
    """A stage at one size of pictures, on one card."""

    stage: Stage
    g: ConvGeometry
    height: int  # after pooling
    width: int
    like: Tensor  # an empty one, of the pictures' dtype and card
    precision: int  # as the operators take it: its place in precision.CHOICES

    @cached_property
    def flat(self) -> tuple[int, ...]:
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


def step_of(stage: Stage, like: Tensor, precision: str, n: int, h: int, w: int) -> CudaStep:
    g = stage.geometry(n, h, w)
    return CudaStep(stage, g, *stage.output_size(g), like, CHOICES.index(precision))


@dataclass(frozen=True)
class Pictures:
    """What a stage writes: `full` by its convolution, `output` by its pool or the same."""

    full: Tensor
    output: Tensor


class CudaPlan:
    """A run at one size of pictures: its steps, and how its arenas are divided."""

    def __init__(
        self,
        stages: Sequence[Stage],
        taps: set[int],
        precision: str,
        like: Tensor,
        output_dtype: torch.dtype,
        shape: torch.Size,
    ) -> None:
        n, _, h, w = shape
        self.like, self.output_dtype = like, output_dtype
        self.steps: list[CudaStep] = []
        for stage in stages:
            step = step_of(stage, like, precision, n, h, w)
            self.steps.append(step)
            h, w = step.height, step.width
        self.taps = [i for i, step in enumerate(self.steps) if step.stage.last in taps]

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
        """Of the largest gradient in the backward pass."""
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
