"""The tensor-core kernels, run on the CPU (cuda_on_cpu.py) and held against float64.

Precisions that round the tensors first are held against float64 of the tensors so rounded: then
only the order of additions is left to excuse an error, as with fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cuda_table
import pytest
import torch
from cases import CASES
from cuda_on_cpu import ORDERS, Memory
from cuda_table import OPERATIONS, Card, Epilogue, accepts, choice, convolve, problem_of
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fastconv.geometry import ConvGeometry
from fastconv.tools.checking import Case, reductions, tolerance

AMPERE = Card(capability=80, processors=1000)


def to_tf32(x: Tensor) -> Tensor:
    return ((x.view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)


@dataclass(frozen=True)
class Kind:
    """A type of tensors, the precision of products, and how the tensors are rounded for them."""

    dtype: torch.dtype
    precision: str
    rounded: Callable[[Tensor], Tensor]


KINDS = {
    "3xtf32": Kind(torch.float32, "fp32", lambda x: x),
    "tf32": Kind(torch.float32, "tf32", to_tf32),
    "bf16 products": Kind(torch.float32, "bf16", lambda x: x.bfloat16()),
    "bf16": Kind(torch.bfloat16, "fp32", lambda x: x),
    "f16": Kind(torch.float16, "fp32", lambda x: x),
}
by_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def operands(operation: str, case: Case) -> tuple[Tensor, Tensor]:
    t = case.tensors()
    x, dy = (p if p.dim() == 4 else p[None] for p in (t.x, t.dy))
    return {"forward": (x, t.w), "grad_input": (dy, t.w), "grad_weight": (dy, x)}[operation]


def in_torch(operation: str, a: Tensor, b: Tensor, g: ConvGeometry) -> Tensor:
    """The operation by torch, in a's type; with padding that differs from side to side."""
    x = a if operation == "forward" else b
    if operation == "grad_input":
        x = a.new_zeros(g.input_shape)
    w = a.new_zeros(g.weight_shape) if operation == "grad_weight" else b
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    top, bottom, left, right = g.padding
    y = F.conv2d(F.pad(x, (left, right, top, bottom)), w, None, g.stride, 0, g.dilation, g.groups)
    if operation == "forward":
        return y.detach()
    of = x if operation == "grad_input" else w
    return torch.autograd.grad(y, of, a)[0]


def relative_error(got: Tensor, operation: str, a: Tensor, b: Tensor, g: ConvGeometry) -> float:
    """In the measure of fastconv/tools/checking.py."""
    a, b = a.double(), b.double()
    scale = float(in_torch(operation, a.abs(), b.abs(), g).max())
    return float((got.double() - in_torch(operation, a, b, g)).abs().max()) / (scale or 1.0)


def check(operation: str, case: Case, kind: Kind, card: Card) -> None:
    g = case.geometry
    a, b = operands(operation, replace(case, dtype=kind.dtype))
    got = convolve(operation, a, b, g, True, replace(card, precision=kind.precision))
    error = relative_error(got, operation, kind.rounded(a), kind.rounded(b), g)
    allowed = tolerance(kind.dtype, reductions(g)[operation])
    assert error <= allowed, f"{operation} of {case}: error {error:.2e}, tolerance {allowed:.2e}"


def check_all(case: Case, kind: Kind, card: Card) -> list[str]:
    """Every operation that the tensor cores take; says which these were."""
    taken = []
    for operation in OPERATIONS:
        row = "grad_weight_gemm" if operation == "grad_weight" else "implicit_gemm"
        if accepts(problem_of(operation, case.geometry, kind.dtype, True, card), row):
            check(operation, case, kind, replace(card, row=row))
            taken.append(operation)
    return taken


FEW_PROCESSORS = replace(AMPERE, processors=1)  # large tiles
ROWS = {case.about: case for case in CASES if case.geometry.n}

# Channels that fill vectors of 16 bytes: of float32 from 4, of halves from 8.
VECTORS = (
    Case("one vector of channels", (1, 8, 3, 3), (8, 8, 3, 3), padding=1),
    Case("one vector and one tap", (1, 8, 1, 1), (8, 8, 1, 1)),
    Case("a k-step that ends inside of a tap", (1, 24, 5, 6), (16, 24, 3, 3), padding=1),
    Case("channels that are one k-step of floats", (2, 16, 5, 6), (16, 16, 3, 3), padding=1),
    Case("channels that are one k-step of halves", (2, 32, 4, 5), (24, 32, 3, 3), padding=1),
    Case("as many pixels and channels as a small tile", (1, 16, 8, 8), (64, 16, 1, 1)),
    Case("one pixel and one vector past a small tile", (1, 16, 5, 13), (72, 16, 1, 1)),
    Case("odd channels out", (1, 16, 5, 5), (17, 16, 3, 3), padding=1),
    Case("stride 2", (1, 16, 9, 8), (24, 16, 3, 3), 2, 1),
    Case("stride 2, 1x1", (1, 16, 7, 8), (24, 16, 1, 1), 2),
    Case("strides that differ, even kernel", (1, 16, 9, 8), (8, 16, 4, 2), (1, 3), (2, 0)),
    Case(
        "dilation, padding wider than the kernel", (1, 16, 6, 5), (8, 16, 3, 3), 1, (7, 4), (2, 3)
    ),
    Case("groups", (2, 48, 5, 4), (80, 24, 3, 3), 1, 1, 1, 2),
    Case("groups, strided and dilated", (1, 48, 9, 8), (48, 16, 3, 3), 2, 2, 2, 3),
    Case("a batch whose tiles straddle pictures", (5, 16, 5, 5), (16, 16, 3, 3), padding=1),
)
LARGE = (
    Case("as many pixels and channels as a large tile", (1, 32, 8, 16), (128, 32, 1, 1)),
    Case("one past a large tile", (1, 16, 3, 43), (136, 16, 1, 1)),
    Case("many tiles", (3, 24, 9, 10), (144, 24, 3, 3), padding=1),
    Case("groups", (2, 48, 5, 9), (144, 24, 3, 3), 1, 1, 1, 2),
)
few = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def misaligned(array: NDArray, at_end: bool = True, filled: bool = True) -> Memory:
    """Tensors, not the table's own bytes, begin one number past a multiple of 16 bytes."""
    return Memory(array, at_end, filled, skip=int(array.itemsize > 1))


def pictured(case: Case) -> str:
    return case.about


@by_kind
@pytest.mark.parametrize("case", ROWS.values(), ids=list(ROWS))
def test_of_the_case_table(case: Case, kind: Kind) -> None:
    check_all(case, kind, AMPERE)


@by_kind
@pytest.mark.parametrize("case", VECTORS, ids=pictured)
def test_of_whole_vectors(case: Case, kind: Kind) -> None:
    check_all(case, kind, AMPERE)


@by_kind
@pytest.mark.parametrize("case", LARGE, ids=pictured)
def test_in_large_tiles(case: Case, kind: Kind) -> None:
    assert check_all(case, kind, FEW_PROCESSORS) == list(OPERATIONS)


@by_kind
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", [VECTORS[-1], LARGE[1], ROWS["15 channels to 17"]], ids=pictured)
def test_whichever_thread_comes_first(case: Case, order: int, kind: Kind) -> None:
    card = replace(FEW_PROCESSORS, order=order, at_end=order % 2 == 0)
    assert check_all(case, kind, card) == list(OPERATIONS)


@by_kind
def test_pixels_are_split_among_blocks_and_added_up(kind: Kind) -> None:
    case = Case("", (3, 8, 19, 31), (8, 8, 3, 3), padding=1)  # 1767 pixels: four splits
    check("grad_weight", case, kind, replace(AMPERE, row="grad_weight_gemm"))


@by_kind
def test_of_pictures_that_vectors_cannot_address(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_table, "Memory", misaligned)
    assert check_all(VECTORS[2], kind, AMPERE) == list(OPERATIONS)


@pytest.mark.parametrize(
    ("capability", "channels_last", "dtype", "precision", "rows"),
    [
        (75, True, torch.float32, "fp32", ["simt"] * 3),
        (80, True, torch.float64, "fp32", ["simt"] * 3),
        (80, False, torch.float32, "fp32", ["simt"] * 3),
        (80, True, torch.float32, "fp32", ["implicit_gemm"] * 2 + ["grad_weight_gemm"]),
        (90, True, torch.float32, "fp32", ["implicit_gemm"] * 2 + ["grad_weight_gemm"]),
        (90, True, torch.float32, "tf32", ["hopper_gemm"] * 2 + ["grad_weight_gemm"]),
        (90, True, torch.bfloat16, "fp32", ["hopper_gemm"] * 2 + ["grad_weight_gemm"]),
        (120, True, torch.bfloat16, "fp32", ["implicit_gemm"] * 2 + ["grad_weight_gemm"]),
    ],
)
def test_the_table_chooses(
    capability: int, channels_last: bool, dtype: torch.dtype, precision: str, rows: list[str]
) -> None:
    g = Case("", (1, 64, 8, 8), (64, 64, 3, 3), padding=1).geometry
    card = Card(capability, 132, precision)
    assert [choice(problem_of(o, g, dtype, channels_last, card)) for o in OPERATIONS] == rows


@by_kind
@pytest.mark.parametrize("channels_out", [16, 17])
@pytest.mark.parametrize("operation", OPERATIONS[:2])
def test_it_ends_with_the_epilogue(operation: str, channels_out: int, kind: Kind) -> None:
    case = Case("", (2, channels_out, 5, 6), (channels_out, channels_out, 3, 3), padding=1)
    g = case.geometry
    a, b = operands(operation, replace(case, dtype=kind.dtype))
    card = replace(AMPERE, row="implicit_gemm", precision=kind.precision)
    alone = convolve(operation, a, b, g, True, card)
    bias, added, mask = (torch.randn(n).to(a) for n in (channels_out, alone.numel(), alone.numel()))
    added, mask = added.view_as(alone), mask.view_as(alone)
    got = convolve(operation, a, b, g, True, card, Epilogue(bias, added, mask, True))
    expected = (alone.double() + bias.double().view(-1, 1, 1) + added.double()).clamp(min=0)
    expected = expected * (mask > 0)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=40 * torch.finfo(a.dtype).eps)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_three_tf32_products_are_accurate_over_long_sums(operation: str) -> None:
    shapes = (
        ((8, 16, 17, 17), (16, 16, 3, 3))
        if operation == "grad_weight"
        else ((1, 256, 4, 4), (256, 256, 3, 3))
    )
    case = Case("", *shapes, padding=1)
    a, b = operands(operation, case)
    got = convolve(operation, a, b, case.geometry, True, FEW_PROCESSORS).double()
    exact = in_torch(operation, a.double(), b.double(), case.geometry)
    assert (got - exact).norm() <= 1e-6 * exact.norm()


@st.composite
def drawn(draw: st.DrawFn) -> Case:
    """Small convolutions of every argument, their channels vectors or not."""
    groups = draw(st.sampled_from((1, 1, 2)))
    channels = st.one_of(st.integers(1, 40), st.sampled_from((8, 16, 24, 32, 64)))
    c_in, c_out = groups * draw(channels), groups * draw(channels)
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    picture = draw(st.tuples(st.integers(1, 9), st.integers(1, 11)))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    shapes = ((draw(st.integers(1, 3)), c_in, *picture), (c_out, c_in // groups, *kernel))
    case = Case("drawn", *shapes, draw(pair), padding, draw(pair), groups)
    try:
        pixels = case.geometry.out_h * case.geometry.out_w
    except ValueError:  # the kernel is larger than the picture
        pixels = 0
    assume(0 < pixels <= 150)
    return case


@few
@given(case=drawn(), kind=st.sampled_from(list(KINDS)), order=st.sampled_from(ORDERS))
def test_of_any_arguments(case: Case, kind: str, order: int) -> None:
    card = replace(AMPERE, order=order, at_end=case.geometry.h % 2 == 0, processors=order + 1)
    check_all(case, KINDS[kind], card)
