"""What users may rely on.  A name that goes or comes is a line in the changelog."""

from __future__ import annotations

import inspect
import subprocess
import sys

import torch

import fastconv

NAMES = {
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
}


def test_all_is_pinned_and_sorted() -> None:
    assert set(fastconv.__all__) == NAMES
    assert list(fastconv.__all__) == sorted(fastconv.__all__)
    assert all(hasattr(fastconv, name) for name in NAMES)


def test_nothing_else_is_public() -> None:
    public = {name for name in vars(fastconv) if not name.startswith("_")}
    modules = {name for name in public if inspect.ismodule(getattr(fastconv, name))}
    needed = {"annotations", "Any", "ModuleType", "TYPE_CHECKING"}
    assert public - modules - NAMES <= needed


def test_backends_stays_a_function_beside_the_folder_of_that_name() -> None:
    code = "import fastconv.backends.naive, fastconv; print(fastconv.backends()['naive'].name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "naive\n"


def test_conv2d_takes_what_torch_takes_in_the_same_order() -> None:
    parameters = inspect.signature(fastconv.conv2d).parameters
    expected = {
        "input": inspect.Parameter.empty,
        "weight": inspect.Parameter.empty,
        "bias": None,
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "backend": None,
        "algo": None,
    }
    assert {name: p.default for name, p in parameters.items()} == expected
    assert list(parameters) == list(expected)
    assert parameters["backend"].kind is inspect.Parameter.KEYWORD_ONLY


def test_every_public_name_is_documented() -> None:
    for name in NAMES - {"__version__"}:
        assert inspect.getdoc(getattr(fastconv, name)), name


def test_every_error_is_a_fastconv_error() -> None:
    for name in NAMES:
        if name.endswith("Error"):
            assert issubclass(getattr(fastconv, name), fastconv.FastconvError)


def test_importing_does_not_change_torch() -> None:
    assert torch.get_default_dtype() == torch.float32
