"""Frozen stacks that are copied, saved, changed, and run in other circumstances."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from frozen_cases import native_only, network
from torch import Tensor, nn

from fastconv import ArgumentError, Frozen, freeze

MODES = {"reflect": 2, "circular": 1}  # with one pixel of padding, the fewest pixels


def gradient_of(frozen: Frozen, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    taps, moments = frozen(x)
    (taps.square().sum() + moments.mean.sum() + moments.covariance.sum()).backward()
    assert x.grad is not None
    return [x.grad, taps.detach(), *(moment.detach() for moment in moments)]


@native_only
def test_default_dtype_of_double_changes_nothing() -> None:
    frozen, x = freeze(network(), [8], "native", [11]), torch.rand(1, 3, 32, 36)
    expected = gradient_of(frozen, x)
    torch.set_default_dtype(torch.float64)
    try:
        got = gradient_of(frozen, x)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def saved_and_loaded(frozen: Frozen) -> Frozen:
    file = io.BytesIO()
    torch.save(frozen, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Frozen], Frozen]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda frozen: pickle.loads(pickle.dumps(frozen)),
    "torch.save": saved_and_loaded,
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("used", [False, True])
def test_copies_compute_the_same_by_themselves(
    duplicate: Callable[[Frozen], Frozen], used: bool, backend: str
) -> None:
    frozen, x = freeze(network(channels=4), [8], backend, [11]), torch.rand(1, 3, 16, 16)
    if used:
        frozen(x)
    again = duplicate(frozen)
    assert again.module is not frozen.module
    assert next(again.parameters()).data_ptr() != next(frozen.parameters()).data_ptr()
    torch.testing.assert_close(gradient_of(again, x), gradient_of(frozen, x), rtol=0, atol=0)


# --- changed weights


def step(module: nn.Sequential) -> None:
    with torch.no_grad():
        module[5].weight.mul_(1.5)


def step_of_bias(module: nn.Sequential) -> None:
    with torch.no_grad():
        module[5].bias.add_(1)


def another_parameter(module: nn.Sequential) -> None:
    module[5].weight = nn.Parameter(module[5].weight.detach() * 2)


def other_data(module: nn.Sequential) -> None:
    module[5].weight.data = module[5].weight.data * 2


@native_only
@pytest.mark.parametrize("change", [step, step_of_bias, another_parameter, other_data])
def test_changed_weights_are_refused(change: Callable[[nn.Sequential], None]) -> None:
    module, x = network(), torch.rand(1, 3, 32, 32)
    frozen = freeze(module, [11], "native")
    frozen(x)
    change(module)
    with pytest.raises(ArgumentError, match=r"the (weight|bias) of layer 5 has changed.*freeze"):
        frozen(x)
    torch.testing.assert_close(
        freeze(module, [11], "native")(x)[0],
        freeze(module, [11], "torch")(x)[0],
        rtol=1e-3,
        atol=1e-3,
    )


@native_only
def test_weights_may_change_before_the_first_call() -> None:
    module, x = network(), torch.rand(1, 3, 32, 32)
    frozen = freeze(module, [11], "native")
    frozen.memory(32, 32)
    step(module)
    expected = freeze(module, [11], "torch")(x)[0]
    torch.testing.assert_close(frozen(x)[0], expected, rtol=1e-3, atol=1e-3)


# --- pictures too small to pad


@pytest.mark.parametrize("moments", [(), (2,)])
@pytest.mark.parametrize("mode", MODES)
def test_padding_wider_than_the_picture_names_the_layer(
    mode: str, moments: tuple[int, ...], backend: str
) -> None:
    conv = nn.Conv2d(4, 5, 3, padding=1, padding_mode=mode)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), conv)
    frozen = freeze(module, [2], backend, moments)
    least = MODES[mode]
    assert frozen(torch.rand(1, 3, 2 * least, 8))[0].shape == (1, 5, least, 4)
    if mode == "circular":
        return  # one pixel is enough
    with pytest.raises(ArgumentError, match=r"layer 2 pads in mode 'reflect' by 1 x 1.*1 x 4 pix"):
        frozen(torch.rand(1, 3, 2, 8))


# --- memory that runs out

OUT_OF_MEMORY = """
import re, resource, torch, fastconv
from torch import nn
x, w = torch.randn(1, 1024, 8, 8), torch.randn(1024, 1024, 3, 3)
calls = {
    "conv2d": lambda: fastconv.conv2d(x, w, padding=1, algo="f4", backend="native"),
    "frozen": lambda: fastconv.freeze(nn.Sequential(conv), [0], "native")(x),
}
conv = nn.Conv2d(1024, 1024, 3, padding=1)
small = torch.randn(1, 8, 8, 8)
fastconv.conv2d(small, torch.randn(8, 8, 3, 3), padding=1, backend="native")
with open("/proc/self/status") as status:
    size = int(re.search(r"VmSize:\\s+(\\d+)", status.read())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20),) * 2)
try:
    calls["NAME"]()
except fastconv.OutOfMemoryError as error:
    print(error)
"""


@native_only
@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does")
@pytest.mark.parametrize("name", ["conv2d", "frozen"])
def test_no_memory_for_transformed_weights_is_said_plainly(name: str) -> None:
    program: list[Any] = [sys.executable, "-c", OUT_OF_MEMORY.replace("NAME", name)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert "not enough memory for" in done.stdout, done.stderr[-500:]
    assert "torch_call_dispatcher" not in done.stdout + done.stderr
