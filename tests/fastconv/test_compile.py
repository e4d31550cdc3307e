"""The native operators seen by torch: schemas, fake kernels, torch.compile, bad geometries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from cases import CASES
from torch import Tensor
from torch.nn import functional as F

from fastconv import Conv2d, backends, conv2d, registry
from fastconv.tools.checking import LAYOUTS, Case

pytestmark = [
    pytest.mark.skipif(not backends()["native"].available, reason=backends()["native"].reason),
    # torch's own, while it traces an autograd.Function
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
OPERATORS = ("forward", "grad_input", "grad_weight")
OPCHECKED = (
    Case("plain", (2, 3, 7, 17), (4, 3, 3, 3), padding=1),
    Case("1x1", (1, 5, 4, 3), (6, 5, 1, 1)),
    Case("strided and dilated", (1, 4, 9, 8), (6, 2, 3, 2), (2, 1), (1, 2), (2, 1), 2),
    Case("depthwise", (1, 4, 6, 7), (4, 1, 3, 3), padding=1, groups=4),
    Case("'same', even kernel", (1, 2, 5, 6), (3, 2, 2, 4), padding="same"),
)
DTYPES = (torch.float32, torch.float64)


def operator_call(name: str, case: Case) -> tuple[Callable[..., Tensor], tuple[object, ...]]:
    operands, flat = case.tensors(), case.geometry.flat
    arguments: dict[str, tuple[object, ...]] = {
        "forward": (operands.x, operands.w, operands.b, flat),
        "grad_input": (operands.dy, operands.w, flat),
        "grad_weight": (operands.dy, operands.x, flat),
    }
    registry.load("native")  # registers the operators and their fake kernels
    return getattr(torch.ops.fastconv, name).default, arguments[name]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", OPCHECKED, ids=lambda case: case.about)
@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(name: str, case: Case, dtype: torch.dtype, layout: str) -> None:
    operator, arguments = operator_call(name, replace(case, dtype=dtype, layout=layout))
    # Not the autograd test: fastconv/functional.py differentiates, the operators do not.
    utilities = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    checked = torch.library.opcheck(operator, arguments, test_utils=utilities)
    assert set(checked.values()) == {"SUCCESS"}


def test_opcheck_without_bias() -> None:
    operator, arguments = operator_call("forward", replace(OPCHECKED[0], bias=False))
    torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.about)
def test_fake_kernels_tell_the_true_shape_and_layout(case: Case) -> None:
    if case.geometry.n == 0:
        pytest.skip("an empty batch never reaches a backend")
    batched = replace(case, input=case.geometry.input_shape)
    for name in OPERATORS:
        operator, arguments = operator_call(name, batched)
        real = operator(*arguments)
        fake = operator(*(a.to("meta") if isinstance(a, Tensor) else a for a in arguments))
        assert (fake.shape, fake.dtype) == (real.shape, real.dtype), name
        assert fake.stride() == real.stride(), name


# --- torch.compile


@pytest.fixture
def compiled():  # type: ignore[no-untyped-def]
    """A function that compiles another without generating code, in a fresh cache."""
    torch._dynamo.reset()
    yield lambda function: torch.compile(function, fullgraph=True, backend="aot_eager")
    torch._dynamo.reset()


def assert_same_with_gradients(function, expected, *tensors: Tensor) -> None:  # type: ignore[no-untyped-def]
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    twins = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    got, wanted = function(*leaves), expected(*twins)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    got.square().sum().backward()
    wanted.square().sum().backward()
    for leaf, twin in zip(leaves, twins, strict=True):
        torch.testing.assert_close(leaf.grad, twin.grad, rtol=1e-4, atol=1e-3)


def test_compiled_function_forward_and_backward(compiled) -> None:  # type: ignore[no-untyped-def]
    def function(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return conv2d(x.relu(), w, b, 2, (1, 2), backend="native").tanh()

    def expected(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.conv2d(x.relu(), w, b, 2, (1, 2)).tanh()

    shapes = ((2, 3, 9, 17), (4, 3, 3, 3), (4,))
    assert_same_with_gradients(compiled(function), expected, *map(torch.randn, shapes))


def test_compiled_without_gradients(compiled) -> None:  # type: ignore[no-untyped-def]
    x, w = torch.randn(3, 9, 17), torch.randn(4, 3, 3, 3)
    function = compiled(lambda x, w: conv2d(x, w, padding="same", backend="native"))
    torch.testing.assert_close(function(x, w), F.conv2d(x, w, padding="same"), rtol=1e-5, atol=1e-5)


def test_compiled_for_several_sizes(compiled) -> None:  # type: ignore[no-untyped-def]
    w = torch.randn(4, 3, 3, 3)
    function = compiled(lambda x, w: conv2d(x, w, padding=1, backend="native"))
    for size in (5, 8, 17, 16):
        x = torch.randn(1, 3, size, size + 1)
        torch.testing.assert_close(function(x, w), F.conv2d(x, w, padding=1), rtol=1e-5, atol=1e-5)


def test_compiled_module_of_auto(compiled) -> None:  # type: ignore[no-untyped-def]
    model = torch.nn.Sequential(Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), Conv2d(4, 2, 1))
    assert_same_with_gradients(compiled(model), model, torch.randn(1, 3, 7, 8))


def test_compiled_bfloat16(compiled) -> None:  # type: ignore[no-untyped-def]
    x, w = torch.randn(1, 3, 7, 8).bfloat16(), torch.randn(4, 3, 3, 3).bfloat16()
    y = compiled(lambda x, w: conv2d(x, w, backend="native"))(x, w)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, conv2d(x, w, backend="native"))


# --- the operators are public through torch.ops, so that they must not trust their callers


BAD = {
    "too few integers": lambda flat: flat[:-1],
    "too many integers": lambda flat: [*flat, 1],
    "none": lambda flat: [],
    "more pictures": lambda flat: [flat[0] + 1, *flat[1:]],
    "a larger kernel": lambda flat: [*flat[:6], flat[6] + 1, *flat[7:]],
    "more channels": lambda flat: [flat[0], flat[1] * 2, *flat[2:]],
    "a larger output": lambda flat: [*flat[:-1], flat[-1] + 1],
    "stride 0": lambda flat: [*flat[:7], 0, *flat[8:]],
    "negative padding": lambda flat: [*flat[:9], -1, *flat[10:]],
    "dilation 0": lambda flat: [*flat[:13], 0, *flat[14:]],
    "groups 0": lambda flat: [*flat[:15], 0, *flat[16:]],
    "groups that do not divide": lambda flat: [*flat[:15], 2, *flat[16:]],
    "sizes whose product overflows": lambda flat: [2**40, *flat[1:3], 2**40, *flat[4:]],
    "steps that overflow": lambda flat: [*flat[:7], 2**62, *flat[8:13], 2**62, *flat[14:]],
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("name", OPERATORS)
def test_operator_refuses_a_geometry_that_does_not_fit(
    name: str, bad: Callable[[list[int]], list[int]]
) -> None:
    operator, arguments = operator_call(name, Case("", (2, 3, 7, 17), (4, 3, 3, 3), padding=1))
    *tensors, flat = arguments
    with pytest.raises(ValueError, match="fastconv: "):
        operator(*tensors, bad(flat))


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_refuses_other_dtypes_and_devices(name: str) -> None:
    operator, (first, second, *rest) = operator_call(name, OPCHECKED[0])
    with pytest.raises(ValueError, match="fastconv: "):
        operator(first, second.double(), *rest)
    with pytest.raises(ValueError, match="fastconv: "):
        operator(first.long(), second.long(), *rest)


def test_overlapping_geometry_cannot_leave_the_input() -> None:
    operator, (x, w, b, flat) = operator_call("forward", OPCHECKED[0])
    with pytest.raises(ValueError, match="fastconv: "):
        operator(x[:, :, :-1], w, b, flat)
