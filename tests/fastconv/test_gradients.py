"""Gradients: by differences, by the adjoint identity, and of second order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from fastconv import conv2d
from fastconv.lessons import check_gradient
from fastconv.tools.checking import Case, Operands, compare, reductions, results, tolerance

SMALL = (
    Case("plain", (2, 2, 4, 5), (3, 2, 3, 3), padding=1),
    Case("everything", (1, 4, 6, 5), (2, 2, 2, 3), (2, 1), (1, 2), (2, 1), groups=2),
    Case("same, even kernel", (1, 1, 3, 4), (2, 1, 2, 4), padding="same"),
    Case("depthwise, unbatched", (3, 4, 4), (6, 1, 3, 2), padding=1, groups=3),
    Case("1x1, stride 2", (2, 3, 3, 4), (2, 3, 1, 1), 2),
    Case("sliced memory", (1, 2, 4, 4), (2, 2, 3, 3), 1, 1, layout="sliced"),
)
small = pytest.mark.parametrize("case", SMALL, ids=lambda case: case.about)


def in_double(case: Case, backend: str) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """The convolution as a function of x, w and b, and those."""
    generator = torch.Generator().manual_seed(1)

    def draw(tensor: Tensor) -> Tensor:
        values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        return torch.empty_like(tensor, dtype=torch.float64).copy_(values).requires_grad_()

    def convolution(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        options = (case.stride, case.padding, case.dilation, case.groups)
        return conv2d(x, w, b, *options, backend=backend)

    operands = case.tensors()
    assert operands.b is not None
    return convolution, [draw(tensor) for tensor in (operands.x, operands.w, operands.b)]


@small
def test_gradients_by_differences(case: Case, backend: str) -> None:
    assert gradcheck(*in_double(case, backend))


@small
def test_second_gradients_by_differences(case: Case, backend: str) -> None:
    convolution, operands = in_double(case, backend)
    assert gradgradcheck(convolution, operands, gen_non_contig_grad_outputs=True)


def test_third_derivative(backend: str) -> None:
    # y = w x on one pixel, so that f = y^3 has a third derivative in x of 6 w^3.
    x = torch.tensor([[[[2.0]]]], dtype=torch.float64, requires_grad=True)
    w = torch.tensor([[[[3.0]]]], dtype=torch.float64, requires_grad=True)
    value = conv2d(x, w, backend=backend).pow(3).sum()
    for _ in range(3):
        (value,) = torch.autograd.grad(value, x, create_graph=True)
    assert value.item() == pytest.approx(6 * 3.0**3)


@small
def test_own_differences_agree(case: Case, backend: str) -> None:
    convolution, operands = in_double(case, backend)
    weights = torch.randn(convolution(*operands).shape, dtype=torch.float64)
    (convolution(*operands) * weights).sum().backward()
    for at, operand in enumerate(operands):

        def loss(value: Tensor, at: int = at) -> Tensor:
            return (convolution(*operands[:at], value, *operands[at + 1 :]) * weights).sum()

        assert operand.grad is not None
        report = check_gradient(loss, operand, operand.grad)
        assert report.passed, report


# Convolution is linear in x and in w, so that <conv(x, w), dy> = <x, grad_input> = <w, grad_weight>
# holds in exact arithmetic.  It needs no reference, and so tests float32 at sizes that fill the
# vector kernels: their bodies, their tails, and blocks of rows and channels.  (Not on naive, whose
# loops take minutes at these sizes and have no vectors to cover.)
CHANNELS = ((1, 16), (3, 64), (16, 17), (17, 33), (33, 16), (64, 3))
WIDTHS = (7, 15, 16, 17, 31, 33, 50)
KERNELS = (
    ("3x3", (3, 3), 1, 1, 1),
    ("1x1", (1, 1), 1, 0, 1),
    ("5x5", (5, 5), 1, 2, 1),
    ("7x7 stride 2", (7, 7), 2, 3, 1),
    ("3x3 stride 2", (3, 3), 2, 1, 1),
    ("3x3 dilated", (3, 3), 1, 2, 2),
)


def large_cases() -> list[Case]:
    cases = []
    for at, width in enumerate(WIDTHS):
        for nth, (name, kernel, stride, padding, dilation) in enumerate(KERNELS):
            c_in, c_out = CHANNELS[(at + nth) % len(CHANNELS)]
            shape, weight = (2, c_in, 64 - width, width), (c_out, c_in, *kernel)
            about = f"{name} {c_in}-{c_out} {shape[2]}x{width}"
            cases.append(Case(about, shape, weight, stride, padding, dilation))
        c = (3, 16, 17, 33, 64)[at % 5]
        shape = (2, c, width, 66 - width)
        cases.append(Case(f"depthwise {c} {width}", shape, (c, 1, 3, 3), 1 + at % 2, 1, 1, c))
        shape, weight = (1, 34, width, 17), (2 * c, 17, 3, 3)
        cases.append(Case(f"two groups {c} {width}", shape, weight, 1, 1, groups=2))
    return cases


# Where the general path cuts a picture into blocks, or leaves taps and phases out.
CUT = (
    Case(
        "dilation 12 on 33 lines: blocks end where taps do",
        (1, 20, 33, 33),
        (18, 20, 3, 3),
        1,
        12,
        12,
    ),
    Case("dilation 20 on 41x37", (2, 5, 41, 37), (17, 5, 3, 3), 1, 20, 20),
    Case("dilated columns alone", (1, 7, 9, 70), (9, 7, 3, 5), 1, (1, 24), (1, 12)),
    Case("patches of 16", (1, 3, 48, 64), (40, 3, 16, 16), 16),
    Case("stride 3, kernel 2: phases that no tap hits", (1, 17, 40, 50), (18, 17, 2, 2), 3, 1),
    Case("stride (2, 3) over many channels", (1, 70, 21, 23), (33, 70, 3, 3), (2, 3), 1),
    Case("one pixel under 3x3, many channels", (1, 70, 1, 1), (65, 70, 3, 3), 1, 1),
    Case("depthwise, wider than a block", (1, 2, 9, 1100), (2, 1, 3, 3), 1, 1, groups=2),
    Case("depthwise, taller than a block, stride 2", (1, 3, 150, 70), (3, 1, 5, 3), 2, 2, groups=3),
    Case("one channel to many, batch", (9, 1, 28, 28), (32, 1, 3, 3), 1, 1),
    Case("few channels, lines of two blocks and a rest", (2, 3, 5, 1047), (7, 3, 3, 3), 1, 1),
    Case("few channels, a result written around the caches", (1, 2, 520, 528), (17, 2, 3, 3), 1, 1),
)
LARGE = [*large_cases(), *CUT]
large = pytest.mark.parametrize("case", LARGE, ids=lambda case: case.about)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@large
def test_adjoint_identity(case: Case, layout: str, fast_backend: str) -> None:
    case = replace(case, layout=layout, bias=False)
    operands = case.tensors()
    got = results(partial(conv2d, backend=fast_backend), operands, case)
    at_y = inner(got["forward"], operands.dy)
    assert at_y == pytest.approx(
        inner(operands.x, got["grad_input"]), rel=0, abs=rounding(case, operands, "grad_input")
    )
    assert at_y == pytest.approx(
        inner(operands.w, got["grad_weight"]), rel=0, abs=rounding(case, operands, "grad_weight")
    )


def inner(a: Tensor, b: Tensor) -> float:
    return (a.detach().double() * b.detach().double()).sum().item()


def rounding(case: Case, operands: Operands, kind: str) -> float:
    """What rounding of y and of one gradient leaves of the difference of two inner products.

    Each element of y may be off by the table's tolerance times its magnitude.  The errors are
    independent of each other, so that <error, dy> grows as |dy|'s root of squares, not its sum.
    """
    magnitudes = results(F.conv2d, operands.map(torch.abs), case)
    lengths = reductions(case.geometry)
    partners = {"forward": operands.dy, "grad_input": operands.x, "grad_weight": operands.w}
    return sum(
        tolerance(case.dtype, lengths[each])
        * magnitudes[each].max().item()
        * partners[each].double().norm().item()
        for each in ("forward", kind)
    )


@large
def test_large_sizes_agree_with_torch(case: Case, fast_backend: str) -> None:
    for found in compare(partial(conv2d, backend=fast_backend), case):
        assert found.passed, found


def test_what_a_tap_does_not_read_stays_out_of_its_gradient(fast_backend: str) -> None:
    x, w = torch.randn(1, 3, 6, 19), torch.randn(4, 3, 3, 3, requires_grad=True)
    x[..., -1] = torch.inf  # read by the last column of the kernel alone
    conv2d(x, w, backend=fast_backend).backward(torch.randn(1, 4, 4, 17))
    assert w.grad is not None
    assert w.grad[..., :-1].isfinite().all()
