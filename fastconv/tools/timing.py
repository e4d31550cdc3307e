"""Measuring several ways of doing the same thing beside each other.

The contract: contenders take turns in one process, round by round, so that whatever disturbs
the machine disturbs all of them; each is called before the clock runs; medians and the
interquartile range are reported; nothing but the public call is inside the timed region.
"""

from __future__ import annotations

import ctypes
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds per call: median, and the quartiles around it."""

    median: float
    low: float
    high: float
    rounds: int


def measure(
    contenders: Mapping[str, Callable[[], object]], seconds: float = 1.0, rounds: int = 5
) -> dict[str, Timing]:
    """Time every contender, in turns, for about `seconds` each and at least `rounds` rounds."""
    repeats = {}
    for name, call in contenders.items():
        call()  # compiles, fills caches
        started = time.perf_counter()
        call()
        once = max(time.perf_counter() - started, 1e-7)
        repeats[name] = max(1, round(seconds / rounds / once))
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            samples[name] += _samples(call, repeats[name])
    return {name: _summary(values) for name, values in samples.items()}


def _samples(call: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return times


def _summary(samples: list[float]) -> Timing:
    if len(samples) < 2:
        return Timing(samples[0], samples[0], samples[0], 1)
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Timing(median, low, high, len(samples))


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


@contextmanager
def warm_allocator() -> Iterator[bool]:
    """Let malloc keep large blocks instead of mapping them anew (glibc only; yields whether).

    As shipped, every tensor over 32 MB is fresh memory, at more than a microsecond per 4 KB page:
    a good part of what a large convolution costs.  Benchmarks give torch both ways.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is None:
        yield False
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 512 << 20)
    try:
        yield True
    finally:
        mallopt(_M_MMAP_MAX, 65536)
        mallopt(_M_TRIM_THRESHOLD, 128 << 10)
        mallopt(_M_TOP_PAD, 128 << 10)
        libc.malloc_trim(0)  # type: ignore[union-attr]


def machine() -> dict[str, str]:
    """What a figure depends on: processor, threads, versions."""
    return {
        "processor": processor_name(),
        "threads": str(torch.get_num_threads()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def cards() -> list[str]:
    """The CUDA cards in reach, with compute capability and torch's CUDA."""
    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        name = torch.cuda.get_device_name(index)
        found.append(f"{name} (compute capability {major}.{minor}, CUDA {torch.version.cuda})")
    return found


def processor_name() -> str:
    """The processor's own name where the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            pairs = [line.split(":", 1) for line in file if ":" in line]
        fields = {name.strip(): value.strip() for name, value in pairs}
        family = fields.get("cpu family", "?")
        return f"{fields['model name']} (family {family}, model {fields.get('model', '?')})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()
