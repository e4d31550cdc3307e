"""The optimisers, which turn x step by step into the picture.

How x moves is told in moves.py.  One call of `step` moves x once and evaluates the objective once
at its new place, so that the losses told are those of the picture there; the first call only
evaluates.  The objective is multiplied by the number of values in x: its gradient is then of
order 1 per value, far from L-BFGS's absolute thresholds and Adam's eps, at every size.

A step asks the device for numbers once: for the values and the gradient's sum, after both are
ordered.  On CUDA, what is ordered is recorded (captured.py).

A loss that is not finite, or that has risen too far, is answered by going back to the last good
x, halving the step and starting the optimiser's memory afresh (L-BFGS: see there); after each such
event the run is told in words.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..config.options import StyleConfig
from ..errors import NstError
from ..losses.objective import Evaluation
from ..pictures.sizing import resize
from .compact_lbfgs import lbfgs_move
from .cuda_graph import Objective, Recordings
from .quasi_newton import AdamMove, Plateau, QuasiNewtonMove

Note = Callable[[str], None]
State = dict[str, Any]

HALVINGS = 12  # after these the loss is hopeless: the step is 4000 times smaller


@dataclass
class Spent:
    """Seconds spent so far: on the objective there and back, and on moving x."""

    forward: float = 0.0
    backward: float = 0.0
    moving: float = 0.0

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        setattr(self, part, getattr(self, part) + time.perf_counter() - began)


class Optimizer:
    """What the three have in common: the guard, the state, the change of scale."""

    learning_rate = 1.0
    rise = 2.0  # a loss this many times the last one counts as risen too far

    def __init__(self, x: Tensor, config: StyleConfig, note: Note) -> None:
        self.config, self.note = config, note
        self.rate = config.learning_rate or self.learning_rate
        self.halvings = 0
        self.spent = Spent()
        self.recordings = Recordings(config.graph, x.device, note)
        self._start(x)

    def _start(self, x: Tensor) -> None:
        self.x = x.detach().clone(memory_format=torch.contiguous_format).requires_grad_(True)
        self.good = self.x.detach().clone()
        self.factor = self.x.new_tensor(float(self.x.numel()))  # of the objective
        self.last: float | None = None
        self.first = 0.0  # the loss at the start of this scale
        self.inner = self._inner()

    def _inner(self) -> QuasiNewtonMove | AdamMove:
        raise NotImplementedError

    @property
    def picture(self) -> Tensor:
        """The result so far, within [0, 1]."""
        return self.x.detach().clamp(0, 1)

    def step(self, objective: Objective) -> Evaluation:
        """Move once, evaluate once, and see that it went well."""
        if self.last is not None:
            if self.x.grad is None:  # resumed from a checkpoint without it
                self._evaluate(objective)
            with self.spent.on("moving"):
                self._move()
        evaluation = self._evaluate(objective)
        while self._went_wrong(evaluation):
            self._step_back(evaluation.values["total"])
            evaluation = self._evaluate(objective)
        if self.last is None:
            self.first = evaluation.values["total"]
        self.last = evaluation.values["total"]
        self.good.copy_(self.x.detach())
        self._accepted()
        return evaluation

    def forget_last(self) -> None:
        """The objective has changed: its next value says nothing about a rise."""
        self.last = math.inf if self.last is not None else None

    def _evaluate(self, objective: Objective) -> Evaluation:
        """Values and gradient at x; once more where the gradient has overflown on its way."""
        evaluation = self._computed(objective)
        if scaling := getattr(objective, "scaling", None):
            while evaluation.has_finite_total and not evaluation.has_finite_gradient:
                if not scaling.lower():
                    return evaluation
                evaluation = self._computed(objective)
            scaling.passes()
        return evaluation

    def _computed(self, objective: Objective) -> Evaluation:
        recorded = self.recordings.of(objective, self.x)
        if recorded is not None:
            with self.spent.on("forward"):  # and backward: it is one piece
                evaluation, self.x.grad = recorded.evaluate()
            return evaluation
        self.x.grad = None
        with self.spent.on("forward"):
            evaluation = objective(self.x)
        with self.spent.on("backward"):
            if evaluation.total.requires_grad:
                (self.x.grad,) = torch.autograd.grad(
                    evaluation.total, self.x, self.factor, allow_unused=True
                )
            if self.x.grad is None:
                self.x.grad = torch.zeros_like(self.x)
            evaluation.read(evaluation.stacked(self._gradient.sum()))
        return evaluation

    @property
    def _gradient(self) -> Tensor:
        assert self.x.grad is not None
        return self.x.grad

    def _move(self) -> None:
        with torch.no_grad():
            self.moved = self.inner.move(self.x, self._gradient)

    def _accepted(self) -> None:
        """What follows a good evaluation."""

    def _went_wrong(self, evaluation: Evaluation) -> bool:
        total = evaluation.values["total"]
        finite = evaluation.has_finite_total and evaluation.has_finite_gradient
        # a share of the first loss on top: close to 0, a loss may well double
        limit = math.inf if self.last is None else self.rise * self.last + 0.05 * abs(self.first)
        return not finite or total > limit

    def _step_back(self, total: float) -> None:
        if self.last is None or self.halvings == HALVINGS:
            raise NstError(
                f"the loss is {total:g} and does not recover; try --precision float32, a smaller "
                "--learning-rate or smaller weights"
            )
        self.halvings += 1
        self.rate /= 2
        what = "rose" if math.isfinite(total) else "was not finite"
        self.note(f"the loss {what} ({total:.3g}); stepped back, step size now {self.rate:g}")
        with torch.no_grad():
            self.x.copy_(self.good)
        self._calm_down()

    def _calm_down(self) -> None:
        """What follows a bad step, beside the halved step size."""
        self.inner = self._inner()

    def enlarge(self, hw: tuple[int, int]) -> None:
        """Go on at another size (height, width), from the picture so far."""
        self._start(resize(self.picture, hw))

    def state(self) -> State:
        """All that `load_state` needs to go on exactly."""
        return {
            "x": self.x.detach(),
            "gradient": self.x.grad,  # which weights that have been balanced since do not determine
            "last": self.last,
            "first": self.first,
            "rate": self.rate,
            "halvings": self.halvings,
            "inner": self.inner.state(),
        }

    def load_state(self, state: State) -> None:
        """Go on from where `state` was taken."""
        self.rate, self.halvings = state["rate"], state["halvings"]
        self._start(state["x"].to(self.x))
        if (gradient := state.get("gradient")) is not None:
            self.x.grad = gradient.to(self.x.detach())
        self.last, self.first = state["last"], state["first"]
        self.inner.load(_moved(state["inner"], self.x.device))


def _moved(state: Any, device: torch.device) -> Any:
    """The same state with its tensors on a device: a checkpoint is read to the CPU."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {name: _moved(value, device) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_moved(value, device) for value in state)
    return state


class LBFGS(Optimizer):
    """L-BFGS without line search: one evaluation per step.

    x stays in the range of colours: the walls are a part of how it moves, since pairs tell of
    the curvature only if x is where they say (clamping it behind L-BFGS's back, as many do, lets
    the run leap out of the picture sooner or later).  At a new scale the pairs go on, resized.

    BOLDNESS is between what torch does, 0, and 1/2, which needs fewer steps yet but has the loss
    rise to its double now and then.

    A bad step is tried again at half its length, by the same pairs, which were true before it; the
    next one that is bad at once starts the memory afresh.  After RECOVERY good steps a halving is
    taken back.

    A step is shortened to LONGEST on average over the values: the first pair of curvature comes
    from a hair's breadth and can be little but rounding, and the step after it then leads far
    out of the range of colours, at any step size and every time the memory is started anew.
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
        """The pairs are kept, resized: most of what they tell of holds at every size."""
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


class Adam(Optimizer):
    """Adam with betas (0.9, 0.99), x clamped after each step, averaged over the steps.

    The average (an exponential one, corrected for its start, begun anew at each scale) is the
    result and what the next scale starts from: it is free of the grain that Adam leaves.
    """

    inner: AdamMove
    learning_rate = 0.02
    rise = 10.0  # Adam's steps are of fixed size: near the end the loss goes up and down

    def _start(self, x: Tensor) -> None:
        super()._start(x)
        self.average, self.count = torch.zeros_like(self.good), 0

    def _inner(self) -> AdamMove:
        return AdamMove(self.rate)

    @property
    def picture(self) -> Tensor:
        if self.count == 0 or self.config.ema == 0:
            return super().picture
        return (self.average / (1 - self.config.ema**self.count)).clamp(0, 1)

    def _move(self) -> None:
        super()._move()
        with torch.no_grad():
            self.x.clamp_(0, 1)

    def _accepted(self) -> None:
        self.average.lerp_(self.x.detach(), 1 - self.config.ema)
        self.count += 1

    def enlarge(self, hw: tuple[int, int]) -> None:
        """The moments are kept: the first resized bicubically, the second kept positive."""
        before = self.inner
        super().enlarge(hw)
        if before.m is None or before.v is None:
            return
        self.inner.count = before.count
        self.inner.m = F.interpolate(before.m, hw, mode="bicubic")
        self.inner.v = F.interpolate(before.v, hw, mode="bilinear").relu()

    def state(self) -> State:
        return super().state() | {"average": self.average, "count": self.count}

    def load_state(self, state: State) -> None:
        super().load_state(state)
        self.average, self.count = state["average"].to(self.x.detach()), state["count"]


class AdamW(Adam):
    """Plain AdamW: no averaging, weight decay off (it would darken the picture, and without it
    AdamW moves as Adam does), and the step halved when the loss has not fallen for a while."""

    PATIENCE = 25

    def _start(self, x: Tensor) -> None:
        super()._start(x)
        self.plateau = Plateau(self.PATIENCE)

    @property
    def picture(self) -> Tensor:
        return self.x.detach().clamp(0, 1)

    def _accepted(self) -> None:
        super()._accepted()
        if self.plateau.reached(self.last or 0.0):
            self.inner.rate /= 2

    def _step_back(self, total: float) -> None:
        super()._step_back(total)
        self.plateau = Plateau(self.PATIENCE)

    def state(self) -> State:
        return super().state() | {"plateau": self.plateau.state(), "inner_rate": self.inner.rate}

    def load_state(self, state: State) -> None:
        super().load_state(state)
        self.plateau.load(state["plateau"])
        self.inner.rate = state["inner_rate"]


OPTIMIZERS: dict[str, type[Optimizer]] = {"lbfgs": LBFGS, "adam": Adam, "adamw": AdamW}
