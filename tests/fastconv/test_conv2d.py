"""The case table on every backend against torch, and what the table cannot say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from cases import CASES
from torch.nn import functional as F

from fastconv import conv2d
from fastconv.tools.checking import KINDS, Finding, check_backend, compare, results

FLOATS = (torch.float32, torch.float64)
HALVES = (torch.bfloat16, torch.float16)
ROWS = {case.about: case for case in CASES}
by_name = pytest.mark.parametrize("about", ROWS)


@cache
def findings(about: str, dtype: torch.dtype, backend: str) -> dict[str, Finding]:
    case = replace(ROWS[about], dtype=dtype)
    return {found.kind: found for found in compare(partial(conv2d, backend=backend), case)}


def assert_right(found: Finding) -> None:
    assert found.passed, (
        f"{found.kind} of {found.case}: error {found.error:.2e}, "
        f"tolerance {found.tolerance:.2e} {found.problem}"
    )


def test_every_row_says_something_of_its_own() -> None:
    assert len(ROWS) == len(CASES)
    assert len({str(case) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@by_name
def test_agrees_with_torch(about: str, dtype: torch.dtype, kind: str, backend: str) -> None:
    found = findings(about, dtype, backend)
    if ROWS[about].bias or kind != "grad_bias":
        assert_right(found[kind])
    else:
        assert kind not in found


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@by_name
def test_halves_agree_with_torch_in_double(about: str, dtype: torch.dtype, backend: str) -> None:
    for found in findings(about, dtype, backend).values():
        assert_right(found)


def test_random_cases_of_every_argument(backend: str) -> None:
    for found in check_backend(backend, count=200, seed=1):
        assert_right(found)


def test_zero_channels_leave_the_bias(backend: str) -> None:
    # torch answers with zero output channels here; a sum of no products is 0, plus the bias.
    x, w = torch.zeros(2, 0, 5, 6, requires_grad=True), torch.zeros(3, 0, 3, 3, requires_grad=True)
    b = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = conv2d(x, w, b, padding=1, backend=backend)
    assert torch.equal(y, b[:, None, None].expand(2, 3, 5, 6))
    dx, dw, db = torch.autograd.grad(y.sum(), (x, w, b))
    assert dx.shape == x.shape
    assert dw.shape == w.shape
    assert torch.equal(db, torch.full((3,), 60.0))


def test_arguments_are_not_written_to(backend: str) -> None:
    case = replace(ROWS["all at once"], bias=True)
    operands = case.tensors()
    before = operands.map(torch.clone)
    compared = results(partial(conv2d, backend=backend), operands, case)
    assert set(compared) == set(KINDS)
    for name in ("x", "w", "b", "dy"):
        assert torch.equal(getattr(operands, name), getattr(before, name)), name


def test_same_result_with_and_without_gradients(backend: str) -> None:
    x, w = torch.randn(2, 3, 9, 8), torch.randn(4, 3, 3, 3)
    without = conv2d(x, w, padding=1, backend=backend)
    assert not without.requires_grad
    with_gradients = conv2d(x.requires_grad_(), w, padding=1, backend=backend)
    assert with_gradients.requires_grad
    assert torch.equal(without, with_gradients)


@pytest.mark.parametrize("wanted", ["x", "w", "b", "xw", "xb", "wb"])
def test_only_the_wanted_gradients(wanted: str, backend: str) -> None:
    given = {"x": torch.randn(2, 3, 6, 7), "w": torch.randn(4, 3, 3, 3), "b": torch.randn(4)}
    for name in wanted:
        given[name].requires_grad_()
    conv2d(*given.values(), backend=backend).square().sum().backward()
    expected = {name: value.detach().clone().requires_grad_() for name, value in given.items()}
    F.conv2d(*expected.values()).square().sum().backward()
    for name, value in given.items():
        if name in wanted:
            torch.testing.assert_close(value.grad, expected[name].grad, rtol=1e-5, atol=1e-4)
        else:
            assert value.grad is None


def test_gradient_of_a_sum_which_is_one_number_with_stride_zero(backend: str) -> None:
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 2, 3, 3, dtype=torch.float64)
    (dx,) = torch.autograd.grad(conv2d(x, w, padding=1, backend=backend).sum(), x)
    (expected,) = torch.autograd.grad(F.conv2d(x, w, padding=1).sum(), x)
    torch.testing.assert_close(dx, expected)


def test_input_of_one_number_with_stride_zero(backend: str) -> None:
    x = torch.full((1,), 2.0).expand(2, 3, 5, 6)
    w = torch.randn(4, 3, 3, 3)
    torch.testing.assert_close(conv2d(x, w, backend=backend), F.conv2d(x, w))


def test_input_and_weight_may_be_the_same_tensor(backend: str) -> None:
    x = torch.randn(3, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    (dx,) = torch.autograd.grad(conv2d(x, x, padding=1, backend=backend).square().sum(), x)
    (expected,) = torch.autograd.grad(F.conv2d(x, x, padding=1).square().sum(), x)
    torch.testing.assert_close(dx, expected)


def test_a_parameter_of_a_subclass_and_positional_arguments(backend: str) -> None:
    x, w = torch.randn(1, 4, 9, 9), torch.nn.Parameter(torch.randn(6, 2, 3, 3))
    y = conv2d(x, w, None, 2, (1, 2), 2, 2, backend=backend)
    torch.testing.assert_close(y, F.conv2d(x, w, None, 2, (1, 2), 2, 2), rtol=1e-5, atol=1e-5)


def test_one_and_two_threads_agree(backend: str) -> None:
    x, w = torch.randn(2, 17, 31, 33), torch.randn(33, 17, 3, 3)
    before = torch.get_num_threads()
    answers = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            if backend != "naive" or threads == 1:
                answers.append(conv2d(x, w, padding=1, backend=backend))
    finally:
        torch.set_num_threads(before)
    for answer in answers:
        torch.testing.assert_close(answer, answers[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    ("c_in", "c_out", "size", "dilation", "groups"),
    [(256, 64, 33, 12, 1), (200, 41, 21, 7, 1), (33, 190, 20, 6, 1), (140, 70, 17, 8, 2)],
)
def test_channels_are_shared_out_among_threads_where_taps_lie_far_apart(
    c_in: int, c_out: int, size: int, dilation: int, groups: int, threads: int, fast_backend: str
) -> None:
    x = torch.randn(1, c_in, size, size)
    w = torch.randn(c_out, c_in // groups, 3, 3, requires_grad=True)
    dy = torch.randn(1, c_out, size, size)
    arguments = (None, 1, dilation, dilation, groups)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        y = conv2d(x, w, *arguments, backend=fast_backend)
        (dw,) = torch.autograd.grad(y, w, dy)
    finally:
        torch.set_num_threads(before)
    exact = w.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(F.conv2d(x.double(), exact, *arguments), exact, dy.double())
    assert float((dw - expected).norm() / expected.norm()) < 1e-6


def test_calls_from_several_threads_at_once(backend: str) -> None:
    case = replace(ROWS["17 channels to 15"], dtype=torch.float32)

    def right(_: int) -> list[Finding]:
        return compare(partial(conv2d, backend=backend), case)

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(right, range(12)):
            assert all(finding.passed for finding in found)


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES], ids=str)
def test_a_tap_on_padding_alone_has_no_gradient_whatever_memory_held(
    dtype: torch.dtype, backend: str
) -> None:
    x, w = torch.ones(1, 2, 1, 1, dtype=dtype), torch.ones(3, 2, 2, 2, dtype=dtype)
    w.requires_grad_()
    for _ in range(50):
        used_before = [torch.full((size,), 1e4, dtype=dtype) for size in (24, 64, 256, 1024)]
        del used_before
        (dw,) = torch.autograd.grad(conv2d(x, w, stride=3, padding=1, backend=backend).sum(), w)
        assert dw.tolist() == [[[[0, 0], [0, 1]]] * 2] * 3


class Marked(torch.Tensor):
    """A subclass that leaves everything to torch."""


def test_subclasses_of_tensors_come_back_as_from_torch(backend: str) -> None:
    x, w = torch.randn(1, 2, 4, 5), torch.randn(3, 2, 3, 3)
    for operands in ((x.as_subclass(Marked), w), (x, w.as_subclass(Marked))):
        y = conv2d(*operands, backend=backend)
        assert type(y) is type(F.conv2d(*operands)) is Marked
        torch.testing.assert_close(
            y.as_subclass(torch.Tensor), F.conv2d(x, w), rtol=1e-4, atol=1e-4
        )


def test_a_subclass_has_its_say_before_the_convolution(backend: str) -> None:
    class Refusing(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            return function, kwargs

    x, w = torch.randn(1, 2, 4, 5).as_subclass(Refusing), torch.randn(3, 2, 3, 3)
    function, options = conv2d(x, w, backend=backend)
    assert function is conv2d
    assert options == {"backend": backend, "algo": None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_tensors_with_the_negative_bit(dtype: torch.dtype, backend: str) -> None:
    # As the imaginary part of a conjugate, but contiguous: what is copied loses the bit.
    x, w = torch.randn(1, 2, 4, 5, dtype=dtype), torch.randn(3, 2, 3, 3, dtype=dtype)
    for operands in ((torch._neg_view(x), w), (x, torch._neg_view(w))):
        y = conv2d(*operands, backend=backend)
        torch.testing.assert_close(y, F.conv2d(-x, w), rtol=1e-4, atol=1e-4)
