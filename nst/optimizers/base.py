"""What optimisers have in common: they turn x step by step into the picture.

How x moves is a `Move`, of Adam or L-BFGS.  One call of `step` moves x once and evaluates the
objective once at its new place, so that the losses reported are those of the picture there; the
first call only evaluates.  The objective is multiplied by the number of values in x: its gradient
is then of order 1 per value, far from L-BFGS's absolute thresholds and Adam's eps, at every size.

A step asks the device for numbers once: for the values and the gradient's sum, after both are
launched.  On CUDA, the launches are recorded (cuda_graph.py).

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
from typing import Any, Protocol

import torch
from torch import Tensor

from ..config.options import StyleConfig
from ..errors import NstError
from ..losses.evaluation import Evaluation
from ..pictures.sizing import resize
from .cuda_graph import Objective, Recordings

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


class Move(Protocol):
    """How an optimiser moves x, given the gradient there.

    `state` gives all that `load` needs to go on exactly.
    """

    def move(self, x: Tensor, g: Tensor) -> bool:
        """Change x in place; False if there is no way down."""
        ...

    def state(self) -> State: ...

    def load(self, state: State) -> None: ...


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

    def _inner(self) -> Move:
        """What moves x, begun afresh."""
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
