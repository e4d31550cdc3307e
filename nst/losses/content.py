"""Content losses: how far features are from the content's, place by place.

A content loss is a function (features, target) -> value of two tensors (n, c, h, w), or a class
of such functions, of which every layer gets an object of its own.  To add one, write it and give
it a row in table.py; a loss of the user's own needs no row (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fastconv import mean_square
from fastconv.memory import Recycler

ContentLoss = Callable[[Tensor, Tensor], Tensor]


class MeanSquare:
    """mean (f - p)^2."""

    def __init__(self) -> None:
        self._memory: Recycler | None = None
        self._shape: object = None

    def __call__(self, f: Tensor, p: Tensor) -> Tensor:
        if f.shape != self._shape:  # memory for one size, used again at every evaluation
            self._memory, self._shape = Recycler.like(f), f.shape
        return mean_square(f, p.expand_as(f), self._memory)


class HalfSum(MeanSquare):
    """The paper's 1/2 sum (f - p)^2; of several pictures, the mean of theirs."""

    def __call__(self, f: Tensor, p: Tensor) -> Tensor:
        return super().__call__(f, p) * (f[0].numel() / 2)


class ContentDistance:
    """A content loss at one layer with its target (1, c, h, w).

    With `normalize` it is divided by the same loss of the target's means against the target, so
    that a weight means the same at every size, for every network and every layer.
    """

    def __init__(self, loss: ContentLoss, target: Tensor, normalize: bool) -> None:
        self.loss, self.target = loss, target
        nothing = target.mean((2, 3), keepdim=True).expand_as(target)
        size = float(loss(nothing, target)) if normalize else 1.0
        self.scale = 1 / max(size, 1e-12)

    def __call__(self, f: Tensor) -> Tensor:
        value = self.loss(f, self.target)
        return value if self.scale == 1.0 else value * self.scale
