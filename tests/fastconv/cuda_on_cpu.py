"""The CUDA kernels' own sources, compiled by the system's C++ compiler and run on the CPU.

`library()` compiles csrc/cuda/**/*.cu with csrc/cuda/host (see device.h there) into one shared
library, kept under build/ until a source changes, and skips the test where that cannot be done.
`Memory` is a card's memory between guard pages; `run` turns a kernel's mistake into an exception.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "csrc"
FLAGS = ("-std=c++20", "-O1", "-fPIC", "-w", "-U_FORTIFY_SOURCE", f"-I{SOURCES}")
ORDERS = (0, 1, 2, 3)  # first to last, last to first, two random ones


class KernelError(Exception):
    """What the emulator found."""


@functools.cache
def library() -> ctypes.CDLL:
    if not sys.platform.startswith("linux"):
        pytest.skip("kernels run on the CPU only on Linux: the emulator's fibres are ucontext's")
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler here to build the CUDA kernels for the CPU with")
    sources = sorted({*SOURCES.glob("cuda/**/*.cu"), *SOURCES.glob("cuda/**/*.cpp")})
    headers = sorted(
        {*SOURCES.glob("*.h"), *SOURCES.glob("cuda/**/*.h"), *SOURCES.glob("cuda/**/*.cuh")}
    )
    common = b"".join(path.read_bytes() for path in headers) + " ".join((compiler, *FLAGS)).encode()
    built = ROOT / "build" / "cuda_on_cpu"
    built.mkdir(parents=True, exist_ok=True)
    objects = _compile(compiler, sources, common, built)
    together = built / f"lib{_digest(*(path.name.encode() for path in objects))}.so"
    if not together.exists():
        _renamed(together, [compiler, "-shared", *map(str, objects)])
    loaded = ctypes.CDLL(str(together))
    loaded.fastconv_emulator_message.restype = ctypes.c_char_p
    loaded.fastconv_emulator_allocate.restype = ctypes.c_void_p
    loaded.fastconv_emulator_allocate.argtypes = (ctypes.c_size_t, ctypes.c_int)
    loaded.fastconv_emulator_release.argtypes = (ctypes.c_void_p,)
    return loaded


def _compile(compiler: str, sources: list[Path], common: bytes, built: Path) -> list[Path]:
    """One object a source, two compilers at a time; what did not change is there already."""
    objects = []
    running: list[tuple[subprocess.Popen[bytes], Path, Path]] = []
    for source in sources:
        target = built / f"{source.stem}-{_digest(source.read_bytes(), common)}.o"
        objects.append(target)
        if target.exists():
            continue
        part = target.with_suffix(f".{os.getpid()}.part")
        command = [compiler, *FLAGS, "-x", "c++", "-c", str(source), "-o", str(part)]
        running.append((subprocess.Popen(command), part, target))
        if len(running) == 2:
            _finish(running.pop(0))
    while running:
        _finish(running.pop(0))
    return objects


def _finish(job: tuple[subprocess.Popen[bytes], Path, Path]) -> None:
    process, part, target = job
    assert process.wait() == 0, f"{target.stem} does not compile for the CPU"
    part.replace(target)


def _renamed(target: Path, command: list[str]) -> None:
    part = target.with_suffix(f".{os.getpid()}.part")
    subprocess.run([*command, "-o", str(part)], check=True)
    part.replace(target)


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


class Memory:
    """A copy of an array between guard pages, or NaN of its shape.

    `at_end` says at which page; `skip` numbers lie before it, so that its address is odder than
    the 16 bytes to which memory is aligned.
    """

    def __init__(
        self, array: NDArray, at_end: bool = True, filled: bool = True, skip: int = 0
    ) -> None:
        array = np.ascontiguousarray(array)
        self._library = library()
        before = skip * array.itemsize
        self._start = self._library.fastconv_emulator_allocate(before + array.nbytes, int(at_end))
        self.pointer: int = self._start + before
        raw = (ctypes.c_ubyte * array.nbytes).from_address(self.pointer)
        self.array: NDArray = np.frombuffer(raw, array.dtype).reshape(array.shape)
        if filled:
            self.array[...] = array

    def __del__(self) -> None:
        if hasattr(self, "_start"):
            self._library.fastconv_emulator_release(self._start)


def run(name: str, *arguments: object, order: int = 0) -> None:
    """Calls the launch function of that name, the threads in that order (see ORDERS)."""
    loaded = library()
    loaded.fastconv_emulator_set_order(order)
    if getattr(loaded, name)(*arguments) != 0:
        raise KernelError(loaded.fastconv_emulator_message().decode())
