"""Weights that stay transformed: found for the same contents alone, and within bounds of memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastconv import backends, conv2d

if not backends()["native"].available:
    pytest.skip(backends()["native"].reason, allow_module_level=True)

from fastconv.backends import prepared


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    prepared.clear()
    yield
    prepared.clear()


def wrong_by(weight: Tensor) -> float:
    """The largest error of a convolution with these weights, and of its gradient to the input."""
    x = torch.randn(1, weight.shape[1], 16, 16, requires_grad=True)
    y = conv2d(x, weight, padding=1, backend="native", algo="f4")
    expected = F.conv2d(x, weight, padding=1)
    (dx,), (known,) = (torch.autograd.grad(t.sum(), x) for t in (y, expected))
    return float(max((y - expected).detach().abs().max(), (dx - known).abs().max()))


def seen_otherwise(weight: Tensor) -> None:
    weight.data = weight.data.view(64, 128, 3, 3)


def set_to_another(weight: Tensor) -> None:
    weight.set_(weight.data.view(64, 128, 3, 3))  # type: ignore[call-overload]


def cut_short(weight: Tensor) -> None:
    weight.resize_(64, 96, 3, 3)


def with_other_strides(weight: Tensor) -> None:
    weight.data = weight.data.as_strided((128, 64, 3, 3), (9, 128 * 9, 3, 1))


def in_double_precision_and_back(weight: Tensor) -> None:
    weight.data = (3 * weight.data).double()
    weight.data = weight.data.float()


@pytest.mark.parametrize(
    "change",
    [
        seen_otherwise,
        set_to_another,
        cut_short,
        with_other_strides,
        in_double_precision_and_back,
    ],
)
def test_the_same_tensor_with_other_contents_is_transformed_anew(
    change: Callable[[Tensor], None],
) -> None:
    weight = torch.randn(128, 64, 3, 3)
    assert wrong_by(weight) < 0.01
    change(weight)
    assert wrong_by(weight) < 0.01


def test_what_another_thread_writes_meanwhile_is_not_kept_for_what_was_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between hashing and transforming: the weights double, and are halved again afterwards."""
    weight, prepare = torch.randn(64, 64, 3, 3), torch.ops.fastconv.prepare
    numbers = weight.numpy()  # autograd sees nothing of what happens there

    def prepare_beside_a_writer(given: Tensor, tile: int, rotated: bool) -> Tensor:
        numbers[:] *= 2
        made: Tensor = prepare(given, tile, rotated)
        numbers[:] /= 2
        return made

    with monkeypatch.context() as patched:
        patched.setattr(torch.ops.fastconv, "prepare", prepare_beside_a_writer)
        wrong_by(weight)
    assert wrong_by(weight) < 0.01


def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what is transformed from now on, to be kept."""
    made, prepare = [], torch.ops.fastconv.prepare

    def counted(weight: Tensor, tile: int, rotated: bool) -> Tensor:
        made.append(tuple(weight.shape))
        return prepare(weight, tile, rotated)  # type: ignore[no-any-return]

    monkeypatch.setattr(torch.ops.fastconv, "prepare", counted)
    return made


SIZE = 36 * 64 * 64 * 4  # of a U of F(4x4)


def test_no_more_is_kept_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "most_kept", 5 * SIZE)
    weights = [torch.randn(64, 64, 3, 3) for _ in range(6)]
    for weight in weights:
        assert wrong_by(weight) < 0.01
        assert prepared.kept_bytes() <= 5 * SIZE
    assert prepared.kept_bytes() >= 4 * SIZE


def test_weights_in_turns_that_do_not_fit_together_do_not_put_each_other_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prepared, "most_kept", 5 * SIZE)
    weights = [torch.randn(64, 64, 3, 3) for _ in range(6)]
    made = calls(monkeypatch)
    for _ in range(4):
        for weight in weights:
            wrong_by(weight)
    assert len(made) == 5


def test_weights_no_longer_used_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "most_kept", 5 * SIZE)
    idle = [torch.randn(64, 64, 3, 3) for _ in range(3)]
    for weight in idle:
        wrong_by(weight)
    weight = torch.randn(64, 64, 3, 3)
    made = calls(monkeypatch)
    for _ in range(5):
        assert wrong_by(weight) < 0.01
    assert len(made) == 2  # for each direction, at the second call


def test_weights_that_change_at_every_step_keep_one_set_for_each_direction() -> None:
    weight = torch.randn(64, 64, 3, 3)
    for _ in range(4):
        weight.mul_(1.01)
        assert wrong_by(weight) < 0.01
        assert prepared.kept_bytes() == 2 * SIZE


def run(megabytes: str, program: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FASTCONV_KEEP_MB": megabytes}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_zero_megabytes_keep_no_transformed_weights() -> None:
    program = (
        "import torch, fastconv; from fastconv.backends import prepared\n"
        "x, w = torch.ones(1, 64, 16, 16), torch.ones(64, 64, 3, 3)\n"
        "y = fastconv.conv2d(x, w, padding=1, backend='native', algo='f4')\n"
        "print(prepared.kept_bytes(), float(y[0, 0, 8, 8]))"
    )
    kept, value = run("0", program).stdout.split()
    assert int(kept) == 0
    assert float(value) == pytest.approx(576, rel=1e-5)


@pytest.mark.parametrize("words", ["abc", "-5", "1e3", "3.5", " ", "99999999999999"])
def test_megabytes_that_are_no_number_are_refused_in_one_line(words: str) -> None:
    program = (
        "import torch, fastconv\n"
        "try:\n"
        "    fastconv.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3), backend='native')\n"
        "except fastconv.ArgumentError as error:\n"
        "    print(error)"
    )
    done = run(words, program)
    assert done.stdout.splitlines() == [
        f"FASTCONV_KEEP_MB expects a whole number of megabytes, 0 or more, got '{words}'"
    ], done.stderr
