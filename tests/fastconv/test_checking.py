"""The checker itself: it passes torch, and finds every mistake that is put in on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastconv.tools import checking
from fastconv.tools.checking import (
    DTYPES,
    KINDS,
    LAYOUTS,
    Case,
    arranged,
    check_backend,
    compare,
    random_cases,
    tolerance,
)

CASE = Case("", (2, 3, 7, 17), (4, 3, 3, 3), padding=1)


def failed_kinds(convolution: Callable[..., Tensor], case: Case = CASE) -> list[str]:
    return [found.kind for found in compare(convolution, case) if not found.passed]


class Wrong(torch.autograd.Function):
    """y = F.conv2d(x, w, b, padding=1) with a mistake in the result or in a gradient."""

    @staticmethod
    def forward(ctx, x, w, b, kind, mistake):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, w)
        ctx.kind, ctx.mistake = kind, mistake
        y = F.conv2d(x, w, b, padding=1)
        return mistake(y) if kind == "forward" else y

    @staticmethod
    def backward(ctx, dy):  # type: ignore[no-untyped-def]
        x, w = ctx.saved_tensors
        options = ([w.shape[0]], (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (True, True, True))
        gradients = list(torch.ops.aten.convolution_backward(dy, x, w, *options))
        if ctx.kind != "forward":
            at = KINDS.index(ctx.kind) - 1
            gradients[at] = ctx.mistake(gradients[at])
        return (*gradients, None, None)


def last_element_wrong(y: Tensor) -> Tensor:
    y = y.clone()
    y.view(-1)[-1] *= 1.001
    return y


MISTAKES: dict[str, Callable[[Tensor], Tensor]] = {
    "one element off by a thousandth": last_element_wrong,
    "one element never written": lambda y: torch.cat([y.flatten()[:-1], y.new_zeros(1)]).view_as(y),
    "one NaN": lambda y: y.clone().index_fill_(0, torch.tensor([0]), math.nan),
    "infinite": lambda y: y / 0,
    "zeros": torch.zeros_like,
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_found_where_it_is(kind: str, mistake: Callable[[Tensor], Tensor]) -> None:
    def convolution(x: Tensor, w: Tensor, b: Tensor, *_: object) -> Tensor:
        return Wrong.apply(x, w, b, kind, mistake)

    assert failed_kinds(convolution) == [kind]


def test_the_right_convolution_passes() -> None:
    assert failed_kinds(F.conv2d) == []


def test_a_forgotten_tap_is_found() -> None:
    def convolution(x: Tensor, w: Tensor, *rest: object) -> Tensor:
        mask = torch.ones_like(w)
        mask[..., -1, -1] = 0
        return F.conv2d(x, w * mask, *rest)

    assert failed_kinds(convolution) == ["forward", "grad_input", "grad_weight"]


def test_a_forgotten_bias_is_found() -> None:
    def convolution(x: Tensor, w: Tensor, b: Tensor, *rest: object) -> Tensor:
        return F.conv2d(x, w, 0 * b, *rest)

    assert failed_kinds(convolution) == ["forward", "grad_bias"]


def test_lower_precision_is_found() -> None:
    def in_bfloat16(*arguments: object) -> Tensor:
        lower = [a.bfloat16() if isinstance(a, Tensor) else a for a in arguments]
        return F.conv2d(*lower).float()

    assert failed_kinds(in_bfloat16) == list(KINDS)


def test_another_shape_and_another_dtype_are_told() -> None:
    by_shape = compare(
        lambda *a: F.conv2d(*a).flatten(1).sum(1), replace(CASE, input=(0, 3, 7, 17))
    )
    assert not by_shape[0].passed
    by_dtype = compare(lambda *a: F.conv2d(*a).double(), CASE)
    assert not by_dtype[0].passed
    assert by_dtype[0].problem == (
        "expected (2, 4, 7, 17) torch.float32, got (2, 4, 7, 17) torch.float64"
    )


def test_an_exception_is_a_miss_with_its_message() -> None:
    def broken(*_: object) -> Tensor:
        raise ValueError("not today")

    assert {f.problem for f in compare(broken, CASE)} == {"ValueError: not today"}
    assert failed_kinds(broken) == list(KINDS)


def test_check_backend_reports_every_kind_and_dtype(backend: str) -> None:
    found = check_backend(backend, count=120, seed=3)
    assert [(f.kind, f.dtype) for f in found] == [(k, d) for k in KINDS for d in DTYPES]
    assert sum(f.cases for f in found if f.kind == "forward") == 120
    assert all(f.passed and f.error > 0 for f in found)


def test_check_backend_misses_a_wrong_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: Tensor, backend: str) -> Tensor:
        return (
            last_element_wrong(F.conv2d(*arguments))
            if arguments[0].numel()
            else F.conv2d(*arguments)
        )

    monkeypatch.setattr(checking, "conv2d", wrong)
    missed = {f.kind for f in check_backend("torch", count=60) if not f.passed}
    assert "forward" in missed


def test_random_cases_are_the_same_for_the_same_seed() -> None:
    assert list(random_cases(50, 7)) == list(random_cases(50, 7))
    assert list(random_cases(50, 7)) != list(random_cases(50, 8))


def test_random_cases_cover_every_argument() -> None:
    cases = list(random_cases(300))
    assert {case.dtype for case in cases} == set(DTYPES)
    assert {case.layout for case in cases} == set(LAYOUTS)
    assert {case.padding for case in cases} >= {"same", "valid", 0, 1}
    assert {case.bias for case in cases} == {True, False}
    geometries = [case.geometry for case in cases]
    features: dict[str, list[bool]] = {
        "unbatched": [len(case.input) == 3 for case in cases],
        "empty batch": [g.n == 0 for g in geometries],
        "depthwise": [g.groups == g.c_in > 1 for g in geometries],
        "grouped": [1 < g.groups < g.c_in for g in geometries],
        "padding wider than the kernel": [g.padding[0] > g.kh for g in geometries],
        "padding that differs": [not g.is_symmetric for g in geometries],
        "even kernel": [g.kh % 2 == 0 for g in geometries],
        "non-square kernel": [g.kh != g.kw for g in geometries],
        "stride": [max(g.stride) > 1 for g in geometries],
        "stride larger than the kernel": [g.stride[0] > g.kh for g in geometries],
        "dilation": [max(g.dilation) > 1 for g in geometries],
        "1x1": [g.kh == g.kw == 1 for g in geometries],
        "3x3, stride 1": [(g.kh, g.kw, *g.stride) == (3, 3, 1, 1) for g in geometries],
    }
    for about, present in features.items():
        assert sum(present) >= 3, about


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4, 5), (0, 3, 4, 5), (1, 1, 1, 1)])
def test_layouts_hold_the_same_numbers(layout: str, shape: tuple[int, ...]) -> None:
    values = torch.randn(shape)
    assert torch.equal(arranged(values, layout), values)


def test_layouts_differ_in_memory() -> None:
    values = torch.randn(2, 3, 4, 5)
    assert len({arranged(values, layout).stride() for layout in LAYOUTS}) == len(LAYOUTS)
    assert arranged(values, "channels_last").is_contiguous(memory_format=torch.channels_last)


def test_tolerance_grows_with_the_reduction_and_the_algorithm() -> None:
    float32 = torch.float32
    assert tolerance(float32, 100) == pytest.approx(10 * tolerance(float32, 1))
    assert tolerance(torch.float64, 64) < 1e-8 * tolerance(float32, 64)
    assert tolerance(float32, 9) < tolerance(float32, 9, "f4") < tolerance(float32, 9, "f6")
    assert tolerance(torch.bfloat16, 9) > tolerance(torch.float16, 9) > tolerance(float32, 9)
    assert tolerance(float32, 512 * 9) < 1e-4
