"""L-BFGS by the two-loop recursion (J. Nocedal, 1980): the readable form, and MPS's."""

from __future__ import annotations

import torch
from torch import Tensor

from .quasi_newton import (
    QuasiNewtonMove,
    State,
    free_variables,
    resized,
    scale_of,
    step_within,
    unpacked,
)


class TwoLoopMove(QuasiNewtonMove):
    """Two loops over the pairs, newest to oldest and back:

    q = g;   a_i = s_i.q / s_i.y_i,  q -= a_i y_i;   q *= c
    b_i = y_i.q / s_i.y_i,  q += (a_i - b_i) s_i;    d = -q
    """

    def _forget(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor, float]] = []  # s, y, s.y; oldest first
        self.scale = 1.0  # c
        self.before: Tensor | None = None  # the gradient at the last place
        self.step: Tensor | None = None  # s from there to here

    def move(self, x: Tensor, g: Tensor) -> bool:
        free = free_variables(x, g, self.box)
        reduced = g * free
        if self.before is not None:
            self._remember((g - self.before) * free)
            step = self._direction(reduced).mul_(free)
        elif self.pairs:
            step = self._direction(reduced).mul_(free)
        else:
            step = reduced * -min(1.0, 1.0 / max(float(reduced.abs().sum()), 1e-30))
        if not _dot(step, reduced) <= 0:
            return False
        step.mul_(self.rate)
        mean = float(torch.linalg.vector_norm(step, 1)) / step.numel()
        if mean > self.longest:
            step.mul_(self.longest / mean)
        step_within(x, step, self.box, buffer=torch.empty_like(step))
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

    def _direction(self, reduced: Tensor) -> Tensor:
        """d = -H g."""
        q = -reduced
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


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.reshape(-1), b.reshape(-1)))
