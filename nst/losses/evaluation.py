"""One evaluation of an objective: the total and every part of it, as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Values = dict[str, float]


class Evaluation:
    """The total, still differentiable, and every part of it, the total among them.

    Parts are numbers or, on a device, tensors.  Reading a number from a device synchronises with
    it: `stacked` and `read` transfer once, the parts and the gradient's sum together.
    `sums` are values that follow from the parts': sum_i weight[i] part[i].
    """

    def __init__(
        self,
        total: Tensor,
        parts: Mapping[str, Tensor | float],
        sums: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.total, self.sums = total, sums or {}
        self.parts = {n: p.detach() if isinstance(p, Tensor) else p for n, p in parts.items()}
        self.slope = 0.0  # the gradient's sum, which is not finite where any of it is not
        self._values: Values | None = None

    def stacked(self, slope: Tensor) -> Tensor:
        """The parts that are tensors, and `slope`."""
        return torch.stack([*(p for p in self.parts.values() if isinstance(p, Tensor)), slope])

    def read(self, stacked: Tensor) -> None:
        """Read the numbers from the device, in one transfer."""
        *found, self.slope = stacked.tolist()
        numbers = iter(found)
        parts = self.parts.items()
        values = {n: next(numbers) if isinstance(p, Tensor) else p for n, p in parts}
        for name, weights in self.sums.items():
            values[name] = sum(weight * values[n] for n, weight in weights.items())
        self._values = values

    @property
    def values(self) -> Values:
        """Every part as a number."""
        if self._values is None:
            self.read(self.stacked(self.total.new_zeros(())))
            assert self._values is not None
        return self._values

    @property
    def has_finite_total(self) -> bool:
        return math.isfinite(self.values["total"])

    @property
    def has_finite_gradient(self) -> bool:
        return math.isfinite(self.slope)
