"""fastconv: 2-d convolution from scratch, forward and backward, on exchangeable backends."""

from __future__ import annotations

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

__version__ = "0.1.0"

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
