"""Frozen stacks on CUDA: their own Python and kernels, the latter run on the CPU.

`Emulated` stands in for the operators of csrc/ops_frozen_cuda.cpp; tensors stay on the CPU.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable

import pytest
import torch
from cuda_on_cpu import library, run
from cuda_table import (
    OPERATIONS,
    PRECISIONS,
    TYPES,
    Card,
    Operands,
    bytes_for,
    choice,
    problem_of,
)
from frozen_cases import outputs_of, relative
from torch import Tensor, nn

from fastconv import Conv2d, set_precision
from fastconv.errors import ArgumentError, DtypeError, OutOfMemoryError
from fastconv.frozen import Frozen, cuda_plan, freeze
from fastconv.geometry import ConvGeometry


def pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class PoolJob(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int32),
        *((name, ctypes.c_int64) for name in ("n", "channels", "height", "width")),
        *((name, ctypes.c_void_p) for name in ("from_", "gradient", "to")),
        ("average", ctypes.c_bool),
        ("relu", ctypes.c_bool),
    )


class Emulated:
    """torch.ops.fastconv.cuda_* for tensors on the CPU; notes what is called."""

    def __init__(self, capability: int) -> None:
        self.capability = capability
        self.called: list[str] = []

    def problem(self, like: Tensor, operation: str, geometry: list[int], precision: int):
        card = Card(self.capability, 2, PRECISIONS[precision])
        return problem_of(operation, ConvGeometry.from_flat(geometry), like.dtype, True, card)

    def cuda_row(self, *asked) -> str:
        return choice(self.problem(*asked))

    def cuda_space(self, like: Tensor, row: str, *asked) -> int:
        return bytes_for("fastconv_cuda_space_bytes", self.problem(like, *asked), row.encode())

    def cuda_arrange(self, weight: Tensor, row: str, *asked) -> Tensor:
        self.called.append("arrange")
        problem, name = self.problem(weight, *asked), row.encode()
        count = bytes_for("fastconv_cuda_prepared_bytes", problem, name)
        if not count:
            return weight.clone()
        prepared = torch.empty(count, dtype=torch.uint8)
        pointers = (ctypes.c_void_p(weight.data_ptr()), ctypes.c_void_p(prepared.data_ptr()))
        run("fastconv_cuda_prepare", ctypes.byref(problem), name, *pointers)
        return prepared

    def cuda_conv(
        self,
        from_,
        weights,
        bias,
        added,
        mask,
        to,
        space,
        row,
        operation,
        relu,
        geometry,
        precision,
    ) -> None:
        self.called.append(operation)
        name = row.encode()
        problem = self.problem(from_, operation, geometry, precision)
        g = ConvGeometry.from_flat(geometry)
        shapes = [g.input_shape, g.output_shape]
        read, written = shapes if operation == "forward" else shapes[::-1]
        assert from_.numel() == torch.Size(read).numel()
        assert all(t is None or t.numel() == to.numel() for t in (added, mask))
        assert to.numel() == torch.Size(written).numel()
        prepared = bytes_for("fastconv_cuda_prepared_bytes", problem, name)
        operands = Operands(
            pointer(from_),
            None if prepared else pointer(weights),
            pointer(bias),
            pointer(added),
            pointer(mask),
            pointer(to),
            pointer(space),
            pointer(weights) if prepared else None,
            relu,
        )
        run("fastconv_cuda_launch", ctypes.byref(problem), name, ctypes.byref(operands))

    def cuda_pool(self, from_: Tensor, to: Tensor, average: bool, sizes: list[int]) -> None:
        self._pool(from_, None, to, average, False, sizes)

    def cuda_unpool(self, gradient, from_, to, average, relu, sizes) -> None:
        assert from_.numel() == to.numel()
        self._pool(from_, gradient, to, average, relu, sizes)

    def _pool(self, from_, gradient, to, average, relu, sizes) -> None:
        pointers = (pointer(from_), pointer(gradient), pointer(to))
        job = PoolJob(TYPES.index(from_.dtype), *sizes, *pointers, average, relu)
        run("fastconv_cuda_pool", ctypes.byref(job))

    def cuda_mask(self, gradient: Tensor, from_: Tensor, to: Tensor) -> None:
        pointers = (ctypes.c_void_p(pointer(t)) for t in (from_, gradient, to))
        numbers = ctypes.c_int64(gradient.numel())
        run("fastconv_cuda_mask", TYPES.index(gradient.dtype), *pointers, numbers)


@pytest.fixture(params=[75, 80, 90], ids=["general kernels", "tensor cores", "hopper"])
def card(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Emulated:
    """Frozen stacks take the CPU for a card of that compute capability."""
    library()
    emulated = Emulated(request.param)
    monkeypatch.setattr(cuda_plan, "ops", emulated)
    monkeypatch.setattr(Frozen, "_fuses_on", lambda *_: "cuda")
    monkeypatch.setattr(Frozen, "_device", lambda _: "cuda")
    return emulated


def network(pool: Callable[..., nn.Module] = nn.MaxPool2d) -> nn.Sequential:
    """Three scales, odd sizes, a stride, groups, a convolution without ReLU before a pool."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(inplace=True),
        pool(2, 2),
        Conv2d(16, 16, 3, padding=1, groups=2),
        pool(2, 2),
        nn.Conv2d(16, 24, (1, 2), padding=0, bias=False),
        nn.ReLU(),
        nn.Conv2d(24, 8, 3, stride=2, padding=1),
        nn.ReLU(),
    )


def check(
    frozen: Frozen, module: nn.Sequential, x: Tensor, forward: float, backward: float
) -> None:
    """By rounding, a ReLU or a pool may decide the other way than in double precision, which moves
    the gradient by percents.  That is rare: another picture has none, where a mistake stays."""
    errors = []
    for _ in range(3):
        errors.append(_gradient_error(frozen, module, x, forward))
        if errors[-1] < backward:
            return
        x = torch.rand_like(x)
    assert min(errors) < backward


def _gradient_error(frozen: Frozen, module: nn.Sequential, x: Tensor, forward: float) -> float:
    exact = copy.deepcopy(module).double()
    x64, x = x.double().clone().requires_grad_(), x.clone().requires_grad_()
    expected, results = outputs_of(exact, frozen.taps, x64), frozen(x)
    dy = [torch.randn_like(y) for y in expected]
    torch.autograd.backward(expected, dy)
    torch.autograd.backward(results, [g.to(y.dtype) for g, y in zip(dy, results, strict=True)])
    for y, e in zip(results, expected, strict=True):
        assert y.shape == e.shape
        assert relative(y, e) < forward
    assert x.grad is not None
    assert x64.grad is not None
    assert x.grad.dtype == x.dtype
    return relative(x.grad, x64.grad)


TAPS = {
    "the end": [10],
    "after ReLUs on the way": [1, 3, 8, 10],
    "after pools": [4, 6],
    "before ReLUs": [0, 7, 9],
    "in any order, and one twice": [8, 1, 1],
    "the first layer alone": [0],
    "between a convolution and its pool": [5, 3],
}


@pytest.mark.parametrize("name", TAPS)
def test_agrees_at_taps(card: Emulated, name: str) -> None:
    module = network()
    check(freeze(module, TAPS[name], "native"), module, torch.rand(1, 3, 18, 23), 1e-5, 1e-4)


def test_agrees_with_average_pools_and_a_batch(card: Emulated) -> None:
    module = network(nn.AvgPool2d)
    check(freeze(module, [4, 9, 10], "native"), module, torch.rand(2, 3, 18, 23), 1e-5, 1e-4)


def test_agrees_in_double(card: Emulated) -> None:
    module, x = network().double(), torch.rand(1, 3, 13, 12, dtype=torch.float64)
    check(freeze(module, [4, 10], "native"), module, x, 1e-13, 1e-12)


@pytest.mark.parametrize(
    ("precision", "forward", "backward"), [("tf32", 2e-3, 0.1), ("bf16", 2e-2, 0.3)]
)
def test_the_precision_at_freeze_is_used(
    card: Emulated, precision: str, forward: float, backward: float
) -> None:
    # By rounding, ReLUs and pools may decide the other way, which moves gradients by percents.
    module = network(nn.AvgPool2d)
    with set_precision(precision):
        frozen = freeze(module, [3, 10], "native")
    check(frozen, module, torch.rand(1, 3, 18, 23), forward, backward)
    assert all(y.dtype == torch.float32 for y in frozen(torch.rand(1, 3, 18, 23)))
    exact = frozen._pieces["cuda"][0].run._plan[1].like.dtype
    assert exact == (torch.bfloat16 if precision == "bf16" else torch.float32)


def test_halves_stay_halves(card: Emulated) -> None:
    module = network(nn.AvgPool2d).bfloat16()
    frozen, x = freeze(module, [10], "native"), torch.rand(1, 3, 18, 23).bfloat16()
    check(frozen, module, x, 2e-2, 0.3)
    assert frozen(x)[0].dtype == torch.bfloat16


def test_autocast_is_understood(card: Emulated, monkeypatch: pytest.MonkeyPatch) -> None:
    module = network(nn.AvgPool2d)
    frozen, x = freeze(module, [3, 10], "native"), torch.rand(1, 3, 18, 23)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: torch.float16)
    assert all(y.dtype == torch.float16 for y in frozen(x))
    check(frozen, module, x, 2e-3, 0.1)


def test_without_a_gradient_two_places_take_turns(card: Emulated) -> None:
    module, x = network(), torch.rand(1, 3, 18, 23)
    for taps in ([1, 6, 10], [3, 4], [10]):
        frozen = freeze(module, taps, "native")
        with_gradient = frozen(x.requires_grad_())
        with torch.no_grad():
            without = frozen(x)
        for a, b in zip(with_gradient, without, strict=True):
            assert torch.equal(a, b)
            assert not b.requires_grad
    plan = frozen._pieces["cuda"][0].run._plan[1]
    assert plan.arena_numbers(keep=False) < plan.arena_numbers(keep=True)


def test_weights_are_arranged_once_for_each_direction(card: Emulated) -> None:
    module = network()
    frozen = freeze(module, [10], "native")
    for size in (18, 18, 22):
        y = frozen(torch.rand(1, 3, size, 23, requires_grad=True))[0]
        y.sum().backward()
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in module)
    assert card.called.count("arrange") == 2 * convolutions
    assert card.called.count("forward") == card.called.count("grad_input") == 3 * convolutions


def test_two_calls_before_their_gradients(card: Emulated) -> None:
    module = network()
    frozen = freeze(module, [3, 10], "native")
    xs = [torch.rand(1, 3, 18, 23, requires_grad=True) for _ in range(2)]
    results = [frozen(x) for x in xs]
    for x, (first, last) in zip(xs, results, strict=True):
        (first.sum() + last.sum()).backward()
        again = x.detach().clone().requires_grad_()
        sum(y.sum() for y in frozen(again)).backward()
        assert torch.equal(x.grad, again.grad)


def test_gradients_that_do_not_arrive_cost_nothing(card: Emulated) -> None:
    frozen = freeze(network(), [1, 10], "native")
    x = torch.rand(1, 3, 18, 23, requires_grad=True)
    first, _ = frozen(x)
    card.called.clear()
    first.sum().backward()
    assert card.called.count("grad_input") == 1


def test_an_output_that_was_changed_is_told(card: Emulated) -> None:
    frozen = freeze(network(), [1, 10], "native")
    first, last = frozen(torch.rand(1, 3, 18, 23, requires_grad=True))
    with torch.no_grad():
        first.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        last.sum().backward()


def test_layers_that_are_not_fused_run_between(card: Emulated) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Sigmoid(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 4, 1),
        nn.ReLU(),
    )
    frozen = freeze(module, [1, 3, 5], "native")
    check(frozen, module, torch.rand(1, 3, 12, 14), 1e-5, 1e-4)
    lines = frozen.describe(12, 14).splitlines()
    assert ["unfused" in line for line in lines] == [False, True, False, True, False]


def test_memory_and_description_are_known_beforehand(card: Emulated) -> None:
    frozen = freeze(network(), [1, 10], "native")
    assert 0 < frozen.memory(20, 30) < frozen.memory(40, 60)
    first, *_, last = frozen.describe(20, 30).splitlines()
    assert first.startswith("  0..1   Conv2d 3x3 3 -> 8 + ReLU at 20 x 30: ")
    assert first.endswith(", tap")
    assert "Conv2d 3x3 24 -> 8" in last


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("fastconv: allocation failed")],
    ids=["torch's", "ours"],
)
def test_memory_that_runs_out_is_told_both_ways(
    card: Emulated, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen, x = freeze(network(), [10], "native"), torch.rand(1, 3, 18, 23, requires_grad=True)
    (y,) = frozen(x)

    def full(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(card, "cuda_conv", full, raising=False)
        with pytest.raises(OutOfMemoryError, match=r"pictures of shape \(1, 3, 18, 23\)"):
            frozen(x)
        with pytest.raises(OutOfMemoryError, match="not enough memory on the card"):
            y.sum().backward()
    assert frozen(x)[0].shape == y.shape


def test_mistakes_are_told(card: Emulated) -> None:
    frozen = freeze(network(), [10], "native")
    with pytest.raises(ArgumentError, match="layer 0 expects 3 channels, got 4"):
        frozen(torch.rand(1, 4, 18, 23))
    with pytest.raises(DtypeError, match=r"layer 0's weight, torch\.float32, got torch\.float64"):
        frozen(torch.rand(1, 3, 18, 23).double())
    with pytest.raises(ArgumentError, match="pools 2x2, but only 1 x 3 pixels reach it"):
        frozen(torch.rand(1, 3, 2, 6))
    with pytest.raises(ArgumentError, match="device of layer 0's weight, 'cpu', got 'meta'"):
        frozen(torch.rand(1, 3, 18, 23, device="meta"))
    assert set(OPERATIONS) > set(cuda_plan.DIRECTIONS)


def test_a_pool_takes_the_first_among_equals_and_any_nan(card: Emulated) -> None:
    x = torch.randint(0, 2, (2, 3, 7, 6)).float()
    x[0, 1, 2, 3] = torch.nan
    leaf = x.clone().requires_grad_()
    expected = nn.functional.max_pool2d(leaf, 2)
    dy = torch.randn_like(expected)
    expected.backward(dy)

    def last(tensor: Tensor) -> Tensor:
        return tensor.detach().permute(0, 2, 3, 1).contiguous()

    pooled, dx = last(expected) * 0, last(x) * 0
    card.cuda_pool(last(x), pooled, False, list(x.shape))
    card.cuda_unpool(last(dy), last(x), dx, False, False, list(x.shape))
    torch.testing.assert_close(pooled, last(expected), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(dx, last(leaf.grad), rtol=0, atol=0)
