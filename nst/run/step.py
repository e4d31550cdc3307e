"""One iteration, as observers see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..losses.term import groups
from .pyramid import Level


@dataclass(frozen=True)
class Step:
    """The outcome of an iteration; `row` is a line of the history."""

    iteration: int  # of the run, from 1
    iterations: int
    scale: int  # from 1
    scales: int
    done: int  # iterations at this scale
    level: Level  # this scale's size and iterations
    left: float  # the work that is left, in iterations of this scale's size
    row: dict[str, float]
    draw: Callable[[], Tensor]  # the picture; computed on demand, as it is a copy

    @property
    def picture(self) -> Tensor:
        """The picture after this step, (1, 3, h, w) in [0, 1], at this scale's size.

        Read it before the next iteration: it is computed from the run's current state.
        """
        return self.draw()

    @property
    def losses(self) -> dict[str, float]:
        """The total and the groups of terms, without single layers."""
        return groups(self.row)
