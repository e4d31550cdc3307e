"""Frozen stacks against the same layers run one by one in double precision."""

from __future__ import annotations

import copy
import gc
import math
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fastconv import Conv2d, backends, frozen_run, moments_of, use_backend
from fastconv.algorithms import use_algorithm
from fastconv.errors import ArgumentError, DtypeError, UnknownBackendError
from fastconv.frozen import Frozen, freeze
from fastconv.registry import load

native_only = pytest.mark.skipif(
    not backends()["native"].available, reason=backends()["native"].reason
)


FORWARD, BACKWARD = 1e-5, 1e-4


def network(pool: Callable[..., nn.Module] = nn.MaxPool2d, channels: int = 16) -> nn.Sequential:
    """Three scales: 0..4, 5..9, 10..11; one convolution without padding, one odd width."""
    c = channels
    return nn.Sequential(
        nn.Conv2d(3, c, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(c, c, 3, padding=1),
        nn.ReLU(inplace=True),
        pool(2, 2),
        nn.Conv2d(c, 2 * c, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(2 * c, 2 * c + 1, 3, padding=0, bias=False),
        nn.ReLU(),
        pool(2, 2),
        nn.Conv2d(2 * c + 1, 3 * c, 3, padding="same"),
        nn.ReLU(),
    )


def outputs_of(module: nn.Sequential, taps: list[int], x: Tensor) -> list[Tensor]:
    found = {}
    for index, layer in enumerate(module):
        x = found[index] = torch.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
    return [found[tap] for tap in taps]


def differences(
    module: nn.Sequential, taps: list[int], x: Tensor, frozen: Frozen | None = None
) -> tuple[float, float]:
    """Relative L2 errors: the worst of the outputs, and the gradient of a random linear loss.

    By rounding, a ReLU or a pool may decide the other way than in double precision, which moves
    the gradient by percents.  That is rare: another picture has none, where a mistake stays.
    """
    frozen = frozen or freeze(module, taps, "native")
    worst, gradients = 0.0, []
    for _ in range(3):
        forward, backward = _differences_once(module, taps, x, frozen)
        worst, gradients = max(worst, forward), [*gradients, backward]
        if backward < BACKWARD:
            break
        x = torch.rand_like(x)
    return worst, min(gradients)


def _differences_once(
    module: nn.Sequential, taps: list[int], x: Tensor, frozen: Frozen
) -> tuple[float, float]:
    exact = copy.deepcopy(module).double()
    x64 = x.double().requires_grad_()
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    expected, results = outputs_of(exact, taps, x64), frozen(x)
    weights = [torch.randn(y.shape) for y in expected]
    torch.autograd.backward(expected, [w.double() for w in weights])
    torch.autograd.backward(results, weights)
    worst = max(relative(y, e) for y, e in zip(results, expected, strict=True))
    return worst, relative(x.grad, x64.grad)


def relative(result: Tensor | None, expected: Tensor | None) -> float:
    assert result is not None
    assert expected is not None
    return float((result.detach().double() - expected.detach()).norm() / expected.detach().norm())


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


def moments_apart(
    module: nn.Sequential, x: Tensor, backend: str, channels_last: bool = False
) -> tuple[float, float]:
    """The largest relative distance of moments, and that of a gradient of all of them."""
    layers, results = [1, 6, 11], []
    weights: list[Tensor] = []
    for double in (False, True):
        own = copy.deepcopy(module)
        given = (x.double() if double else x.clone()).requires_grad_()
        if double:
            tapped = outputs_of(own.double(), [4, *layers], given)
            found = [tapped[0], *(t for f in tapped[1:] for t in moments_of(f))]
        else:
            tap, *pairs = freeze(own, [4], backend, layers)(given)
            found = [tap, *(t for pair in pairs for t in pair)]
            weights = [torch.rand(t.shape) for t in found]
        sum((w.to(t) * t).sum() for w, t in zip(weights, found, strict=True)).backward()  # type: ignore[union-attr]
        results.append((found, given.grad))
    (found, gradient), (expected, true) = results
    apart = [
        float((a - b).detach().norm() / b.detach().norm())
        for a, b in zip(found, expected, strict=True)
    ]
    return max(apart), float((gradient - true).norm() / true.norm())


@pytest.mark.parametrize("channels", [16, 20, 48, 65])
@pytest.mark.parametrize("n", [1, 2])
def test_moments_are_those_of_the_features(channels: int, n: int) -> None:
    forward, backward = moments_apart(network(channels=channels), torch.rand(n, 3, 37, 45), "auto")
    assert forward < FORWARD
    assert backward < 10 * BACKWARD  # a covariance's gradient is large where a ReLU may flip


@pytest.mark.parametrize("channels", [48, 192, 200, 257])
@pytest.mark.parametrize("taps", [[3], [1, 3], [1], []])
def test_gradients_of_moments_taps_and_later_layers_add_up(channels: int, taps: list[int]) -> None:
    """With 192 channels and more, the matrix unit multiplies where there is one."""
    module = nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 5, 3), nn.ReLU()
    )
    x, weight = torch.rand(1, 3, 19, 23), torch.rand(channels, channels)
    gradients = []
    for double in (False, True):
        own, given = copy.deepcopy(module), x.clone().requires_grad_()
        if double:
            outputs = outputs_of(own.double(), [*taps, 1], given.double())
            outputs[-1:] = moments_of(outputs[-1])
        else:
            *outputs, pair = freeze(own, taps, "auto", [1])(given)
            outputs += pair
        total = sum(t.square().sum() for t in outputs[:-1])
        (total + (weight.to(outputs[-1]) * outputs[-1]).sum()).backward()
        gradients.append(given.grad)
    single, true = gradients
    assert float((single - true).norm() / true.norm()) < 10 * BACKWARD


def test_every_backend_gives_moments(backend: str) -> None:
    forward, backward = moments_apart(network(channels=2), torch.rand(1, 3, 14, 15), backend)
    assert forward < FORWARD
    assert backward < BACKWARD


@native_only
def test_features_of_one_value_have_no_covariance() -> None:
    module = nn.Sequential(nn.Conv2d(3, 48, 3, padding=1, padding_mode="replicate"), nn.ReLU())
    ((mean, covariance),) = freeze(module, [], "native", [1])(torch.full((1, 3, 70, 61), 0.7))
    assert float(covariance.abs().max()) < 1e-6 * float(mean.square().max())


@native_only
@pytest.mark.parametrize("channels", [16, 200])
def test_moments_alone_can_be_differentiated_one_by_one(channels: int) -> None:
    frozen = freeze(network(channels=channels), [], "native", [1, 11])
    x = torch.rand(1, 3, 24, 24)
    for part in (0, 1):
        for reading in (0, 1):
            leaf = x.clone().requires_grad_()
            frozen(leaf)[reading][part].square().sum().backward()
            assert leaf.grad is not None
            assert float(leaf.grad.norm()) > 0


@native_only
def test_moments_do_not_depend_on_which_thread_was_faster() -> None:
    frozen, x = freeze(network(channels=48), [], "native", [1, 6]), torch.rand(1, 3, 150, 130)
    first = frozen(x)
    for _ in range(5):
        for a, b in zip(first, frozen(x), strict=True):
            assert torch.equal(a.covariance, b.covariance)
            assert torch.equal(a.mean, b.mean)


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
def test_tenth_step_touches_no_fresh_memory() -> None:
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
    faults = [faults_of_a_step() for _ in range(10)]
    assert faults[-1] <= 2, faults  # the interpreter's own may need a page


@native_only
def test_memory_is_known_beforehand() -> None:
    frozen = freeze(network(), [11], "native")
    small, large = frozen.memory(64, 64), frozen.memory(256, 256)
    assert 0 < small < large < 100 << 20
    ((_, plan),) = [
        (0, piece.run.plan(1, 256, 256)) for piece in frozen._made_pieces("cpu") if piece.run
    ]
    held = sum(part.numel() * 4 for part in plan.arena) + plan.decisions.take().numel() * 2
    assert held < large


def way_back(tile: int, one_set: bool, shape: tuple[int, ...], c_in: int) -> tuple[Tensor, Tensor]:
    """The operator's gradient to the input, (n, c_in, h, w), and the double-precision one."""
    n, c_out, h, w = shape
    ops = torch.ops.fastconv
    weight, dy = torch.randn(c_out, c_in, 3, 3), torch.randn(shape)
    numbers = [n, c_in, h, w, c_out, h, w, 1, 1, tile, 0, 0, 2, int(one_set)]
    blocks = [(channels + 15) // 16 for channels in (c_out, c_in)]
    gradient, dx = (torch.zeros(n, count, h, w, 16) for count in blocks)
    ops.frozen_block(dy, gradient, shape)
    u = ops.prepare(weight, tile, not one_set)
    space = torch.full((ops.frozen_space(True, numbers),), float("nan"))
    ops.frozen_backward(gradient, None, u, dx, None, space, numbers)
    exact = nn.functional.conv_transpose2d(dy.double(), weight.double(), padding=1)
    return dx.permute(0, 1, 4, 2, 3).flatten(1, 2)[:, :c_in], exact


@native_only
@pytest.mark.parametrize("tile", [4, 6])
@pytest.mark.parametrize(
    ("shape", "c_in"),
    [
        ((1, 1, 5, 5), 1),
        ((2, 17, 13, 19), 33),
        ((1, 65, 7, 9), 64),
        ((1, 200, 24, 24), 31),
        ((1, 31, 24, 25), 200),
        ((1, 130, 20, 21), 70),
        ((1, 512, 9, 8), 40),  # more room between panels of 512
        ((1, 40, 9, 8), 512),
        ((1, 150, 100, 100), 130),  # so many tiles that the weights are turned in whole
        ((1, 48, 200, 200), 50),
    ],
)
def test_forward_weights_serve_the_way_back(
    tile: int, shape: tuple[int, int, int, int], c_in: int
) -> None:
    errors = [relative(*way_back(tile, one_set, shape, c_in)) for one_set in (False, True)]
    assert errors[1] < 1.3 * errors[0] + 1e-7
    assert errors[1] < (3e-6 if tile == 4 else 1.5e-5)


@native_only
def test_large_pictures_need_one_set_of_weights_and_the_memory_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever size was before; and the gradient is that of two sets, with the same decisions."""
    module = network(channels=32)
    frozen, plain = freeze(module, [11], "native"), freeze(module, [11], "native")
    for size, sets in ((24, 2), (320, 1), (24, 2)):
        x = torch.rand(1, 3, size, size, requires_grad=True)
        monkeypatch.setattr(frozen_run, "SHARED_FROM", math.inf)
        (expected,) = torch.autograd.grad(plain(x)[0].square().sum(), x)
        monkeypatch.setattr(frozen_run, "SHARED_FROM", 0)  # these channels are few
        (gradient,) = torch.autograd.grad(frozen(x)[0].square().sum(), x)
        assert relative(gradient, expected) < 1e-5
        ((run, plan),) = [
            (piece.run, piece.run.plan(1, size, size))
            for piece in frozen._made_pieces("cpu")
            if piece.run
        ]
        assert len(run.stages[1].kept) == sets
        held = sum(u.numel() * 4 for stage in run.stages for u in stage.kept.values())
        with_arena = held + sum(part.numel() * 4 for part in plan.arena)
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
    with pytest.raises(RuntimeError, match=r"once_differentiable|differentiate twice"):
        dx.sum().backward()


@native_only
def test_no_gradient_goes_to_the_weights() -> None:
    module = network()
    x = torch.rand(1, 3, 32, 32).requires_grad_()
    freeze(module, [11], "native")(x)[0].sum().backward()
    assert all(parameter.grad is None for parameter in module.parameters())


@native_only
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
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    command += ["-k", "agrees_at or nan_passes or moments or way_back"]
    environment = {**os.environ, "FASTCONV_ISA": isa}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
