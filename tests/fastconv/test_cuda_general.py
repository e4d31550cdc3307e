"""The general CUDA kernels, run on the CPU (cuda_on_cpu.py): every row of the case table."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import pytest
import torch
from cases import CASES
from cuda_on_cpu import library
from cuda_table import Card, Epilogue, choice, convolution, convolve, grad_bias, problem_of
from torch.nn import functional as F

from fastconv.geometry import geometry_of
from fastconv.tools.checking import Case, Finding, compare

ROWS = {case.about: case for case in CASES if case.geometry.n}
by_name = pytest.mark.parametrize("about", ROWS)
both_layouts = pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
# `simt` takes part of what `simt_direct` is quicker at; "auto" is what the table chooses.
general = Card(row="simt")


def check(case: Case, channels_last: bool, card: Card) -> None:
    for found in compare(convolution(case.geometry, channels_last, card), case):
        assert found.passed, message(found)


def message(found: Finding) -> str:
    return (
        f"{found.kind} of {found.case}: error {found.error:.2e}, "
        f"tolerance {found.tolerance:.2e} {found.problem}"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@both_layouts
@by_name
def test_agrees_with_torch(about: str, channels_last: bool, dtype: torch.dtype) -> None:
    check(replace(ROWS[about], dtype=dtype), channels_last, general)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@both_layouts
@pytest.mark.parametrize("about", [*ROWS][::5])
def test_halves_agree_with_torch_in_double(
    about: str, channels_last: bool, dtype: torch.dtype
) -> None:
    check(replace(ROWS[about], dtype=dtype), channels_last, general)


@both_layouts
@pytest.mark.parametrize("about", [name for name, case in ROWS.items() if case.groups > 1])
def test_the_direct_kernels_agree(about: str, channels_last: bool) -> None:
    check(ROWS[about], channels_last, Card(row=None))
    check(replace(ROWS[about], dtype=torch.float64), channels_last, Card(row=None, at_end=False))


# Sizes at which the problem is cut differently, on cards of so many processors.
CUTS = {
    "two tiles of rows, two of columns": (Case("", (1, 5, 9, 9), (70, 5, 3, 3), 1, 1), 1),
    "two tiles of 128 rows, two of columns": (Case("", (1, 2, 13, 12), (132, 2, 3, 3), 1, 1), 1),
    "128 rows exactly, and 129 columns": (Case("", (2, 4, 8, 8), (129, 4, 1, 1)), 1),
    "grouped, of 128 rows each": (Case("", (1, 4, 12, 12), (144, 2, 3, 3), 1, 1, groups=2), 1),
    "a split reduction": (Case("", (1, 64, 6, 6), (16, 64, 3, 3), 1, 1), 8),
    "a split reduction in groups": (Case("", (2, 80, 17, 16), (32, 40, 3, 3), 1, 1, groups=2), 40),
    "more splits than the reduction has": (Case("", (1, 65, 3, 3), (3, 65, 2, 2)), 500),
    "a reduction longer than one sum": (Case("", (1, 2, 70, 61), (3, 2, 3, 3), 1, 1), 1),
    "split, and longer than one sum": (Case("", (2, 1, 91, 97), (2, 1, 2, 2)), 1),
}


@both_layouts
@pytest.mark.parametrize("name", CUTS)
def test_however_the_product_is_cut(name: str, channels_last: bool) -> None:
    case, processors = CUTS[name]
    check(case, channels_last, replace(general, processors=processors))


@both_layouts
@pytest.mark.parametrize("name", ["two tiles of 128 rows, two of columns", "a split reduction"])
def test_the_order_of_threads_changes_nothing(name: str, channels_last: bool) -> None:
    case, processors = CUTS[name]
    operands = case.tensors()
    pairs = {
        "forward": (operands.x, operands.w),
        "grad_input": (operands.dy, operands.w),
        "grad_weight": (operands.dy, operands.x),
    }
    for operation, (a, b) in pairs.items():
        answers = [
            convolve(operation, a, b, case.geometry, channels_last, card)
            for card in (replace(general, processors=processors, order=order) for order in range(4))
        ]
        assert all(torch.equal(answer, answers[0]) for answer in answers), operation


@both_layouts
@pytest.mark.parametrize("row", ["simt", "simt_direct"])
@pytest.mark.parametrize("processors", [1, 100])
def test_what_follows_the_sum(row: str, channels_last: bool, processors: int) -> None:
    x, w, b = torch.randn(2, 128, 9, 7), torch.randn(8, 32, 3, 3), torch.randn(8)
    g = geometry_of(x.shape, w.shape, 1, 1, 1, 4)
    added, mask = torch.randn(g.output_shape), torch.randn(g.output_shape)
    mask[0, 0, 0, :3] = torch.tensor([0.0, -0.0, torch.nan])
    card = Card(row=row, processors=processors)
    y = F.conv2d(x, w, b, padding=1, groups=4)
    expected = {
        Epilogue(b): y,
        Epilogue(b, relu=True): y.relu(),
        Epilogue(b, added): y + added,
        Epilogue(b, added, mask): (y + added) * (mask > 0),
        Epilogue(b, None, mask, True): y.relu() * (mask > 0),
    }
    for epilogue, wanted in expected.items():
        got = convolve("forward", x, w, g, channels_last, card, epilogue)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_relu_lets_nan_pass() -> None:
    x = torch.tensor([torch.nan, -1.0, 2.0]).view(1, 1, 1, 3)
    g = geometry_of(x.shape, (1, 1, 1, 1))
    y = convolve("forward", x, torch.ones(1, 1, 1, 1), g, epilogue=Epilogue(relu=True))
    assert torch.equal(y.isnan(), x.isnan())
    assert y[0, 0, 0, 1:].tolist() == [0.0, 2.0]


@both_layouts
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 33, 5, 7), (2, 3, 71, 53), (1, 40, 33, 40)])
def test_grad_bias_over_several_blocks(shape: tuple[int, ...], channels_last: bool) -> None:
    dy = torch.randn(shape)
    g = geometry_of(shape, (shape[1], shape[1], 1, 1))
    got = grad_bias(dy, g, channels_last, Card(processors=20))
    torch.testing.assert_close(got.double(), dy.double().sum((0, 2, 3)), rtol=0, atol=1e-4)


def test_the_table_chooses_by_what_the_groups_leave() -> None:
    def chosen(operation: str, x: tuple[int, ...], w: tuple[int, ...], groups: int = 1) -> str:
        g = geometry_of(x, w, 1, 1, 1, groups)
        return choice(problem_of(operation, g, torch.float32, False, Card()))

    assert chosen("forward", (1, 64, 32, 32), (64, 64, 3, 3)) == "simt"
    assert chosen("forward", (1, 64, 32, 32), (64, 1, 3, 3), 64) == "simt_direct"
    assert chosen("grad_weight", (1, 64, 32, 32), (64, 1, 3, 3), 64) == "simt_direct"
    assert chosen("grad_input", (1, 3, 64, 64), (64, 3, 3, 3)) == "simt_direct"
    assert chosen("forward", (1, 3, 64, 64), (64, 3, 3, 3)) == "simt"


def test_plain_pictures_are_transposed_where_that_gives_them_tensor_cores() -> None:
    def worth(shape: tuple[int, ...], w: tuple[int, ...], last: bool = False, **card: int) -> bool:
        g = geometry_of(shape, w, 1, w[2] // 2)
        chosen = Card(**{"capability": 80, "processors": 100} | card)
        problem = problem_of("forward", g, torch.float32, last, chosen)
        return bool(library().fastconv_cuda_worth_transposing(ctypes.byref(problem)))

    assert worth((1, 64, 32, 32), (64, 64, 3, 3))
    assert not worth((1, 64, 32, 32), (64, 64, 3, 3), last=True)
    assert not worth((1, 64, 32, 32), (64, 64, 3, 3), capability=75)
    assert not worth((1, 64, 32, 32), (64, 64, 1, 1))
    assert not worth((1, 3, 32, 32), (64, 3, 3, 3))


@pytest.mark.parametrize("operation", ["forward", "grad_input", "grad_weight"])
def test_float32_is_float32_accurate_over_long_sums(operation: str) -> None:
    # The longest sums of VGG19: 512 channels of 3x3; over the pixels, 512 x 512 of them, cut short.
    case = Case("", (1, 512, 5, 5), (8, 512, 3, 3), 1, 1, layout="channels_last")
    if operation == "grad_input":
        case = replace(case, input=(1, 8, 5, 5), weight=(512, 8, 3, 3))
    if operation == "grad_weight":
        case = replace(case, input=(1, 2, 160, 160), weight=(3, 2, 3, 3))
    x, w, dy = (
        tensor.double() for tensor in (case.tensors().x, case.tensors().w, case.tensors().dy)
    )
    a, b, exact = {
        "forward": lambda: (x, w, F.conv2d(x, w, padding=1)),
        "grad_input": lambda: (dy, w, F.conv_transpose2d(dy, w, padding=1)),
        "grad_weight": lambda: (dy, x, torch.nn.grad.conv2d_weight(x, w.shape, dy, padding=1)),
    }[operation]()
    got = convolve(operation, a.float(), b.float(), case.geometry, True, general)
    assert float((got.double() - exact).norm() / exact.norm()) < 2e-6
