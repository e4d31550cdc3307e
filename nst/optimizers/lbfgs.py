"""L-BFGS on the picture's pixels."""

from __future__ import annotations

from torch import Tensor

from ..config.options import StyleConfig
from .base import Note, Optimizer, State
from .compact_lbfgs import lbfgs_move
from .quasi_newton import QuasiNewtonMove


class LBFGS(Optimizer):
    """L-BFGS without line search: one evaluation per step.

    x stays in the range of colours: the bounds are a part of each move, since a pair holds the
    curvature along s only if x moved by s (to clamp x afterwards, as many do, makes the run diverge
    sooner or later).  At a new scale the pairs are kept, resized.

    BOLDNESS is between what torch does, 0, and 1/2, which needs fewer steps yet but has the loss
    rise to its double now and then.

    A bad step is tried again at half its length, by the same pairs, which were true before it; the
    next one that is bad at once starts the memory afresh.  After RECOVERY good steps a halving is
    taken back.

    A step is shortened to LONGEST on average over the values: the first pair comes from a very
    short step and can be little but rounding, and the step after it then leads far out of the range
    of colours, at any step size and every time the memory is started anew.
    """

    LONGEST = 0.05
    COLOURS = (0.0, 1.0)
    BOLDNESS = 0.25
    RECOVERY = 5
    inner: QuasiNewtonMove

    def __init__(self, x: Tensor, config: StyleConfig, note: Note) -> None:
        self.good_steps = 0  # since the last bad one, or the last doubling
        super().__init__(x, config, note)

    def _start(self, x: Tensor) -> None:
        super()._start(x.clamp(*self.COLOURS))

    def _inner(self) -> QuasiNewtonMove:
        how = (self.rate, self.config.history, self._longest, self.COLOURS, self.BOLDNESS)
        return lbfgs_move(self.x.device, *how)

    @property
    def _longest(self) -> float:
        """Halved with the rate: else what was shortened to it would be tried again as it was."""
        return self.LONGEST / 2**self.halvings

    def enlarge(self, hw: tuple[int, int]) -> None:
        """The pairs are kept, resized: most of the curvature is the same at every size."""
        before = self.inner
        super().enlarge(hw)
        before.enlarge(hw)
        self.inner = before

    def _move(self) -> None:
        super()._move()
        if not self.moved:  # no descent direction: start its memory anew
            self.inner = self._inner()
            super()._move()

    def _calm_down(self) -> None:
        if self.good_steps <= 1:  # half the step was bad again
            self.inner = self._inner()
        self.inner.displace()
        self._follow_rate()

    def _follow_rate(self) -> None:
        self.inner.rate, self.inner.longest, self.good_steps = self.rate, self._longest, 0

    def _accepted(self) -> None:
        self.good_steps += 1
        if self.halvings and self.good_steps == self.RECOVERY:
            self.halvings -= 1
            self.rate *= 2
            self._follow_rate()

    def state(self) -> State:
        return super().state() | {"good_steps": self.good_steps}

    def load_state(self, state: State) -> None:
        super().load_state(state)
        self.good_steps = state["good_steps"]
