"""One iteration, as observers see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..losses.term import groups
from .pyramid import Level


@dataclass(frozen=True)
class Step:
    """What an iteration has come to; `row` is a line of the history."""

    iteration: int  # of the run, from 1
    iterations: int
    scale: int  # from 1
    scales: int
    done: int  # iterations at this scale
    level: Level  # this scale's size and iterations
    left: float  # the work that is left, in iterations of this scale's size
    row: dict[str, float]
    draw: Callable[[], Tensor]  # the picture; drawn where it is asked for, for it is a copy

    @property
    def picture(self) -> Tensor:
        """The picture after this step, (1, 3, h, w) in [0, 1], at this scale's size.

        Ask before the run goes on: it is drawn from where the run stands.
        """
        return self.draw()

    @property
    def losses(self) -> dict[str, float]:
        """The total and the groups of terms, without single layers."""
        return groups(self.row)
