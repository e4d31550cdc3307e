"""What is minimised at one scale: a list of terms made into one function of the picture x.

    total = sum of weight[i] * value[i](reading of x)

content terms are multiplied by a factor b, which is 1 unless `--balance auto` moves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from fastconv import Moments

from ..networks.loss_scaling import GradientScale
from .balance import CONTENT, STYLE, Balance
from .evaluation import Evaluation, Values
from .term import Reading, Term


class Readable(Protocol):
    """What an objective needs of a network."""

    scaling: GradientScale | None

    @property
    def against_recording(self) -> str: ...

    def read(
        self, rgb: Tensor, features: Sequence[str] = (), moments: Sequence[str] = ()
    ) -> tuple[dict[str, Tensor], dict[str, Moments]]: ...


class Objective:
    """The function of x at one scale.

    x, the content and the mask have one size, (n, 3, h, w) and (n, 1, h, w).  Where the mask is 0,
    x is replaced by the content before it is evaluated.
    """

    def __init__(
        self,
        network: Readable,
        terms: Iterable[Term],
        balance: Balance | None = None,
        content: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        self.network, self.terms, self.balance = network, tuple(terms), balance
        self.content, self.mask = content, mask
        self.features = _asked(term.features for term in self.terms)
        self.moments = _asked(term.moments for term in self.terms)
        self.sums: dict[str, dict[str, float]] = {}
        for term in self.terms:
            if "/" in term.name:
                self.sums.setdefault(term.group, {})[term.name] = term.share
        self._weights: Tensor | None = None

    def weights(self, like: Tensor) -> Tensor:
        """The terms' weights as a tensor, which a CUDA graph reads at each replay."""
        if self._weights is None:
            self._weights = like.new_tensor(self._weighed())
        return self._weights

    def _weighed(self) -> list[float]:
        factor = self.balance.factor if self.balance else 1.0
        return [t.weight * (factor if t.group in CONTENT else 1.0) for t in self.terms]

    def seen(self, x: Tensor) -> Tensor:
        """x, or outside the mask the content."""
        if self.mask is None or self.content is None:
            return x
        return self.content + self.mask * (x - self.content)

    def __call__(self, x: Tensor) -> Evaluation:
        seen = self.seen(x)
        if self.features or self.moments:
            reading = Reading(seen, *self.network.read(seen, self.features, self.moments))
        else:
            reading = Reading(seen)
        values = {term.name: term.value(reading) for term in self.terms}
        # one operation: each costs about 10 us and as much backward (0c5276e, 2026-11)
        total = torch.dot(torch.stack(list(values.values())), self.weights(x))
        return Evaluation(total, {"total": total, **values}, self.sums)

    @property
    def reported(self) -> Values:
        """What belongs to an evaluation besides its own values."""
        return {"balance": self.balance.factor} if self.balance else {}

    @property
    def scaling(self) -> GradientScale | None:
        """What keeps gradients in the range of the network's precision, where that is needed."""
        return self.network.scaling

    @property
    def against_recording(self) -> str:
        """Why an evaluation cannot be recorded into a CUDA graph, or nothing."""
        return self.network.against_recording

    def rebalance(self, values: Values) -> bool:
        """Let `--balance auto` use an evaluation; True if the weights have changed."""
        if self.balance is None:
            return False
        content, style = (self._weight_of(groups, values) for groups in (CONTENT, STYLE))
        has_moved = self.balance.watch(content, style)
        if has_moved:
            self.reweigh()
        return has_moved

    def reweigh(self) -> None:
        """Write the balanced weights into the same buffer, which a CUDA graph reads."""
        if self._weights is not None:
            self._weights.copy_(torch.tensor(self._weighed(), dtype=self._weights.dtype))

    def _weight_of(self, groups: Sequence[str], values: Values) -> float:
        return sum(t.weight * values[t.name] for t in self.terms if t.group in groups)


def _asked(layers: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Every layer once, in the order in which it is first asked for."""
    return tuple(dict.fromkeys(layer for several in layers for layer in several))
