"""Coarse to fine: the sizes that a run goes through, and the iterations spent at each.

Sizes grow by sqrt(2) up to the final one.  A small picture settles the large shapes cheaply:
an iteration at 128 px costs a sixteenth of one at 512.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ConfigError

STEP = math.sqrt(2)
SMALLEST = 128  # below it the deep layers have only a few pixels
# One number of iterations is for the first scale; each later one gets this fraction of the one
# before it, so that the time per scale grows by 2 * 0.71 and not by 2.
FEWER = 1 / STEP


@dataclass(frozen=True)
class Level:
    """One scale of the pyramid."""

    height: int
    width: int
    iterations: int

    @property
    def hw(self) -> tuple[int, int]:
        return self.height, self.width


def levels(
    hw: tuple[int, int], scales: int, iterations: Sequence[int], shortest_side: int
) -> list[Level]:
    """The scales for a result of hw = (height, width), smallest first.

    `scales` 0 goes down to a longest side of about 128; more is allowed down to the
    `shortest_side` that the network can take.
    """
    if min(hw) < shortest_side:
        raise ConfigError(
            f"size {hw[1]}x{hw[0]}: the layers in use need sides of {shortest_side} pixels or "
            "more; choose a larger --size or shallower layers"
        )
    count = scales or 1 + max(0, round(math.log(max(hw) / SMALLEST, STEP)))
    sizes: list[tuple[int, int]] = []
    for k in range(count):
        smaller = round(hw[0] / STEP**k), round(hw[1] / STEP**k)
        if min(smaller) >= shortest_side:
            sizes.insert(0, smaller)
    counts = _spread(iterations, len(sizes))
    return [Level(h, w, n) for (h, w), n in zip(sizes, counts)]


def _spread(iterations: Sequence[int], scales: int) -> list[int]:
    if len(iterations) == 1:
        return [max(1, round(iterations[0] * FEWER**k)) for k in range(scales)]
    if len(iterations) != scales:
        expected = f"one number or {scales}, one per scale" if scales > 1 else "one number"
        more = "" if scales > 1 else ", for there is one scale"
        raise ConfigError(f"iterations expects {expected}, got {len(iterations)}{more}")
    return list(iterations)
