"""Frozen stacks against the same layers run one by one in double precision."""

from __future__ import annotations

import gc
import math
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from frozen_cases import (
    BACKWARD,
    FORWARD,
    differences,
    native_only,
    network,
    outputs_of,
    relative,
)
from torch import Tensor, nn

from fastconv import Conv2d, use_backend
from fastconv.algorithms import use_algorithm
from fastconv.errors import ArgumentError, DtypeError, UnknownBackendError
from fastconv.frozen import cpu_run, freeze
from fastconv.registry import load


@native_only
@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
@pytest.mark.parametrize(
    ("name", "taps"),
    [
        ("the end", [11]),
        ("after ReLUs on the way", [1, 3, 6, 11]),
        ("after pools", [4, 9]),
        ("before ReLUs", [0, 7, 10]),
        ("in any order, and one twice", [8, 1, 1]),
        ("the first layer alone", [0]),
    ],
)
def test_agrees_at_taps(pool: type[nn.Module], name: str, taps: list[int]) -> None:
    forward, backward = differences(network(pool), taps, torch.rand(1, 3, 40, 44))
    assert forward < FORWARD
    assert backward < BACKWARD


@native_only
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 3, 37, 50), (2, 3, 21, 30), (1, 3, 12, 97), (3, 3, 64, 64)])
@pytest.mark.parametrize("algo", ["f4", "f6"])
def test_agrees_at_sizes(shape: tuple[int, ...], layout: torch.memory_format, algo: str) -> None:
    x = torch.rand(shape).contiguous(memory_format=layout)
    with use_algorithm(algo):
        forward, backward = differences(network(), [3, 11], x)
    assert forward < 3 * FORWARD  # F(6x6) rounds three times as coarsely
    assert backward < BACKWARD


@native_only
@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
def test_a_picture_s_first_layer_may_be_pooled(pool: type[nn.Module]) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 40, 3, padding=1), nn.ReLU(), pool(2), nn.Conv2d(40, 70, 3, padding=1)
    )
    forward, backward = differences(module, [3], torch.rand(1, 3, 37, 99))
    assert forward < FORWARD
    assert backward < BACKWARD


@native_only
def test_what_cannot_be_fused_runs_unfused() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=2, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32).eval(),
        nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"),
        nn.Sigmoid(),
        Conv2d(32, 16, 3, padding=1),
        nn.ReLU(),
    )
    forward, backward = differences(module, [2, 4, 8], torch.rand(1, 3, 50, 61))
    assert forward < FORWARD
    assert backward < BACKWARD
    lines = freeze(module, [2, 4, 8], "native").describe(50, 61).splitlines()
    fused = [False] * 3 + [True, False, True, False, True]
    assert [("unfused" not in line) for line in lines] == fused


@native_only
@pytest.mark.parametrize("mode", ["replicate", "reflect", "circular"])
def test_other_padding_is_written_out_before_a_run(mode: str) -> None:
    module = network()
    for index in (0, 5):
        module[index].padding_mode = mode
    forward, backward = differences(module, [1, 6, 11], torch.rand(2, 3, 31, 28))
    assert forward < FORWARD
    assert backward < BACKWARD
    lines = freeze(module, [11], "native").describe(31, 28).splitlines()
    assert [line for line in lines if "unfused" in line] == []
    assert freeze(module, [11], "native").memory(31, 28) > 0


def test_every_backend_agrees(backend: str) -> None:
    module, x = network(channels=2), torch.rand(1, 3, 14, 15)
    forward, backward = differences(module, [1, 8], x, freeze(module, [1, 8], backend))
    assert forward < FORWARD
    assert backward < BACKWARD


def test_backend_in_force_is_used_and_doubles_are_computed_in_double() -> None:
    module = network(channels=2)
    x = torch.rand(1, 3, 14, 15, dtype=torch.float64)
    with use_backend("torch"):
        (y,) = freeze(module.double(), [8])(x)
    assert y.dtype == torch.float64
    assert relative(y, outputs_of(module, [8], x)[0]) < 1e-12


@native_only
def test_two_calls_live_at_once() -> None:
    module = network()
    frozen = freeze(module, [4, 11], "native")
    pictures = [torch.rand(1, 3, 32, 36).requires_grad_() for _ in range(3)]
    losses = [sum((y * y).sum() for y in frozen(x)) for x in pictures]
    for x, loss in reversed(list(zip(pictures, losses, strict=True))):
        loss.backward()  # type: ignore[union-attr]
        alone = x.detach().clone().requires_grad_()
        sum((y * y).sum() for y in freeze(module, [4, 11], "native")(alone)).backward()  # type: ignore[union-attr]
        assert torch.equal(x.grad, alone.grad)  # type: ignore[arg-type]


@native_only
def test_sizes_may_alternate_between_forward_and_backward() -> None:
    frozen = freeze(network(), [11], "native")
    small, large = (torch.rand(1, 3, s, s).requires_grad_() for s in (24, 48))
    (first,), (second,) = frozen(small), frozen(large)
    first.sum().backward()
    second.sum().backward()
    alone = small.detach().clone().requires_grad_()
    freeze(frozen.module, [11], "native")(alone)[0].sum().backward()
    assert torch.equal(small.grad, alone.grad)  # type: ignore[arg-type]


@native_only
def test_an_output_stays_what_it_was_after_the_next_call() -> None:
    frozen = freeze(network(), [1, 11], "native")
    kept = frozen(torch.rand(1, 3, 32, 32))
    before = [y.clone() for y in kept]
    frozen(torch.rand(1, 3, 32, 32))
    for y, was in zip(kept, before, strict=True):
        assert torch.equal(y, was)


@native_only
def test_threads_may_share_one_stack() -> None:
    frozen = freeze(network(), [11], "native")
    pictures = [torch.rand(1, 3, 40, 40) for _ in range(4)]
    expected = [frozen(x)[0].clone() for x in pictures]
    results: dict[int, bool] = {}

    def work(index: int) -> None:
        results[index] = all(
            torch.equal(frozen(pictures[index])[0], expected[index]) for _ in range(5)
        )

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(4), True)


@native_only
def test_later_steps_touch_no_fresh_memory() -> None:
    frozen = freeze(network(channels=32), [4, 11], "native")
    x = torch.rand(1, 3, 256, 256).requires_grad_()

    def faults_of_a_step() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        x.grad = None
        outputs = frozen(x)
        torch.autograd.backward(outputs, gradients)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    gradients = [torch.randn_like(y) for y in frozen(x)]
    gc.collect()
    faults = [faults_of_a_step() for _ in range(15)]
    # the interpreter may need a page, and the system may move some between two steps
    assert sorted(faults[10:])[2] <= 2, faults


@native_only
def test_memory_is_known_beforehand() -> None:
    frozen = freeze(network(), [11], "native")
    small, large = frozen.memory(64, 64), frozen.memory(256, 256)
    assert 0 < small < large < 100 << 20
    ((_, plan),) = [
        (0, piece.run.plan(1, 256, 256)) for piece in frozen._made_pieces("cpu") if piece.run
    ]
    held = (
        sum(part.numel() * 4 for part in (*plan.arena, plan.space()))
        + plan.decisions.take().numel() * 2
    )
    assert held < large


@native_only
def test_large_pictures_need_one_set_of_weights_and_the_memory_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever size was before; and the gradient is that of two sets, with the same decisions."""
    module = network(channels=32)
    frozen, plain = freeze(module, [11], "native"), freeze(module, [11], "native")
    for size, sets in ((24, 2), (320, 1), (24, 2)):
        x = torch.rand(1, 3, size, size, requires_grad=True)
        monkeypatch.setattr(cpu_run, "SHARED_FROM", math.inf)
        (expected,) = torch.autograd.grad(plain(x)[0].square().sum(), x)
        monkeypatch.setattr(cpu_run, "SHARED_FROM", 0)  # these channels are few
        (gradient,) = torch.autograd.grad(frozen(x)[0].square().sum(), x)
        assert relative(gradient, expected) < 1e-5
        ((run, plan),) = [
            (piece.run, piece.run.plan(1, size, size))
            for piece in frozen._made_pieces("cpu")
            if piece.run
        ]
        assert len(run.stages[1].kept) == sets
        held = sum(u.numel() * 4 for stage in run.stages for u in stage.kept.values())
        with_arena = held + sum(part.numel() * 4 for part in (*plan.arena, plan.space()))
        assert with_arena < frozen.memory(size, size) < with_arena + 5 * 3 * 32 * size * size


@native_only
def test_nan_passes_through_relu_and_pool_as_in_torch() -> None:
    module, x = network(), torch.rand(1, 3, 32, 32)
    x[0, 0, 10, 10] = float("nan")
    (y,) = freeze(module, [4], "native")(x)
    (expected,) = outputs_of(module, [4], x)
    assert torch.equal(y.isnan() & expected.isnan(), expected.isnan())


@native_only
def test_autocast_lowers_the_precision_as_in_torch() -> None:
    module, x = network(), torch.rand(1, 3, 32, 32)
    frozen = freeze(module, [11], "native")
    with torch.autocast("cpu", torch.bfloat16):
        (y,), (expected,) = frozen(x), outputs_of(module, [11], x)
    assert y.dtype == expected.dtype == torch.bfloat16
    assert torch.allclose(y.float(), expected.float(), rtol=0.1, atol=0.02)


@native_only
def test_layers_that_run_by_themselves_are_described() -> None:
    module = nn.Sequential(Conv2d(3, 8, 5, stride=2, padding_mode="reflect", padding=2), nn.ReLU())
    first, second = freeze(module, [1], "native").describe(33, 40).splitlines()
    assert "Conv2d" in first
    assert "ReLU" in second


@native_only
def test_second_derivatives_are_refused() -> None:
    x = torch.rand(1, 3, 32, 32).requires_grad_()
    (y,) = freeze(network(), [11], "native")(x)
    (dx,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
    assert "once" in freeze.__doc__
    with pytest.raises(RuntimeError, match=r"first derivatives alone; freeze.*backend='torch'"):
        dx.sum().backward()


@native_only
def test_no_gradient_goes_to_the_weights() -> None:
    module = network()
    x = torch.rand(1, 3, 32, 32).requires_grad_()
    freeze(module, [11], "native")(x)[0].sum().backward()
    assert all(parameter.grad is None for parameter in module.parameters())


@native_only
@pytest.mark.parametrize("moments", [(), (11,)])
def test_more_threads_than_at_the_first_call_find_room(moments: tuple[int, ...]) -> None:
    x, before = torch.rand(1, 3, 40, 36, requires_grad=True), torch.get_num_threads()
    frozen = freeze(network(), [11], "native", moments)

    def gradient(threads: int, back: int) -> Tensor:
        torch.set_num_threads(threads)
        results = frozen(x)
        torch.set_num_threads(back)
        return torch.autograd.grad(sum(y.square().sum() for y in _tensors(results)), x)[0]

    try:
        expected = gradient(1, 1)
        for threads, back in ((1, 4), (5, 5), (2, 7), (1, 1)):
            torch.testing.assert_close(gradient(threads, back), expected)
    finally:
        torch.set_num_threads(before)


def _tensors(results: Any) -> list[Tensor]:
    return [t for each in results for t in ([each] if isinstance(each, Tensor) else each)]


def test_too_small_pictures_and_wrong_channels_are_refused_in_one_line() -> None:
    frozen = freeze(network(), [11], "native")
    with pytest.raises(ArgumentError, match="layer 0 expects 3 channels, got 4"):
        frozen(torch.rand(1, 4, 32, 32))
    with pytest.raises(ArgumentError, match="larger picture"):
        frozen(torch.rand(1, 3, 6, 6))
    with pytest.raises(ArgumentError, match=r"\(n, c, h, w\)"):
        frozen(torch.rand(3, 32, 32))


def test_bad_arguments_are_refused() -> None:
    module = network()
    with pytest.raises(DtypeError, match="Sequential"):
        freeze(nn.Conv2d(3, 3, 3), [0])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="below 12"):
        freeze(module, [12])
    with pytest.raises(ArgumentError, match="at least one"):
        freeze(module, [])
    with pytest.raises(DtypeError, match="indices"):
        freeze(module, ["relu1_1"])  # type: ignore[list-item]
    with pytest.raises(UnknownBackendError):
        freeze(module, [0], "nativ")


@native_only
@pytest.mark.parametrize("isa", ["avx512", "avx2", "plain"])
def test_lower_instruction_sets_agree(isa: str) -> None:
    if isa not in load("native").instruction_sets():  # type: ignore[attr-defined]
        pytest.skip(f"this processor has no {isa}")
    if isa == load("native").instruction_set():  # type: ignore[attr-defined]
        pytest.skip(f"{isa} is what all other tests ran on")
    parts = ("frozen", "frozen_moments", "frozen_operators")
    files = [str(Path(__file__).with_name(f"test_{part}.py")) for part in parts]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files]
    command += ["-k", "agrees_at or nan_passes or pooled or moments or way_back or few_channels"]
    environment = {**os.environ, "FASTCONV_ISA": isa}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
