"""Adam and AdamW on the picture's pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Optimizer, State


class AdamMove:
    """x <- x - rate m' / (sqrt(v') + eps): moving averages m of g and v of g^2.

    m' and v' are corrected for their start at 0.
    """

    BETAS = (0.9, 0.99)  # 0.9/0.999, the usual ones, forget too slowly and leave a grey haze
    EPS = 1e-8

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.count = 0
        self.m: Tensor | None = None
        self.v: Tensor | None = None
        self._room: Tensor | None = None

    def move(self, x: Tensor, g: Tensor) -> bool:
        if self.m is None or self.v is None:
            self.m, self.v = torch.zeros_like(g), torch.zeros_like(g)
        if self._room is None:
            self._room = torch.empty_like(g)
        self.count += 1
        first, second = self.BETAS
        self.m.lerp_(g, 1 - first)
        self.v.mul_(second).addcmul_(g, g, value=1 - second)
        torch.sqrt(self.v, out=self._room)
        self._room.div_((1 - second**self.count) ** 0.5).add_(self.EPS)
        x.addcdiv_(self.m, self._room, value=-self.rate / (1 - first**self.count))
        return True

    def state(self) -> State:
        return {"count": self.count, "m": self.m, "v": self.v}

    def load(self, state: State) -> None:
        self.count = state["count"]
        self.m, self.v = (None if t is None else t.clone() for t in (state["m"], state["v"]))


class Plateau:
    """Tells when a loss has not fallen (by a ten-thousandth at least) for `patience` steps."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best, self.waited = float("inf"), 0

    def reached(self, loss: float) -> bool:
        if loss < self.best * (1 - 1e-4):
            self.best, self.waited = loss, 0
            return False
        self.waited += 1
        if self.waited <= self.patience:
            return False
        self.waited = 0
        return True

    def state(self) -> State:
        return {"best": self.best, "waited": self.waited}

    def load(self, state: State) -> None:
        self.best, self.waited = state["best"], state["waited"]


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
