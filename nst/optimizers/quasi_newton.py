"""L-BFGS within a box: what its two forms have in common.

two_loop_lbfgs.py is the two-loop recursion, the form of the textbooks; compact_lbfgs.py computes
the same moves with the pairs as rows of one matrix, which is faster.  Both agree with torch.optim's
where there is no box (tests hold that); to make torch's first optimiser imports torch._dynamo, half
a second that a short run feels.

A move keeps its state in `state()`, of which `load` makes it go on exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fastconv import packed
from fastconv.packed import Packed

State = dict[str, Any]
Box = tuple[float, float]
EVERYWHERE: Box = (-math.inf, math.inf)


def free_variables(x: Tensor, g: Tensor, box: Box, out: Tensor | None = None) -> Tensor:
    """1 where x can move along -g, 0 in the active set: at a bound that -g points out of, or where
    g is so small that x - g is x.

    As numbers: a product with truth values takes twice the time.
    """
    return torch.sub(x, g, out=out).clamp_(*box).ne_(x)


def step_within(x: Tensor, step: Tensor, box: Box, buffer: Tensor) -> None:
    """Moves x by `step`, at most up to its bounds; `step` becomes the difference."""
    torch.add(x, step, out=buffer).clamp_(*box)
    torch.sub(buffer, x, out=step)
    x.copy_(buffer)


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
    rate min(|g|_1, 1), and none is longer than `longest` on average.  Values in the active set stay
    (`free_variables`): the move is one in the free variables, and g, y and d are 0 elsewhere.  s is
    x' - x after the bounds have cut it.  H starts from c of the newest pair (`scale_of`).
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


Stored = Tensor | Packed


def unpacked(stored: Stored) -> Tensor:
    """A pair's s or y as numbers: the compact form's states may have them in 16 bits."""
    return stored if isinstance(stored, Tensor) else packed.unpacked(stored)


def resized(t: Tensor, hw: tuple[int, int]) -> Tensor:
    """A pair's s or y at another size."""
    return F.interpolate(t, hw, mode="bilinear")
