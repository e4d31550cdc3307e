"""fastconv: 2-d convolution from scratch, forward and backward, on exchangeable backends.

The names are loaded when one of them is first used: `fastconv --help` need not wait for torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

_HOMES = {
    "ArgumentError": "errors",
    "BackendInfo": "registry",
    "BackendUnavailableError": "errors",
    "Conv2d": "modules",
    "DtypeError": "errors",
    "FastconvError": "errors",
    "Frozen": "frozen",
    "Moments": "frozen",
    "Normalize": "modules",
    "OutOfMemoryError": "errors",
    "UnknownBackendError": "errors",
    "UnsupportedError": "errors",
    "conv2d": "functional",
    "current_algorithm": "algorithms",
    "current_backend": "registry",
    "current_precision": "precision",
    "freeze": "frozen",
    "gram_distance": "distance",
    "mean_square": "distance",
    "moments_of": "frozen",
    "set_precision": "precision",
    "swap_convs": "modules",
    "use_algorithm": "algorithms",
    "use_backend": "registry",
}

if TYPE_CHECKING:
    from .algorithms import current_algorithm, use_algorithm
    from .distance import gram_distance, mean_square
    from .errors import (
        ArgumentError,
        BackendUnavailableError,
        DtypeError,
        FastconvError,
        OutOfMemoryError,
        UnknownBackendError,
        UnsupportedError,
    )
    from .frozen import Frozen, Moments, freeze, moments_of
    from .functional import conv2d
    from .modules import Conv2d, Normalize, swap_convs
    from .precision import current_precision, set_precision
    from .registry import BackendInfo, backends, current_backend, use_backend

__version__ = "0.2.0"

__all__ = [
    "ArgumentError",
    "BackendInfo",
    "BackendUnavailableError",
    "Conv2d",
    "DtypeError",
    "FastconvError",
    "Frozen",
    "Moments",
    "Normalize",
    "OutOfMemoryError",
    "UnknownBackendError",
    "UnsupportedError",
    "__version__",
    "backends",
    "conv2d",
    "current_algorithm",
    "current_backend",
    "current_precision",
    "freeze",
    "gram_distance",
    "mean_square",
    "moments_of",
    "set_precision",
    "swap_convs",
    "use_algorithm",
    "use_backend",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = getattr(importlib.import_module(f"fastconv.{_HOMES[name]}"), name)
        globals()[name] = found  # the next time, Python finds it by itself
        return found
    if not name.startswith("_"):
        try:
            return importlib.import_module(f"fastconv.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"fastconv.{name}":
                raise
    raise AttributeError(f"module 'fastconv' has no attribute {name!r}")


class _Package(ModuleType):
    """`fastconv.backends` is the function, even though there is a folder of that name, which Python
    would put in its place when a module of it is first imported."""

    @property
    def backends(self) -> Any:
        return importlib.import_module("fastconv.registry").backends

    @backends.setter
    def backends(self, folder: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package
