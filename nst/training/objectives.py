"""What is learnt: a table of objectives.

To add one, write a function from `Pictures` to a `Task` and give it a row in OBJECTIVES.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..errors import ConfigError
from .augment import MILD, STRONG, Dice, Strength, middle, views
from .datasets import Pictures
from .options import TrainOptions


@dataclass(frozen=True)
class Task:
    """Which picture has which target, how it may be changed, and what it is evaluated on."""

    targets: Tensor  # (n,) of every picture
    classes: list[str]
    strength: Strength
    train: Tensor  # indices of the pictures to learn from
    test: Tensor
    test_views: Callable[[Tensor, int, int], Tensor]  # uint8 pictures, size, seed -> rgb


def exemplar(pictures: Pictures, options: TrainOptions) -> Task:
    """Every picture is a class of its own, to be recognised under strong augmentation.

    Evaluated on views that training never drew, of the same pictures.
    """
    n = len(pictures.images)
    if n < 2:
        raise ConfigError(f"objective exemplar expects 2 pictures or more, got {n}")
    everyone, strength = torch.arange(n), STRONG.with_colour(options.color)

    def drawn(batch: Tensor, size: int, seed: int) -> Tensor:
        return views(batch, size, strength, Dice(2**40 + seed, batch.device))

    return Task(everyone, pictures.names, strength, everyone, everyone, drawn)


def labels(pictures: Pictures, options: TrainOptions) -> Task:
    """The dataset's classes; evaluated on pictures held out of each class.

    A class with one picture is learnt from it and not evaluated.
    """
    if len(pictures.classes) < 2:
        raise ConfigError(
            "objective labels expects a folder with a sub-folder for each of 2 classes or more, "
            f"got {len(pictures.classes)}; use --objective exemplar for plain pictures"
        )
    test = pictures.test
    if test is None:
        test = _held_out(pictures.labels, options.held_out, options.seed)
    learnt = torch.ones(len(pictures.labels), dtype=torch.bool)
    learnt[test] = False
    train = learnt.nonzero()[:, 0]
    if len(test) == 0:
        test = train

    def whole(batch: Tensor, size: int, seed: int) -> Tensor:
        return middle(batch, size)

    return Task(pictures.labels, pictures.classes, MILD, train, test, whole)


def _held_out(targets: Tensor, part: float, seed: int) -> Tensor:
    generator = Generator().manual_seed(seed)
    chosen = []
    for label in targets.unique().tolist():
        members = (targets == label).nonzero()[:, 0]
        shuffled = members[torch.randperm(len(members), generator=generator)]
        count = min(len(members) - 1, max(1, round(part * len(members)))) if part else 0
        chosen.append(shuffled[:count])
    return torch.cat(chosen).sort().values


OBJECTIVES: dict[str, Callable[[Pictures, TrainOptions], Task]] = {
    "exemplar": exemplar,
    "labels": labels,
}
