"""torch.func's transforms and forward-mode AD on every backend, beside F.conv2d's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, functional
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.nn import functional as F

from fastconv import conv2d

# torch's own, where its forward mode is first used
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
Function = Callable[..., Any]
OPTIONS: tuple[Any, ...] = ((2, 1), (1, 2), 1, 2)  # stride, padding, dilation, groups
DIMS = (
    (0, None, None),
    (None, 0, None),
    (None, None, 0),
    (0, 0, None),
    (0, None, 0),
    (None, 0, 0),
    (0, 0, 0),
)


def draw() -> tuple[Tensor, Tensor, Tensor]:
    shapes = ((2, 4, 4, 5), (6, 2, 3, 3), (6,))
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)


@pytest.fixture
def ours(backend: str) -> Function:
    return lambda x, w, b=None: conv2d(x, w, b, *OPTIONS, backend=backend)


def theirs(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    return F.conv2d(x, w, b, *OPTIONS)


def squared(function: Function) -> Function:
    return lambda *operands: function(*operands).square().sum()


def assert_same(transform: Callable[[Function], Any], ours: Function) -> None:
    torch.testing.assert_close(transform(ours), transform(theirs), rtol=1e-9, atol=1e-9)


def test_jvp(ours: Function) -> None:
    at, tangents = draw(), draw()
    assert_same(lambda f: jvp(f, at, tangents), ours)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("which", range(3))
def test_dual_numbers(which: int, gradients: bool, ours: Function) -> None:
    at, tangents = draw(), draw()

    def tangent(function: Function) -> Tensor:
        with forward_ad.dual_level(), torch.set_grad_enabled(gradients):
            duals = list(at)
            duals[which] = forward_ad.make_dual(at[which], tangents[which])
            found = forward_ad.unpack_dual(function(*duals)).tangent
            assert found is not None
            return found.clone()

    assert_same(tangent, ours)


def test_grad_and_vjp(ours: Function) -> None:
    at = draw()
    assert_same(lambda f: grad(squared(f), (0, 1, 2))(*at), ours)
    dy = torch.randn_like(theirs(*at))
    assert_same(lambda f: vjp(f, *at)[1](dy), ours)


def test_per_sample_gradients(ours: Function) -> None:
    x, w, b = draw()
    each = (0, None, None)
    assert_same(lambda f: vmap(grad(squared(f), (0, 1, 2)), each)(x, w, b), ours)


@pytest.mark.parametrize("dims", DIMS, ids=str)
def test_vmap_over_any_operands_with_gradients(dims: tuple[Any, ...], ours: Function) -> None:
    pairs = zip(dims, draw(), draw())
    at = [first if dim is None else torch.stack([first, second]) for dim, first, second in pairs]
    with torch.no_grad():
        assert_same(lambda f: vmap(f, dims)(*at), ours)
    assert_same(lambda f: vmap(grad(squared(f), (0, 1, 2)), dims)(*at), ours)


def test_vmap_within_vmap(ours: Function) -> None:
    (x, w, _), (other, weights, _) = draw(), draw()
    at = torch.stack([x, other]), torch.stack([w, weights, w])
    assert_same(lambda f: vmap(vmap(f, (0, None)), (None, 0))(*at), ours)


SECOND = {
    "reverse over reverse": lambda f: jacrev(jacrev(f, (0, 1)), (0, 1)),
    "forward over reverse": lambda f: hessian(f, (0, 1)),
    "reverse over forward": lambda f: jacrev(jacfwd(f, (0, 1)), (0, 1)),
    "forward over forward": lambda f: jacfwd(jacfwd(f, (0, 1)), (0, 1)),
}


@pytest.mark.parametrize("second", SECOND.values(), ids=SECOND)
def test_second_derivatives_in_every_order(second: Function, ours: Function) -> None:
    x, w, _ = draw()
    x = x[:1, :, :2, :2]
    assert_same(lambda f: second(squared(f))(x, w), ours)


def test_mixed_second_derivative_of_nested_forward_mode(ours: Function) -> None:
    (x, w, _), (a, c, _), (b, d, _) = draw(), draw(), draw()

    def nested(f: Function) -> Tensor:
        return jvp(lambda x, w: jvp(f, (x, w), (a, c))[1], (x, w), (b, d))[1]

    assert_same(nested, ours)
    torch.testing.assert_close(nested(ours), theirs(a, d) + theirs(b, c))


def test_gradcheck_in_both_modes_and_batched(ours: Function) -> None:
    x, w, b = draw()
    at = [t.requires_grad_() for t in (x[:1, :, :3, :2].clone(), w[:2].clone(), b[:2].clone())]
    flags = ("check_forward_ad", "check_batched_grad", "check_batched_forward_grad")
    assert torch.autograd.gradcheck(ours, at, **dict.fromkeys(flags, True))
    assert torch.autograd.gradgradcheck(ours, at, check_fwd_over_rev=True)


def test_vectorized_jacobians_and_hessians(ours: Function) -> None:
    x, w, _ = draw()
    at = (x[:1, :, :2, :2], w)
    assert_same(lambda f: functional.jacobian(f, at, vectorize=True), ours)
    forward = {"vectorize": True, "strategy": "forward-mode"}
    assert_same(lambda f: functional.jacobian(f, at, **forward), ours)
    assert_same(lambda f: functional.hessian(squared(f), at, vectorize=True), ours)


def test_unbatched_examples_in_float32(backend: str) -> None:
    x, w = torch.randn(3, 2, 6, 7), torch.randn(4, 2, 3, 3)
    got = vmap(lambda x: conv2d(x, w, padding="same", backend=backend))(x)
    torch.testing.assert_close(got, F.conv2d(x, w, padding="same"), rtol=1e-4, atol=1e-4)


def test_vmap_over_weights_that_winograd_transforms() -> None:
    x, w = torch.randn(1, 16, 12, 12), torch.randn(3, 16, 16, 3, 3)
    got = vmap(lambda w: conv2d(x, w, padding=1, backend="native", algo="f4"))(w)
    expected = torch.stack([F.conv2d(x, each, padding=1) for each in w])
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
