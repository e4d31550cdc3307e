"""Winograd's algorithms, against torch's convolution in double precision.

The tolerance is on the L2 norm, relative to the result's: F(4x4) rounds about 5 times as coarsely
as the definition, F(6x6) about 15 times, growing slowly with the channels.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import fastconv
from fastconv import backends, registry
from fastconv.algorithms import CHOICES, current_algorithm, use_algorithm
from fastconv.errors import ArgumentError
from fastconv.geometry import geometry_of

if not backends()["native"].available:
    pytest.skip(backends()["native"].reason, allow_module_level=True)

native = registry.load("native")
from fastconv.backends import prepared  # noqa: E402

TOLERANCE = {"f4": 3e-6, "f6": 1.5e-5}
LAYOUTS = {"planar": torch.contiguous_format, "channels last": torch.channels_last}

# name, (n, c_in, h, w), c_out, padding
CASES = (
    ("one pixel", (1, 1, 1, 1), 1, 1),
    ("one pixel in wide padding", (1, 3, 1, 1), 2, 3),
    ("one tile of 4", (1, 16, 4, 4), 16, 1),
    ("one past a tile of 4", (1, 15, 5, 5), 17, 1),
    ("one short of a tile of 6", (2, 17, 5, 5), 15, 1),
    ("one past a tile of 6", (1, 33, 7, 7), 33, 1),
    ("no padding", (1, 16, 12, 9), 16, 0),
    ("padding of two, as the gradient of no padding has", (1, 16, 12, 9), 16, 2),
    ("padding of three, whose gradient crops", (1, 16, 7, 8), 16, 3),
    ("rows and columns padded differently", (1, 16, 9, 7), 16, (2, 0)),
    ("narrower than a vector", (2, 20, 30, 3), 20, 1),
    ("one past two strips of tiles", (1, 16, 5, 97), 16, 1),
    ("exactly two strips of tiles", (1, 16, 4, 96), 16, 1),
    ("three pictures", (3, 32, 10, 11), 32, 1),
    ("a picture's three channels", (1, 3, 20, 21), 64, 1),
    ("64 channels to three", (1, 64, 20, 21), 3, 1),
    ("65 outputs, one past a block of 64", (1, 64, 16, 16), 65, 1),
    ("so many channels that threads share the tiles", (1, 160, 24, 24), 130, 1),
    ("so many tiles that each thread sums weights' gradients", (2, 20, 131, 139), 24, 1),
)
NAMES = [case[0] for case in CASES]


def relative_error(result: Tensor, expected: Tensor) -> float:
    return float((result.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("algo", ["f4", "f6"])
@pytest.mark.parametrize(("name", "shape", "c_out", "padding"), CASES, ids=NAMES)
def test_agrees_with_double_precision(
    name: str,
    shape: tuple[int, int, int, int],
    c_out: int,
    padding: int | tuple[int, int],
    algo: str,
    layout: str,
) -> None:
    x, bias = torch.randn(shape), torch.randn(c_out)
    weight = torch.randn(c_out, shape[1], 3, 3)
    x64, weight64 = x.double().requires_grad_(), weight.double().requires_grad_()
    y64 = F.conv2d(x64, weight64, bias.double(), padding=padding)
    dy = torch.randn(y64.shape)
    y64.backward(dy.double())
    g, backend = geometry_of(shape, weight.shape, padding=padding), native.using(algo)
    x, dy = (t.contiguous(memory_format=LAYOUTS[layout]) for t in (x, dy))
    assert native.explain("forward", g, x.dtype, layout != "planar", algo) == f"winograd_{algo}"
    assert relative_error(backend.forward(x, weight, bias, g), y64.detach()) < TOLERANCE[algo]
    assert relative_error(backend.grad_input(dy, weight, g), x64.grad) < TOLERANCE[algo]
    assert relative_error(backend.grad_weight(dy, x, g), weight64.grad) < TOLERANCE[algo]


@pytest.mark.parametrize("channels", [16, 64, 160])
def test_gradients_do_not_depend_on_which_thread_was_faster(channels: int) -> None:
    x, dy = torch.randn(2, 1, channels, 131, 139)
    g = geometry_of(x.shape, (channels, channels, 3, 3), padding=1)
    first = native.using("f4").grad_weight(dy, x, g)
    for _ in range(5):
        assert torch.equal(native.using("f4").grad_weight(dy, x, g), first)


def test_padding_may_differ_from_side_to_side() -> None:
    x, weight = torch.randn(1, 16, 9, 9), torch.randn(16, 16, 3, 3)
    g = geometry_of((1, 16, 12, 14), weight.shape)
    flat = list(g.flat)
    flat[2:4], flat[9:13] = [9, 9], [1, 2, 0, 5]
    expected = F.conv2d(F.pad(x.double(), (0, 5, 1, 2)), weight.double())
    for algo in ("f4", "f6"):
        y = torch.ops.fastconv.forward(x, weight, None, flat, CHOICES.index(algo))
        assert relative_error(y, expected) < TOLERANCE[algo]


@pytest.mark.parametrize("channels", [64, 128, 256, 512])
def test_auto_is_accurate_to_5e_6_on_what_a_relu_lets_through(channels: int) -> None:
    x = torch.randn(1, channels, 100, 100).relu()
    weight = torch.randn(64, channels, 3, 3) * (2 / 9 / channels) ** 0.5
    y = fastconv.conv2d(x, weight, padding=1, backend="native")
    assert relative_error(y, F.conv2d(x.double(), weight.double(), padding=1)) < 5e-6


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"stride": 2}, torch.float32),
        ({"dilation": 2}, torch.float32),
        ({"groups": 2}, torch.float32),
        ({}, torch.float64),
    ],
)
def test_other_convolutions_are_computed_directly(
    options: dict[str, int], dtype: torch.dtype
) -> None:
    g = geometry_of((1, 32, 40, 40), (32, 32 // options.get("groups", 1), 3, 3), **options)
    for algo in ("auto", "f4", "f6"):
        for operation in ("forward", "grad_input", "grad_weight"):
            assert "winograd" not in native.explain(operation, g, dtype, False, algo)


def test_direct_is_direct() -> None:
    g = geometry_of((1, 64, 64, 64), (64, 64, 3, 3), padding=1)
    for operation in ("forward", "grad_input", "grad_weight"):
        assert "winograd" not in native.explain(operation, g, torch.float32, False, "direct")


# The weights that stay transformed


def layer() -> tuple[Tensor, Tensor]:
    return torch.randn(1, 32, 20, 20), torch.randn(32, 32, 3, 3)


def wrong_by(x: Tensor, weight: Tensor) -> float:
    with use_algorithm("f4"):
        y = fastconv.conv2d(x, weight, padding=1, backend="native")
    return relative_error(y.detach(), F.conv2d(x.double(), weight.detach().double(), padding=1))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.mul_(2),
        lambda w: w.data.mul_(2),
        lambda w: w.numpy().__setitem__((0, 0, 0, 0), 9.0),
        lambda w: w[3, 4].zero_(),
    ],
    ids=["in place", "behind .data", "one number through numpy", "through a view"],
)
def test_a_changed_weight_is_noticed(change: object) -> None:
    x, weight = layer()
    assert wrong_by(x, weight) < TOLERANCE["f4"]
    change(weight)  # type: ignore[operator]
    assert wrong_by(x, weight) < TOLERANCE["f4"]


def test_an_unchanged_weight_is_transformed_once_for_each_direction() -> None:
    x, weight = layer()
    prepared.clear()
    x.requires_grad_()
    for _ in range(3):
        with use_algorithm("f4"):
            fastconv.conv2d(x, weight, padding=1, backend="native").sum().backward()
    (entry,) = prepared._entries.values()
    assert sorted(entry.transformed) == [(4, False), (4, True)]


def test_transformed_weights_go_with_their_tensor() -> None:
    x, weight = layer()
    prepared.clear()
    wrong_by(x, weight)
    assert len(prepared._entries) == 1
    del weight
    gc.collect()
    assert not prepared._entries


def test_weights_prepared_for_another_shape_are_refused() -> None:
    x, weight = layer()
    g = geometry_of(x.shape, weight.shape, padding=1)
    u = torch.ops.fastconv.prepare(torch.randn(64, 32, 3, 3), 4, False)
    with pytest.raises(ValueError, match="prepared"):
        torch.ops.fastconv.forward(x, weight, None, g.flat, CHOICES.index("f4"), u)
    with pytest.raises(ValueError, match="prepared"):
        torch.ops.fastconv.forward(x, weight, None, g.flat, CHOICES.index("direct"), u)


# The choice


def test_algorithm_is_chosen_by_statement_and_block() -> None:
    with use_algorithm("f6"):
        assert current_algorithm() == "f6"
        with use_algorithm("f4"):
            assert current_algorithm() == "f4"
        assert current_algorithm() == "f6"


@pytest.mark.parametrize(("value", "said"), [("", "auto"), ("f6", "f6"), ("wino", "'wino'")])
def test_algorithm_is_chosen_by_the_environment(value: str, said: str) -> None:
    program = "from fastconv.algorithms import current_algorithm; print(current_algorithm())"
    environment = {**os.environ, "FASTCONV_ALGO": value}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert said in (run.stdout if value != "wino" else run.stderr.splitlines()[-1])


def test_unknown_algorithm_is_refused_with_the_choices() -> None:
    with pytest.raises(ArgumentError, match=r"did you mean 'f4'.*auto, direct, f4, f6"):
        use_algorithm("f44")


@pytest.mark.parametrize("isa", native.instruction_sets()[1:])
def test_every_instruction_set_agrees(isa: str) -> None:
    here = Path(__file__)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(here)]
    command += ["-k", "double_precision or side_to_side"]
    environment = {**os.environ, "FASTCONV_ISA": isa}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.parametrize("algo", ["direct", "f4", "f6"])
def test_an_algorithm_may_be_named_in_the_call_and_gradients_keep_it(algo: str) -> None:
    x = torch.randn(1, 16, 24, 24, requires_grad=True)
    w = torch.randn(16, 16, 3, 3)
    y = fastconv.conv2d(x, w, padding=1, backend="native", algo=algo)
    (named,) = torch.autograd.grad(y.sum(), x)
    with fastconv.use_algorithm(algo):
        z = fastconv.conv2d(x, w, padding=1, backend="native")
    (in_force,) = torch.autograd.grad(z.sum(), x)
    assert torch.equal(y, z)
    assert torch.equal(named, in_force)


def test_an_algorithm_for_another_backend_is_refused() -> None:
    x, w = torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3)
    with pytest.raises(fastconv.UnsupportedError, match="native"):
        fastconv.conv2d(x, w, backend="naive", algo="f4")
    with pytest.raises(fastconv.ArgumentError, match="did you mean 'f4'"):
        fastconv.conv2d(x, w, backend="native", algo="f44")
