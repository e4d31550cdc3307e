"""What computes a run: the device, the backend, whether its steps are recorded, and the memory.

What the user names is taken or refused; `auto` takes the first that can.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

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


class Memory(NamedTuple):
    """Bytes that a process can have: now, and if nothing else were running."""

    free: int
    total: int


def memory_of(device: torch.device, root: Path = Path("/")) -> Memory | None:
    """The memory of a device, within the limits of its control groups; None if not known."""
    if device.type == "cuda":
        return Memory(*torch.cuda.mem_get_info(device))
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        found = Memory(
            1024 * kilobytes["MemAvailable"],
            1024 * (kilobytes["MemTotal"] + kilobytes.get("SwapTotal", 0)),
        )
    except (OSError, KeyError, ValueError, IndexError):  # not Linux
        try:
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            return None
        return Memory(total, total)
    for free, limit in _cgroup_limits(root):
        found = Memory(min(found.free, free), min(found.total, limit))
    return found


def _cgroup_limits(root: Path) -> Iterator[Memory]:
    """Of each control group around this process that has a limit, what is left of it, and it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, place in (line.split(":", 2) for line in lines):
        if controllers == "":  # version 2
            top, limit, used, cache = "", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, used = "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        base = root / "sys/fs/cgroup" / top
        own = base / place.strip("/")  # in a container its parents may be all that can be seen
        for group in (own, *own.parents[: len(own.parts) - len(base.parts)]):
            try:
                most, taken = int((group / limit).read_text()), int((group / used).read_text())
                stat = (group / "memory.stat").read_text().split()
            except (OSError, ValueError):  # not there, or `max`
                continue
            # files that the system keeps at hand give way to a program
            given_back = int(stat[stat.index(cache) + 1]) if cache in stat else 0
            yield Memory(max(0, most - taken + given_back), most)


def check_fits(
    needed: int, what: str, advice: Callable[[int], str], device: torch.device | None = None
) -> None:
    """ConfigError if `what` needs more memory than there is, a warning if more than is free.

    `advice` says what to do, given the bytes that there are.
    """
    memory = memory_of(device or torch.device("cpu"))
    if memory is None:
        return
    said = f"{what} needs about {needed / 2**30:.2f} GB of memory"
    if needed > memory.total:
        has = f"{memory.total / 2**30:.2f} GB in all here"
        raise ConfigError(f"{said}, and there are {has}: {advice(memory.total)}")
    if needed > memory.free:
        free = f"{memory.free / 2**30:.2f} GB are free"
        warnings.warn(f"{said}, and {free}: {advice(memory.free)}", stacklevel=2)
