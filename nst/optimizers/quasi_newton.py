"""How an optimiser moves x, given the gradient g there: L-BFGS and Adam.

The methods are torch.optim's, and so are their results without a box and boldness (tests hold
that), but `import torch._dynamo`, which torch.optim does when its first optimiser is made, is half
a second that a short run feels.  compact.py has L-BFGS in another form, which is harder to read,
and faster.

A move keeps its state in `state()`, of which `load` makes it go on exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Any]
Box = tuple[float, float]
EVERYWHERE: Box = (-math.inf, math.inf)


def free_of(x: Tensor, g: Tensor, box: Box, room: Tensor | None = None) -> Tensor:
    """1 where x can go along -g, 0 where it rests: at a wall that g presses it against, or where g
    is so small that x - g is x.

    As numbers, in `room`: a product with truth values takes twice the time.
    """
    return torch.sub(x, g, out=room).clamp_(*box).ne_(x)


def step_within(x: Tensor, step: Tensor, box: Box, room: Tensor) -> None:
    """Moves x by `step`, at most up to the walls of the box; `step` becomes the way it went."""
    torch.add(x, step, out=room).clamp_(*box)
    torch.sub(room, x, out=step)
    x.copy_(room)


Number = TypeVar("Number", float, Tensor)


def scale_of(sy: Number, yy: Number, ss: Number, boldness: float) -> Number:
    """c = (s.y / y.y)^(1 - b) (s.s / s.y)^b, the inverse curvature where no pair tells of it.

    Both tell the inverse curvature.  The second is that along s; the first, b = 0, is never more,
    and as cautious as the steepest direction that y has a part in asks for.
    """
    return (sy / yy) ** (1 - boldness) * (ss / sy) ** boldness


class QuasiNewtonMove(ABC):
    """x <- x + rate d within a box,  d = -H g, where H is built of the last `history` pairs (s, y).

    s = x' - x and y = g' - g from one place to the next; the first move has length
    rate min(|g|_1, 1), and none is longer than `longest` on average.  Values that are not free
    (`free_of`) rest: the move is one in all the others, and g, y and d are 0 there.  s is the way
    that x went in truth, at most up to the walls.  H starts from c of the newest pair (`scale_of`).
    """

    LEAST = 1e-10  # of s.y: below, a pair says nothing about the curvature

    def __init__(
        self,
        rate: float,
        history: int,
        longest: float = math.inf,
        box: Box = EVERYWHERE,
        boldness: float = 0.0,
    ) -> None:
        self.rate, self.history, self.longest = rate, history, longest
        self.box, self.boldness = box, boldness
        self._forget()

    @abstractmethod
    def _forget(self) -> None:
        """Begin without pairs."""

    @abstractmethod
    def move(self, x: Tensor, g: Tensor) -> bool:
        """Moves x; False if the direction is none of descent, and x stays."""

    @abstractmethod
    def displace(self) -> None:
        """x was put elsewhere: from the place of the last gradient to the next there is no pair."""

    @abstractmethod
    def enlarge(self, hw: tuple[int, int]) -> None:
        """Go on at another size with what the pairs tell of; where x was there, nobody knows."""

    @abstractmethod
    def state(self) -> State: ...

    @abstractmethod
    def load(self, state: State) -> None: ...


PIECE = 2048  # numbers with a scale of their own, where they are packed
Packed = tuple[Tensor, Tensor]  # integers in the numbers' shape, and the scales of their pieces
Kept = Tensor | Packed


def unpacked(kept: Kept) -> Tensor:
    """A pair's s or y as numbers: the other form's states have them packed (pairs.py)."""
    if isinstance(kept, Tensor):
        return kept
    integers, scales = kept
    each = scales.repeat_interleave(PIECE)[: integers.numel()]
    return integers * each.view(integers.shape)


class LBFGSMove(QuasiNewtonMove):
    """Two passes over the pairs, newest to oldest and back:

    q = g;   a_i = s_i.q / s_i.y_i,  q -= a_i y_i;   q *= c
    b_i = y_i.q / s_i.y_i,  q += (a_i - b_i) s_i;    d = -q
    """

    def _forget(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor, float]] = []  # s, y, s.y; oldest first
        self.scale = 1.0  # c
        self.before: Tensor | None = None  # the gradient at the last place
        self.step: Tensor | None = None  # s from there to here

    def move(self, x: Tensor, g: Tensor) -> bool:
        is_free = free_of(x, g, self.box)
        push = g * is_free
        if self.before is not None:
            self._remember((g - self.before) * is_free)
            step = self._direction(push).mul_(is_free)
        elif self.pairs:
            step = self._direction(push).mul_(is_free)
        else:
            step = push * -min(1.0, 1.0 / max(float(push.abs().sum()), 1e-30))
        if not _dot(step, push) <= 0:
            return False
        step.mul_(self.rate)
        mean = float(torch.linalg.vector_norm(step, 1)) / step.numel()
        if mean > self.longest:
            step.mul_(self.longest / mean)
        step_within(x, step, self.box, room=torch.empty_like(step))
        self.before, self.step = g.clone(), step
        return True

    def _remember(self, y: Tensor) -> None:
        """Takes in the pair that ends here, if it says something."""
        s = self.step
        assert s is not None
        product = _dot(s, y)
        if product > self.LEAST:
            self.scale = scale_of(product, _dot(y, y), _dot(s, s), self.boldness)
            self.pairs = [*self.pairs, (s, y, product)][-self.history :]

    def _direction(self, push: Tensor) -> Tensor:
        """d = -H g."""
        q = -push
        shares = []
        for s, y, product in reversed(self.pairs):
            shares.append(_dot(s, q) / product)
            q.add_(y, alpha=-shares[-1])
        q.mul_(self.scale)
        for (s, y, product), share in zip(self.pairs, reversed(shares)):
            q.add_(s, alpha=share - _dot(y, q) / product)
        return q

    def displace(self) -> None:
        self.before = self.step = None

    def enlarge(self, hw: tuple[int, int]) -> None:
        pairs = [(resized(s, hw), resized(y, hw)) for s, y, _ in self.pairs]
        found = [(s, y, _dot(s, y)) for s, y in pairs]
        self.pairs = [pair for pair in found if pair[2] > self.LEAST]
        self.before = self.step = None

    def state(self) -> State:
        return {
            "pairs": self.pairs,
            "scale": self.scale,
            "before": self.before,
            "step": self.step,
        }

    def load(self, state: State) -> None:
        self.pairs = [
            (unpacked(s).clone(), unpacked(y).clone(), product) for s, y, product in state["pairs"]
        ]
        self.scale = state["scale"]
        self.before, self.step = (
            None if t is None else t.clone() for t in (state["before"], state["step"])
        )


def resized(t: Tensor, hw: tuple[int, int]) -> Tensor:
    """A pair's s or y at another size."""
    return F.interpolate(t, hw, mode="bilinear")


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.reshape(-1), b.reshape(-1)))


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
