"""What computes a run: the device, the backend, and whether its steps are recorded.

What the user names is taken or refused; `auto` takes the first that can.
"""

from __future__ import annotations

import torch

from fastconv.backends.table import CHOICES
from fastconv.errors import BackendUnavailableError, DtypeError
from fastconv.registry import current_backend, resolve

from ..config.options import StyleConfig
from ..errors import ConfigError
from .precision import PRECISIONS


def choose_device(name: str) -> torch.device:
    """The device for a flag, or ConfigError if this machine lacks the one that was named."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        there = ", ".join(device for device, is_there in available.items() if is_there)
        raise ConfigError(f"device {name!r} is not available here; choose auto or one of: {there}")
    return torch.device(name)


def choose_backend(config: StyleConfig) -> str:
    """The backend that computes the network: of `auto`, the first with the precision's kernels.

    Half types that a backend has no kernels for would be computed in float32 and rounded, slower
    and worse than float32 itself: that is refused.
    """
    device, wanted = choose_device(config.device), PRECISIONS[config.precision].computed
    if PRECISIONS[config.precision].products:
        return _choose_for_products(config, device)
    if device.type == "mps" and wanted == torch.float64:
        raise ConfigError("precision float64 is not there on mps; choose float32 or --device cpu")
    named = current_backend() if config.backend == "auto" else config.backend
    for name in CHOICES[1:] if named == "auto" else (named,):
        try:
            _, computed = resolve(name, device.type, wanted)
        except (BackendUnavailableError, DtypeError):
            if named != "auto":
                raise
            continue
        if computed == wanted:
            return name
    raise ConfigError(
        f"precision {config.precision} expects a backend with kernels for it, got {named}, which "
        f"would compute in float32 and round; choose --backend torch or --precision float32"
    )


def _choose_for_products(config: StyleConfig, device: torch.device) -> str:
    """The backend for float32 whose products may be rounded: native on CUDA alone."""
    named = current_backend() if config.backend == "auto" else config.backend
    if device.type != "cuda" or named not in ("auto", "native"):
        raise ConfigError(
            f"precision {config.precision} expects the native backend on cuda, got "
            f"{named} on {device.type}; choose --precision float32"
        )
    resolve("native", device.type, torch.float32)  # whose error says why it is missing
    return "native"


def choose_graph(config: StyleConfig) -> str:
    """`--graph` as it stands, or ConfigError if it asks for what the device does not have."""
    device = choose_device(config.device)
    if config.graph == "on" and device.type != "cuda":
        raise ConfigError(
            f"graph 'on' expects device cuda, got {device.type}; choose --graph auto, which "
            "records a step wherever that can be done"
        )
    return config.graph
