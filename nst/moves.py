"""How an optimiser moves x, given the gradient g there: L-BFGS and Adam.

The methods are torch.optim's and so are their results (tests hold that), but a move makes no
fresh large tensor after the first few, and `import torch._dynamo`, which torch.optim does when its
first optimiser is made, is half a second that a short run feels.  compact.py has L-BFGS in another
form, which is harder to read, and faster.

A move keeps its state in `state()`, of which `load` makes it go on exactly.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]


class LBFGSMove:
    """x <- x + rate d,  d = -H g, where H is built of the last `history` pairs (s, y).

    s = x' - x and y = g' - g from one place to the next; the first move has length
    rate min(1, 1/|g|_1), and none is longer than `longest` on average.  Two passes over the pairs,
    newest to oldest and back:

        q = g;   a_i = s_i.q / s_i.y_i,  q -= a_i y_i;   q *= s.y / y.y of the newest pair
        b_i = y_i.q / s_i.y_i,  q += (a_i - b_i) s_i;    d = -q
    """

    LEAST = 1e-10  # of s.y: below, a pair says nothing about the curvature

    def __init__(self, rate: float, history: int, longest: float = math.inf) -> None:
        self.rate, self.history, self.longest = rate, history, longest
        self.pairs: list[tuple[Tensor, Tensor, float]] = []  # s, y, s.y; oldest first
        self.scale = 1.0  # s.y / y.y
        self.before: Tensor | None = None  # the gradient at the last place
        self.step: Tensor | None = None  # what was added to x there
        self._room: tuple[Tensor, Tensor] | None = None  # of a pair that was let go

    def move(self, x: Tensor, g: Tensor) -> bool:
        """Moves x; False if the direction is none of descent, and x stays."""
        if self.before is None or self.step is None:
            self.before, self.step = g.clone(), torch.empty_like(g)
            length = self.rate * min(1.0, 1.0 / max(float(g.abs().sum()), 1e-30))
            torch.mul(g, -length, out=self.step)
        else:
            self._remember(g)
            self._direct(g, self.step)
            if not float(torch.dot(self.step.view(-1), g.reshape(-1))) <= 0:
                return False
            self.step.mul_(self.rate)
        mean = float(torch.linalg.vector_norm(self.step, 1)) / self.step.numel()
        if mean > self.longest:
            self.step.mul_(self.longest / mean)  # the pair that follows is of it and y
        x.add_(self.step)
        return True

    def _remember(self, g: Tensor) -> None:
        assert self.before is not None
        assert self.step is not None
        if self._room is None:
            self._room = torch.empty_like(g), torch.empty_like(g)
        s, y = self._room
        torch.sub(g, self.before, out=y)
        self.before.copy_(g)
        product = _dot(y, self.step)
        if product > self.LEAST:
            self.scale = product / _dot(y, y)
            self._room = None
            self.pairs.append((s.copy_(self.step), y, product))
            if len(self.pairs) > self.history:
                self._room = self.pairs.pop(0)[:2]

    def _direct(self, g: Tensor, q: Tensor) -> None:
        """-H g, into q."""
        torch.neg(g, out=q)
        shares = []
        for s, y, product in reversed(self.pairs):
            shares.append(_dot(s, q) / product)
            q.add_(y, alpha=-shares[-1])
        q.mul_(self.scale)
        for (s, y, product), share in zip(self.pairs, reversed(shares)):
            q.add_(s, alpha=share - _dot(y, q) / product)

    def state(self) -> State:
        return {
            "pairs": self.pairs,
            "scale": self.scale,
            "before": self.before,
            "step": self.step,
        }

    def load(self, state: State) -> None:
        self.pairs = [(s.clone(), y.clone(), product) for s, y, product in state["pairs"]]
        self.scale = state["scale"]
        self.before, self.step = (
            None if t is None else t.clone() for t in (state["before"], state["step"])
        )


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.view(-1), b.view(-1)))


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
