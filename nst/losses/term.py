"""A term of the objective: a name, a weight, and how its value follows from what was read.

Everything that an objective minimises is such a term, and everything that shows losses (progress,
plots, CSV, history) goes through the list of them.  To add one, say what it asks of the network:

    Term("style/relu3_1", weight, lambda reading: distance(reading.moments["relu3_1"]),
         moments=("relu3_1",))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fastconv import Moments


@dataclass(frozen=True)
class Reading:
    """What an evaluation knows: the picture (n, 3, h, w), and what the network gave for it."""

    picture: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)  # layer -> (n, c, h, w)
    moments: Mapping[str, Moments] = field(default_factory=dict)  # layer -> (n, c), (n, c, c)


@dataclass(frozen=True)
class Term:
    """One number of the objective: total = sum of weight * value over all terms.

    A name with a slash belongs to a group: 'style/relu1_1' counts `share` in the value of 'style'
    that is shown beside it.  `features` and `moments` are the layers that `value` needs of the
    network: features as they are, or only their moments, which is cheaper.
    """

    name: str
    weight: float
    value: Callable[[Reading], Tensor]
    share: float = 1.0
    features: tuple[str, ...] = ()
    moments: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        return self.name.partition("/")[0]


def groups(row: Mapping[str, float]) -> dict[str, float]:
    """Of a row of the history, the losses: the total and each group, without single layers.

    >>> groups({"iteration": 1, "seconds": 2.0, "total": 3.0, "style": 4.0, "style/relu1_1": 4.0})
    {'total': 3.0, 'style': 4.0}
    """
    return {n: v for n, v in row.items() if "/" not in n and n not in ABOUT_THE_STEP}


ABOUT_THE_STEP = ("iteration", "scale", "seconds", "balance")  # what a row holds beside losses
