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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "csrc"
FOLDER = ROOT / "build" / "cuda_on_cpu"
FLAGS = ("-std=c++20", "-O1", "-fPIC", "-w", "-U_FORTIFY_SOURCE", f"-I{SOURCES}")
ORDERS = (0, 1, 2, 3)  # first to last, last to first, two random ones


class KernelError(Exception):
    """What the emulator found."""


def library() -> ctypes.CDLL:
    if not sys.platform.startswith("linux"):
        pytest.skip("kernels run on the CPU only on Linux: the emulator's fibres are ucontext's")
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler here to build the CUDA kernels for the CPU with")
    built = _built(compiler)
    if isinstance(built, str):
        pytest.fail(built, pytrace=False)
    return built


@functools.cache
def _built(compiler: str) -> ctypes.CDLL | str:
    """The library, or what went wrong: once, not once a test."""
    sources = sorted({*SOURCES.glob("cuda/**/*.cu"), *SOURCES.glob("cuda/**/*.cpp")})
    headers = sorted(
        {*SOURCES.glob("*.h"), *SOURCES.glob("cuda/**/*.h"), *SOURCES.glob("cuda/**/*.cuh")}
    )
    common = b"".join(path.read_bytes() for path in headers) + " ".join((compiler, *FLAGS)).encode()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as compilers:
        objects = list(compilers.map(lambda source: _compiled(compiler, source, common), sources))
    wrong = [said for _, said in objects if said]
    if wrong:
        return "the CUDA kernels do not compile for the CPU:\n" + "\n".join(wrong)
    paths = [path for path, _ in objects]
    together = FOLDER / f"libkernels-{_digest(*(path.name.encode() for path in paths))}.so"
    if said := _made(together, [compiler, "-shared", *map(str, paths)]):
        return f"the CUDA kernels do not link for the CPU:\n{said}"
    loaded = ctypes.CDLL(str(together))
    loaded.fastconv_emulator_message.restype = ctypes.c_char_p
    loaded.fastconv_emulator_allocate.restype = ctypes.c_void_p
    loaded.fastconv_emulator_allocate.argtypes = (ctypes.c_size_t, ctypes.c_int)
    loaded.fastconv_emulator_release.argtypes = (ctypes.c_void_p,)
    return loaded


def _compiled(compiler: str, source: Path, common: bytes) -> tuple[Path, str]:
    """The object of a source, made if it is not there already, and the compiler's complaint."""
    target = FOLDER / f"{source.name}-{_digest(source.read_bytes(), common)}.o"
    return target, _made(target, [compiler, *FLAGS, "-x", "c++", "-c", str(source)])


def _made(target: Path, command: list[str]) -> str:
    """Runs the command for a file that is not there, in place of what earlier sources gave."""
    if target.exists():
        return ""
    part = target.with_suffix(f".{os.getpid()}.part")
    done = subprocess.run([*command, "-o", str(part)], capture_output=True, text=True)
    if done.returncode:
        return done.stderr
    for old in FOLDER.glob(f"{target.stem.rpartition('-')[0]}-*{target.suffix}"):
        old.unlink(missing_ok=True)
    part.replace(target)
    return ""


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
