"""The optimisers, which turn x step by step into the picture.

All are torch's own.  One call of `step` moves x once and evaluates the objective once at its
new place, so that the losses told are those of the picture there; the first call only
evaluates.  The objective is multiplied by the number of values in x: its gradient is then of
order 1 per value, far from L-BFGS's absolute thresholds and Adam's eps, at every size.

A loss that is not finite, or that has risen too far, is answered by going back to the last good
x, halving the step and starting the optimiser's memory afresh; after each such event the run is
told in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .config import StyleConfig
from .errors import NstError
from .images import resize
from .objective import Evaluation

Objective = Callable[[Tensor], Evaluation]
Note = Callable[[str], None]
State = dict[str, Any]

HALVINGS = 12  # after these the loss is hopeless: the step is 4000 times smaller


class Optimizer:
    """What the three have in common: the guard, the state, the change of scale."""

    learning_rate = 1.0
    rise = 2.0  # a loss this many times the last one counts as risen too far

    def __init__(self, x: Tensor, config: StyleConfig, note: Note) -> None:
        self.config, self.note = config, note
        self.rate = config.learning_rate or self.learning_rate
        self.halvings = 0
        self._start(x)

    def _start(self, x: Tensor) -> None:
        self.x = x.detach().clone().requires_grad_(True)
        self.good = self.x.detach().clone()
        self.last: float | None = None
        self.first = 0.0  # the loss at the start of this scale
        self.inner = self._inner()

    def _inner(self) -> torch.optim.Optimizer:
        raise NotImplementedError

    @property
    def picture(self) -> Tensor:
        """The result so far, within [0, 1]."""
        return self.x.detach().clamp(0, 1)

    def step(self, objective: Objective) -> Evaluation:
        """Move once, evaluate once, and see that it went well."""
        if self.last is not None:
            if self.x.grad is None:  # resumed: the gradient is not kept, x determines it
                self._evaluate(objective)
            self._move()
        evaluation = self._evaluate(objective)
        while self._went_wrong(evaluation.values["total"]):
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
        self.x.grad = None
        evaluation = objective(self.x)
        if evaluation.total.requires_grad:
            (evaluation.total * self.x.numel()).backward()
        if self.x.grad is None:
            self.x.grad = torch.zeros_like(self.x)
        return evaluation

    def _move(self) -> None:
        # the gradient is in place, so the closure has only the value to return
        self.inner.step(lambda: (self.last or 0.0) * self.x.numel())

    def _accepted(self) -> None:
        """What follows a good evaluation."""

    def _went_wrong(self, total: float) -> bool:
        finite = math.isfinite(total) and bool(torch.isfinite(self.x.grad).all())  # type: ignore[arg-type]
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
        self.inner = self._inner()

    def enlarge(self, hw: tuple[int, int]) -> None:
        """Go on at another size (height, width), from the picture so far."""
        self._start(resize(self.picture, hw))

    def state(self) -> State:
        """All that `load_state` needs to go on exactly."""
        return {
            "x": self.x.detach(),
            "last": self.last,
            "first": self.first,
            "rate": self.rate,
            "halvings": self.halvings,
            "inner": self.inner.state_dict(),
        }

    def load_state(self, state: State) -> None:
        """Go on from where `state` was taken."""
        self.rate, self.halvings = state["rate"], state["halvings"]
        self._start(state["x"].to(self.x))
        self.last, self.first = state["last"], state["first"]
        self.inner.load_state_dict(state["inner"])


class LBFGS(Optimizer):
    """L-BFGS without line search: one evaluation per step.

    Its curvature pairs hold only if x is where the optimiser left it, so x is never clamped;
    the range penalty keeps it near [0, 1], and only the picture handed out is clamped.

    A step is shortened to LONGEST on average over the values: the first pair of curvature comes
    from a hair's breadth and can be little but rounding, and the step after it then leads far
    out of the range of colours, at any step size and every time the memory is started anew.
    """

    LONGEST = 0.05

    def _inner(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(
            [self.x],
            lr=self.rate,
            max_iter=1,
            max_eval=1,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            history_size=self.config.history,
        )

    def _move(self) -> None:
        super()._move()
        if torch.equal(self.x.detach(), self.good):  # no descent direction: start its memory anew
            self.inner = self._inner()
            super()._move()
        self._shorten()

    def _shorten(self) -> None:
        moved = self.x.detach() - self.good
        factor = self.LONGEST / max(float(moved.abs().mean()), self.LONGEST)
        if factor < 1:
            with torch.no_grad():
                self.x.copy_(self.good + factor * moved)
            self.inner.state[self.x]["t"] *= factor  # the pair that follows is t d and y


class Adam(Optimizer):
    """Adam with betas (0.9, 0.99), x clamped after each step, averaged over the steps.

    The average (an exponential one, corrected for its start, begun anew at each scale) is the
    result and what the next scale starts from: it is free of the grain that Adam leaves.
    """

    learning_rate = 0.02
    rise = 10.0  # Adam's steps are of fixed size: near the end the loss goes up and down

    def _start(self, x: Tensor) -> None:
        super()._start(x)
        self.average, self.count = torch.zeros_like(self.good), 0

    def _inner(self) -> torch.optim.Optimizer:
        # 0.9/0.999, the defaults, forget too slowly and leave a grey haze
        return torch.optim.Adam([self.x], lr=self.rate, betas=(0.9, 0.99))

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
        before = dict(self.inner.state[self.x])
        super().enlarge(hw)
        if not before:
            return
        before["exp_avg"] = F.interpolate(before["exp_avg"], hw, mode="bicubic")
        before["exp_avg_sq"] = F.interpolate(before["exp_avg_sq"], hw, mode="bilinear").relu()
        self.inner.state[self.x] = before

    def state(self) -> State:
        return super().state() | {"average": self.average, "count": self.count}

    def load_state(self, state: State) -> None:
        super().load_state(state)
        self.average, self.count = state["average"].to(self.x.detach()), state["count"]


class AdamW(Adam):
    """Plain AdamW: no averaging, weight decay off (it would darken the picture), and the step
    halved when the loss has not fallen for a while."""

    PATIENCE = 25

    def _start(self, x: Tensor) -> None:
        super()._start(x)
        self.plateau = self._plateau()

    def _inner(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([self.x], lr=self.rate, betas=(0.9, 0.99), weight_decay=0.0)

    def _plateau(self) -> torch.optim.lr_scheduler.ReduceLROnPlateau:
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.inner, factor=0.5, patience=self.PATIENCE
        )

    @property
    def picture(self) -> Tensor:
        return self.x.detach().clamp(0, 1)

    def _accepted(self) -> None:
        super()._accepted()
        self.plateau.step(self.last or 0.0)

    def _step_back(self, total: float) -> None:
        super()._step_back(total)
        self.plateau = self._plateau()

    def state(self) -> State:
        return super().state() | {"plateau": self.plateau.state_dict()}

    def load_state(self, state: State) -> None:
        super().load_state(state)
        self.plateau.load_state_dict(state["plateau"])


OPTIMIZERS: dict[str, type[Optimizer]] = {"lbfgs": LBFGS, "adam": Adam, "adamw": AdamW}
