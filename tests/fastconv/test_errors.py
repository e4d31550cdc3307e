"""Bad input: each mistake has its exception, and a message that says what was expected and came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import fastconv
from fastconv import (
    ArgumentError,
    BackendUnavailableError,
    Conv2d,
    DtypeError,
    FastconvError,
    OutOfMemoryError,
    UnknownBackendError,
    conv2d,
    registry,
)


@dataclass(frozen=True)
class Mistake:
    """One bad call: what is changed in a good one, and what the message must say."""

    about: str
    error: type[Exception]
    says: tuple[str, ...]  # the argument, what was expected, what came
    changed: dict[str, Any]


def z(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    return torch.zeros(shape, dtype=dtype, device=device)


GOOD = {"input": z(2, 4, 5, 6), "weight": z(6, 4, 3, 3), "bias": z(6)}


def value(about: str, says: tuple[str, ...], **changed: Any) -> Mistake:
    return Mistake(about, ArgumentError, says, changed)


def kind(about: str, says: tuple[str, ...], **changed: Any) -> Mistake:
    return Mistake(about, DtypeError, says, changed)


MISTAKES = (
    # --- rank and channels
    value("input of rank 2", ("input", "4 dimensions", "(5, 6)"), input=z(5, 6)),
    value("input of rank 5", ("input", "4 dimensions", "(1, 1, 4, 5, 6)"), input=z(1, 1, 4, 5, 6)),
    value("weight of rank 3", ("weight", "4 dimensions", "(6, 4, 3)"), weight=z(6, 4, 3)),
    value("weight of rank 0", ("weight", "4 dimensions", "()"), weight=z(), bias=None),
    value("bias of rank 2", ("bias", "(6,)", "(6, 1)"), bias=z(6, 1)),
    value("bias too long", ("bias", "(6,)", "(7,)"), bias=z(7)),
    value("channels that do not match", ("weight", "C_in/groups = 4", "3/1"), input=z(2, 3, 5, 6)),
    value("channels that do not match, unbatched", ("weight", "= 4", "3/1"), input=z(3, 5, 6)),
    value(
        "weight without outputs",
        ("weight", ">= 1", "(0, 4, 3, 3)"),
        weight=z(0, 4, 3, 3),
        bias=z(0),
    ),
    value("kernel without taps", ("weight", ">= 1", "(6, 4, 0, 3)"), weight=z(6, 4, 0, 3)),
    value(
        "picture without rows", ("input", ">= 1", "(2, 4, 0, 6)"), input=z(2, 4, 0, 6), padding=3
    ),
    # --- groups
    value(
        "groups that do not divide C_out",
        ("groups", "C_out", "groups=4"),
        groups=4,
        weight=z(6, 1, 3, 3),
    ),
    value("groups that do not divide C_in", ("weight", "4/3"), groups=3, weight=z(6, 1, 3, 3)),
    value("groups with ungrouped weight", ("weight", "C_in/groups = 4", "4/2"), groups=2),
    value("groups 0", ("groups", "positive", "0"), groups=0),
    value("groups negative", ("groups", "positive", "-2"), groups=-2),
    kind("groups a fraction", ("groups", "int", "1.0", "float"), groups=1.0),
    kind("groups a pair", ("groups", "int", "(1, 2)", "tuple"), groups=(1, 2)),
    kind("groups a truth value", ("groups", "int", "True", "bool"), groups=True),
    # --- stride, dilation, padding
    value("stride 0", ("stride", "positive", "0"), stride=0),
    value("stride negative in one axis", ("stride", "positive", "(1, -1)"), stride=(1, -1)),
    value("stride a triple", ("stride", "pair", "(1, 1, 1)"), stride=(1, 1, 1)),
    value("stride empty", ("stride", "pair", "()"), stride=()),
    kind("stride a fraction", ("stride", "int", "1.5", "float"), stride=1.5),
    kind("stride a word", ("stride", "int", "'two'", "str"), stride="two"),
    kind("stride None", ("stride", "int", "None"), stride=None),
    kind("stride a truth value", ("stride", "int", "True", "bool"), stride=True),
    value("dilation 0", ("dilation", "positive", "0"), dilation=0),
    value("dilation negative", ("dilation", "positive", "(-2, 1)"), dilation=(-2, 1)),
    kind("dilation a fraction", ("dilation", "int", "0.5"), dilation=(1, 0.5)),
    value("padding negative", ("padding", "non-negative", "-1"), padding=-1),
    value("padding negative in one axis", ("padding", "non-negative", "(0, -1)"), padding=(0, -1)),
    value("padding a triple", ("padding", "pair", "[1, 1, 1]"), padding=[1, 1, 1]),
    kind("padding a fraction", ("padding", "int", "0.5"), padding=0.5),
    value("padding an unknown word", ("padding", "'valid', 'same'", "'smae'"), padding="smae"),
    value(
        "'same' with a stride",
        ("padding='same'", "stride 1", "(2, 1)"),
        padding="same",
        stride=(2, 1),
    ),
    # --- size
    value(
        "kernel taller than the picture", ("kernel's height", "7", "5 + 0"), weight=z(6, 4, 7, 3)
    ),
    value(
        "kernel wider than the padded picture",
        ("kernel's width", "9", "6 + 2"),
        weight=z(6, 4, 3, 9),
        padding=1,
    ),
    value(
        "dilated kernel too large",
        ("kernel's height", "dilation 3", "reach 7", "5 + 0"),
        dilation=3,
    ),
    # --- kinds of tensors
    kind(
        "weight in double",
        ("weight", "float32", "float64"),
        weight=z(6, 4, 3, 3, dtype=torch.float64),
    ),
    kind("bias in half", ("bias", "float32", "float16"), bias=z(6, dtype=torch.float16)),
    value(
        "weight on another device",
        ("weight", "device 'cpu'", "'meta'"),
        weight=z(6, 4, 3, 3, device="meta"),
    ),
    value("bias on another device", ("bias", "device 'cpu'", "'meta'"), bias=z(6, device="meta")),
    kind("input an array", ("input", "torch.Tensor", "ndarray"), input=np.zeros((2, 4, 5, 6))),
    kind("weight None", ("weight", "torch.Tensor", "NoneType"), weight=None),
    kind("bias a number", ("bias", "torch.Tensor", "float"), bias=0.5),
)


def call(backend: str, changed: dict[str, Any]) -> Tensor:
    return conv2d(**{**GOOD, **changed}, backend=backend)


def refused_by_torch(changed: dict[str, Any]) -> type[Exception] | None:
    try:
        F.conv2d(**{**GOOD, **changed})
    except Exception as error:
        return type(error)
    return None


def test_the_good_call_is_good(backend: str) -> None:
    assert call(backend, {}).shape == (2, 6, 3, 4)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.about)
def test_mistake(mistake: Mistake, backend: str) -> None:
    with pytest.raises(mistake.error) as caught:
        call(backend, mistake.changed)
    message = str(caught.value)
    assert message.startswith("conv2d: ")
    assert "\n" not in message
    for part in mistake.says:
        assert part in message
    assert isinstance(caught.value, FastconvError)
    assert isinstance(caught.value, (ValueError, TypeError))


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.about)
def test_code_that_catches_torchs_error_catches_ours(mistake: Mistake) -> None:
    refused = refused_by_torch(mistake.changed)
    if refused is not None:  # else torch takes it, or this call of it, and we say more
        assert issubclass(mistake.error, refused)


NOT_FLOATS = (torch.int64, torch.uint8, torch.bool, torch.complex64, torch.complex128)


@pytest.mark.parametrize("dtype", NOT_FLOATS, ids=str)
def test_integers_and_complex_numbers(dtype: torch.dtype, backend: str) -> None:
    changed = {name: value.to(dtype) for name, value in GOOD.items()}
    with pytest.raises(DtypeError) as caught:
        call(backend, changed)
    message = str(caught.value)
    for part in ("conv2d", "input", "float32", str(dtype).removeprefix("torch."), backend):
        assert part in message


def test_integers_on_auto_tell_what_is_accepted() -> None:
    with pytest.raises(DtypeError, match=r"int64.*expected one of .*float32"):
        call("auto", {name: value.long() for name, value in GOOD.items()})


def test_unknown_backend_says_did_you_mean() -> None:
    with pytest.raises(UnknownBackendError, match="did you mean 'numba'") as caught:
        call("nubma", {})
    for name in fastconv.backends():
        assert name in str(caught.value)
    with pytest.raises(UnknownBackendError, match=r"'nativ'.*did you mean 'native'"):
        Conv2d(3, 4, 3, backend="nativ")
    with pytest.raises(UnknownBackendError, match=r"'toch'.*did you mean 'torch'"):
        fastconv.swap_convs(torch.nn.Sequential(), "toch")
    with pytest.raises(UnknownBackendError, match=r"'nave'.*did you mean 'naive'"):
        fastconv.use_backend("nave")


@pytest.mark.parametrize("wrong", [3, ("torch",), torch])
def test_backend_of_a_wrong_type(wrong: Any) -> None:
    with pytest.raises(FastconvError, match="unknown backend"):
        call(wrong, {})


@pytest.mark.parametrize("name", ["native", "numba", "naive"])
def test_device_that_the_backend_does_not_know(name: str) -> None:
    if not fastconv.backends()[name].available:
        pytest.skip(fastconv.backends()[name].reason)
    with pytest.raises(BackendUnavailableError, match=rf"'{name}' runs on cpu.*'xpu'.*torch"):
        registry.resolve(name, "xpu", torch.float32)


def test_on_meta_every_backend_gives_the_shape(backend: str) -> None:
    y = call(backend, {k: v.to("meta") for k, v in GOOD.items()})
    assert (y.device.type, y.shape) == ("meta", (2, 6, 3, 4))


@pytest.mark.parametrize("special", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("of", ["input", "weight", "bias"])
def test_nan_and_inf_go_through_as_in_torch(of: str, special: float, backend: str) -> None:
    given = {"input": torch.randn(1, 3, 9, 17), "weight": torch.randn(4, 3, 3, 3)}
    given["bias"] = torch.randn(4)
    given[of].view(-1)[given[of].numel() // 2] = special
    got = conv2d(**given, padding=1, backend=backend)
    expected = F.conv2d(**{k: v.double() for k, v in given.items()}, padding=1).float()
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_zero_weight_does_not_hide_nan(backend: str) -> None:
    x = torch.full((1, 2, 5, 5), float("nan"))
    assert conv2d(x, z(3, 2, 3, 3), padding=1, backend=backend).isnan().all()


@pytest.mark.parametrize("special", [float("nan"), float("inf")])
def test_nan_and_inf_in_gradients_go_through_as_in_torch(special: float, backend: str) -> None:
    x = torch.randn(1, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    dy = torch.randn(1, 4, 6, 7, dtype=torch.float64)
    dy[0, 1, 2, 3] = special
    got = torch.autograd.grad(conv2d(x, w, padding=1, backend=backend), (x, w), dy)
    expected = torch.autograd.grad(F.conv2d(x, w, padding=1), (x, w), dy)
    torch.testing.assert_close(got, expected, equal_nan=True)


def test_out_of_memory_is_an_error(backend: str) -> None:
    # 8 million x 8 million outputs: more than any address space holds, in one allocation.
    with pytest.raises(OutOfMemoryError, match="memory"):
        conv2d(z(1, 1, 1, 1), z(1, 1, 1, 1), padding=2**22, backend=backend)


def test_sizes_beyond_64_bits_are_an_error(backend: str) -> None:
    with pytest.raises(OutOfMemoryError, match="larger than any memory"):
        conv2d(z(1, 1, 1, 1), z(1, 1, 1, 1), padding=2**62, backend=backend)


def test_derivative_of_a_changed_input_is_refused(backend: str) -> None:
    x, w = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3, requires_grad=True)
    y = conv2d(x, w, backend=backend)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_step_that_is_never_taken_may_be_of_any_size(backend: str) -> None:
    """To a single output, and between the taps of a single one."""
    x, w = torch.randn(1, 2, 3, 4), torch.randn(3, 2, 3, 4)
    got = conv2d(x, w, stride=2**30, backend=backend)
    torch.testing.assert_close(got, F.conv2d(x, w, stride=2**30), rtol=1e-4, atol=1e-5)
    w = torch.randn(3, 2, 1, 1)
    got = conv2d(x, w, dilation=2**31, backend=backend)
    torch.testing.assert_close(got, F.conv2d(x, w, dilation=2**31), rtol=1e-4, atol=1e-5)
