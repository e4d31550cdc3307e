"""The native backend on every instruction set that this machine has, not only on its best.

The set is chosen when the extension is loaded, so that each one needs a process of its own.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastconv import backends, registry

HERE = Path(__file__).parent
EXTENSION = f"import sys; sys.path.insert(0, {str(HERE)!r}); import extension; "
FILES = ("test_conv2d.py", "test_gradients.py")  # their tests of the native backend
WHOLE = (
    "test_matrix_unit.py",
    "test_threads.py",
    "test_frozen_moments.py",
    "test_distance.py",
    "test_packed_rows.py",
)


def instruction_sets() -> list[str]:
    if not backends()["native"].available:
        return []
    return registry.load("native").instruction_sets()  # type: ignore[attr-defined]


def run(isa: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FASTCONV_ISA": isa}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("isa", instruction_sets())
def test_named_set_is_the_one_in_use(isa: str) -> None:
    ask = "from fastconv.backends import native; print(native.instruction_set())"
    done = run(isa, "-c", EXTENSION + ask)
    assert done.stdout.strip() == isa, done.stderr


@pytest.mark.parametrize("isa", instruction_sets()[1:])  # all other tests run on the first
def test_case_table_and_gradients(isa: str) -> None:
    options = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    chosen = ["-k", "native and not halves and not second"]
    for words in ([*chosen, *FILES], WHOLE):
        paths = [str(HERE / word) if word.endswith(".py") else word for word in words]
        done = run(isa, *options, *paths)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_unknown_set_is_refused() -> None:
    if not instruction_sets():
        pytest.skip(backends()["native"].reason)
    done = run("avx1024", "-c", EXTENSION + "import fastconv; fastconv.use_backend('native')")
    assert done.returncode != 0
    assert "avx1024" in done.stderr
    for isa in instruction_sets():
        assert isa in done.stderr


def test_no_wide_instruction_stands_outside_its_set() -> None:
    """A processor without AVX must be able to run everything but the kernels for AVX."""
    native = registry.load("native")
    if shutil.which("objdump") is None or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("needs objdump, and an x86 processor's vectors")
    library = sys.modules["fastconv._C"].__file__
    words = ["objdump", "-d", "-C", "--no-show-raw-insn", str(library)]
    listing = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    function, strays, kernels = "", set(), set()
    for line in listing.splitlines():
        if line.endswith(">:"):
            function = line.split("<", 1)[1][:-2]
        elif any(register in line for register in ("%ymm", "%zmm", "%tmm")):
            own = any(f"::{isa}::" in function for isa in ("avx2", "avx512", "amx"))
            (kernels if own else strays).add(function)
    assert not strays
    assert kernels, "the listing names no kernel: was the library stripped?"
    assert "plain" in native.instruction_sets()
