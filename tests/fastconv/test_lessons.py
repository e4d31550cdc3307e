"""The gradient by differences, on functions whose gradient is known."""

from __future__ import annotations

import math

import pytest
import torch

from fastconv import ArgumentError, DtypeError
from fastconv.lessons import check_gradient, numerical_gradient


def test_known_gradient() -> None:
    x = torch.randn(3, 4, dtype=torch.float64)
    gradient = numerical_gradient(lambda v: v.pow(3).sum(), x)
    torch.testing.assert_close(gradient, 3 * x**2, rtol=1e-8, atol=1e-8)


def test_exact_for_a_parabola() -> None:
    x = torch.tensor([2.0], dtype=torch.float64)
    assert numerical_gradient(lambda v: v[0] ** 2, x, eps=0.5).item() == pytest.approx(4.0, 1e-15)


def test_error_falls_with_the_square_of_eps() -> None:
    x = torch.tensor([1.0], dtype=torch.float64)

    def error(eps: float) -> float:
        return abs(numerical_gradient(lambda v: v.exp().sum(), x, eps).item() - math.e)

    assert error(1e-2) / error(1e-3) == pytest.approx(100, rel=0.01)


def test_input_is_left_as_it_was_whatever_its_layout() -> None:
    x = torch.randn(4, 3, dtype=torch.float64).t()
    before = x.clone()
    gradient = numerical_gradient(lambda v: (v * v).sum(), x)
    assert torch.equal(x, before)
    torch.testing.assert_close(gradient, 2 * x)


def test_right_gradient_passes() -> None:
    x = torch.randn(2, 3, dtype=torch.float64)
    report = check_gradient(lambda v: v.sin().sum(), x, x.cos())
    assert report.passed
    assert report.relative_error < 1e-8
    assert "agree" in str(report)


def test_wrong_gradient_is_told_with_its_place() -> None:
    x = torch.ones(2, 3, dtype=torch.float64)
    claimed = 2 * x
    claimed[1, 2] = 2.5
    report = check_gradient(lambda v: (v * v).sum(), x, claimed)
    assert not report.passed
    assert report.worst == (1, 2)
    assert report.relative_error == pytest.approx(0.25)
    assert "differ: at element (1, 2)" in str(report)
    assert "2.5 is claimed and differences give 2" in str(report)


@pytest.mark.parametrize("special", [math.nan, math.inf])
def test_gradient_that_is_no_number_does_not_pass(special: float) -> None:
    x = torch.ones(3, dtype=torch.float64)
    claimed = torch.tensor([2.0, special, 2.0], dtype=torch.float64)
    report = check_gradient(lambda v: (v * v).sum(), x, claimed)
    assert not report.passed
    assert report.worst == (1,)


def test_float32_is_refused() -> None:
    with pytest.raises(DtypeError, match=r"torch\.float64, got torch\.float32"):
        numerical_gradient(lambda v: v.sum(), torch.ones(2))
    with pytest.raises(DtypeError, match=r"result of torch\.float32: too few digits"):
        numerical_gradient(lambda v: v.float().sum(), torch.ones(2, dtype=torch.float64))


def test_what_is_no_scalar_or_no_tensor_is_refused() -> None:
    x = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ArgumentError, match=r"return one number, got shape \(2,\)"):
        numerical_gradient(lambda v: 2 * v, x)
    with pytest.raises(DtypeError, match="gradient expects a tensor, got ndarray"):
        check_gradient(lambda v: v.sum(), x, x.numpy())


def test_at_a_kink_there_is_nothing_to_compare() -> None:
    x = torch.tensor([-1.0, 0.0, 3e-6, 2.0], dtype=torch.float64)  # eps is 1e-5
    report = check_gradient(lambda v: v.abs().sum(), x, torch.tensor([-1.0, 7.0, 7.0, 1.0]))
    assert report.passed
    assert report.kinks.tolist() == [False, True, True, False]
    assert str(report).endswith("; 2 of 4 at kinks, left out")
    wrong = check_gradient(lambda v: v.abs().sum(), x, torch.tensor([-1.0, 0.0, 0.0, 1.5]))
    assert not wrong.passed
    assert wrong.worst == (3,)
    report = check_gradient(lambda v: v.abs().sum(), x[1:2], torch.zeros(1))
    assert str(report) == "the gradients cannot be compared: every element is at a kink"


@pytest.mark.parametrize("at", [0.0, 1e-7, 0.3])
def test_a_curve_is_no_kink_however_flat_it_lies(at: float) -> None:
    x = torch.full((3,), at, dtype=torch.float64)
    report = check_gradient(lambda v: (1e4 * v * v).sum(), x, 2e4 * x)
    assert report.passed
    assert not report.kinks.any()


def test_gradient_of_another_shape_is_refused() -> None:
    x = torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(ArgumentError, match=r"shape \(2, 3\), got \(3, 2\)"):
        check_gradient(lambda v: v.sum(), x, x.t())
    with pytest.raises(ArgumentError, match="expects elements"):
        check_gradient(lambda v: v.sum(), x[:0], x[:0])
