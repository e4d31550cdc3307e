"""Training of feature networks: `nst train`, and where the built-in one comes from.

    options.py      TrainOptions, the only home of the options
    datasets.py     pictures in memory      augment.py   random views of them
    objectives.py   what is learnt          model.py     the network with heads
    loop.py         Training, a step at a time
    running.py      train(options): checkpoints, curves, the exported file

The names are loaded when they are first used: `nst train --help` need not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .options import TrainOptions
    from .running import Trained, train
    from .watching import Watcher

_HOMES = {
    "TrainOptions": "options",
    "Trained": "running",
    "train": "running",
    "Watcher": "watching",
}

__all__ = ["TrainOptions", "Trained", "Watcher", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nst.training' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
