"""csrc/cuda/build.cmake: when the CUDA kernels are built, and what is said when not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[2] / "csrc" / "cuda" / "build.cmake"
CMAKE = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
pytestmark = [
    pytest.mark.skipif(CMAKE is None, reason="no cmake here (pip install cmake)"),
    pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for nvcc"),
]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Configures a project of nothing but build.cmake; gives cmake's exit code and its words."""
    for name in ("FASTCONV_CUDA", "CUDACXX", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)

    def run(
        wanted: str | None, torch_cuda: str | None, nvcc: str | None, *more: str
    ) -> tuple[int, str]:
        torch = tmp_path / "torch"
        torch.mkdir(exist_ok=True)
        (torch / "version.py").write_text(f"cuda: Optional[str] = {torch_cuda!r}\n")
        if nvcc is not None:
            _script(tmp_path / "toolkit" / "bin" / "nvcc", nvcc)
            monkeypatch.setenv("CUDA_HOME", str(tmp_path / "toolkit"))
        if wanted is not None:
            monkeypatch.setenv("FASTCONV_CUDA", wanted)
        (tmp_path / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.26)\nproject(only_this LANGUAGES NONE)\n"
            f'set(TORCH_FOLDER "{torch}")\ninclude("{BUILD}")\n'
        )
        command = [str(CMAKE), "-S", str(tmp_path), "-B", str(tmp_path / "build"), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return run


def _script(path: Path, release: str) -> None:
    """An nvcc that tells its release and compiles nothing."""
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\necho "Cuda compilation tools, release {release}, V{release}.1"\n')
    path.chmod(0o755)


def test_auto_leaves_the_kernels_out_on_a_cpu_only_torch(configure) -> None:
    code, words = configure(None, None, "13.0")
    assert code == 0
    assert "no CUDA kernels: this torch is built without CUDA" in words


def test_0_leaves_them_out_whatever_is_there(configure) -> None:
    code, words = configure("0", "13.0", "13.0")
    assert code == 0
    assert "no CUDA kernels: FASTCONV_CUDA=0" in words


def test_another_word_is_refused(configure) -> None:
    code, words = configure("yes", "13.0", None)
    assert code != 0
    assert "FASTCONV_CUDA expects auto, 1 or 0, got 'yes'." in words


DIFFER = "they need the same major version: set CUDA_HOME to a toolkit of CUDA 13"


def test_auto_leaves_them_out_where_nvcc_is_of_another_version(configure) -> None:
    code, words = configure("auto", "13.0", "12.8")
    assert code == 0
    assert "torch is built for CUDA 13.0" in words
    assert DIFFER in words


def test_1_fails_where_nvcc_is_of_another_version(configure) -> None:
    code, words = configure("1", "13.0", "12.8")
    assert code != 0
    assert DIFFER in words


def test_1_fails_where_nvcc_cannot_compile(configure) -> None:
    code, words = configure("1", "13.0", "13.1")
    assert code != 0
    assert "cannot compile a program" in words


@pytest.mark.parametrize(("wanted", "fails"), [("auto", False), ("1", True)])
def test_a_missing_nvcc_is_told(
    configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: str, fails: bool
) -> None:
    never_run = f"-DCMAKE_MAKE_PROGRAM={sys.executable}"  # but looked for, in vain, on this PATH
    monkeypatch.setenv("PATH", str(tmp_path))
    options = ("-DFASTCONV_CUDA_FOLDERS=", "-G", "Unix Makefiles", never_run)
    code, words = configure(wanted, "13.0", None, *options)
    assert (code != 0) is fails
    assert "nvcc was not found; install the CUDA toolkit 13.0, or set CUDA_HOME" in words
