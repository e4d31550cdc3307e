"""Import torchvision, also where its compiled part does not fit the torch that is installed.

The torchvision of the package index is built for CUDA.  Beside a CPU torch its extension cannot
load, and then its Python part fails on the schemas of two operators that nothing here uses.
They are defined first, and only then; models, weights, transforms and datasets all work.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

_SCHEMA = "{}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: torch.library.Library | None = None  # the definitions live as long as this object


def import_torchvision(module: str = "torchvision") -> ModuleType:
    """torchvision or one of its modules, such as `torchvision.datasets`."""
    global _library
    try:
        return importlib.import_module(module)
    except RuntimeError as error:
        if "torchvision::nms" not in str(error) or _library is not None:
            raise
    _library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        _library.define(_SCHEMA.format(operator))
    return importlib.import_module(module)
