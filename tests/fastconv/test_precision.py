"""set_precision: how the choice is made, and that a call keeps it for its gradients."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from typing import Any

import pytest
import torch

import fastconv
from fastconv import conv2d, current_precision, precision, set_precision
from fastconv.errors import ArgumentError
from fastconv.registry import load


@pytest.fixture(autouse=True)
def _none_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.CHOICE, "from_environment", "fp32")
    monkeypatch.setattr(precision.CHOICE, "chosen", None)


def test_fp32_is_in_force_until_something_else_is_said() -> None:
    assert current_precision() == "fp32"


def test_a_statement_holds_until_the_next() -> None:
    set_precision("tf32")
    assert current_precision() == "tf32"
    set_precision("bf16")
    assert current_precision() == "bf16"
    set_precision(None)
    assert current_precision() == "fp32"


def test_a_block_ends_with_itself_even_by_an_error() -> None:
    def fails() -> None:
        with set_precision("tf32"), set_precision("bf16"):
            raise KeyError(current_precision())

    with pytest.raises(KeyError, match="bf16"):
        fails()
    assert current_precision() == "fp32"


def test_the_environment_is_asked_where_nothing_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said_with("bf16", monkeypatch) == "bf16"
    with set_precision("tf32"):
        assert said_with("bf16", monkeypatch) == "tf32"
    with pytest.raises(ArgumentError, match=r"precision 'half' .* choices: fp32, tf32, bf16"):
        said_with("half", monkeypatch)


def said_with(value: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is in force where the variable had this value when fastconv was imported."""
    monkeypatch.setenv(precision.ENVIRONMENT_VARIABLE, value)
    read = runpy.run_path(precision.__file__, run_name="fastconv.precision")
    monkeypatch.setattr(precision.CHOICE, "from_environment", read["CHOICE"].from_environment)
    return current_precision()


def test_a_mistyped_name_is_told_and_changes_nothing() -> None:
    with pytest.raises(ArgumentError, match="did you mean 'tf32'"):
        set_precision("tf23")
    assert current_precision() == "fp32"


def test_gradients_use_the_precision_of_their_forward_call(monkeypatch: pytest.MonkeyPatch) -> None:
    native = load("native")
    used = []

    def recorded(name: str) -> Callable[..., torch.Tensor]:
        def call(*arguments: Any) -> torch.Tensor:
            used.append((name, precision.CHOICES[arguments[-1]]))
            return getattr(torch.ops.fastconv, name)(*arguments)

        return call

    for name in ("forward", "grad_input", "grad_weight"):
        monkeypatch.setattr(native, f"_{name}", recorded(name))
    x, w = torch.randn(1, 2, 5, 5, requires_grad=True), torch.randn(2, 2, 2, 2, requires_grad=True)
    with set_precision("tf32"):
        y = conv2d(x, w, backend="native", algo="direct")
    y.sum().backward()
    assert used == [("forward", "tf32"), ("grad_input", "tf32"), ("grad_weight", "tf32")]


def test_on_the_cpu_every_precision_is_exact() -> None:
    x, w = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3)
    with fastconv.set_precision("bf16"):
        softened = conv2d(x, w, backend="native")
    assert torch.equal(softened, conv2d(x, w, backend="native"))


def test_autocast_hands_over_the_lower_dtype() -> None:
    x, w = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3)
    with torch.autocast("cpu", torch.bfloat16), set_precision("fp32"):
        assert conv2d(x, w).dtype == torch.bfloat16
