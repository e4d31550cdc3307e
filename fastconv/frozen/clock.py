"""Where the time of a frozen stack goes: seconds by layer and direction.

    frozen.clock = Clock()
    ...                                     # calls, forward and backward
    frozen.clock.seconds[3, "backward"]     # of the stage or layer that ends at index 3

Directions are forward, backward, and moments and moments_backward, which come on top.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor


class Clock:
    """Adds up what lies between `start` and `stop`, or between one `stop` and the next."""

    def __init__(self) -> None:
        self.seconds: defaultdict[tuple[int, str], float] = defaultdict(float)
        self._since = 0.0
        self._may_wait = torch.cuda.is_available()  # asked once: it is part of what is measured

    def start(self) -> None:
        self._since = self._now()

    def stop(self, layer: int, direction: str) -> None:
        now = self._now()
        self.seconds[layer, direction] += now - self._since
        self._since = now

    def _now(self) -> float:
        if self._may_wait and torch.cuda.is_initialized():
            torch.cuda.synchronize()  # a kernel's time is not its launch's
        return time.perf_counter()


class Milestone(torch.autograd.Function):
    """x itself; when its gradient comes by, the clock starts, or stops for a layer."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, clock: Clock, done: tuple[int, str] | None
    ) -> Tensor:
        ctx.clock, ctx.done = clock, done
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        if ctx.done is None:
            ctx.clock.start()
        else:
            ctx.clock.stop(*ctx.done)
        return dy, None, None
