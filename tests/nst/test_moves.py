"""How x moves, against torch's own optimisers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nst.optimizers.adam import AdamMove, Plateau
from nst.optimizers.compact_lbfgs import CompactMove
from nst.optimizers.quasi_newton import free_variables, scale_of
from nst.optimizers.two_loop_lbfgs import TwoLoopMove


def valley(x: Tensor) -> Tensor:
    """A long valley that bends: Rosenbrock's, over pairs of values."""
    a, b = x[..., 0::2], x[..., 1::2]
    return (10 * (b - a * a).square() + (1 - a).square()).sum()


def start() -> Tensor:
    return torch.linspace(-1, 1, 24, dtype=torch.float64).view(1, 3, 2, 4)


def ours(move: TwoLoopMove | AdamMove, steps: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    x = start()
    for _ in range(steps):
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(leaf), leaf)
        move.move(x, gradient)
    return x


def theirs(
    kind: Callable[..., torch.optim.Optimizer],
    steps: int,
    function: Callable[[Tensor], Tensor],
    **options: object,
) -> Tensor:
    x = start().requires_grad_()
    optimizer = kind([x], **options)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = function(x)
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return x.detach()


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 25])
def test_lbfgs_moves_as_torch_s(steps: int) -> None:
    actual = ours(TwoLoopMove(0.3, 5), steps, valley)
    once = {"max_iter": 1, "history_size": 5, "tolerance_grad": 0, "tolerance_change": 0}
    expected = theirs(torch.optim.LBFGS, steps, valley, lr=0.3, **once)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 25])
def test_adam_moves_as_torch_s(steps: int) -> None:
    actual = ours(AdamMove(0.05), steps, valley)
    expected = theirs(torch.optim.Adam, steps, valley, lr=0.05, betas=AdamMove.BETAS)
    torch.testing.assert_close(actual, expected)


def test_lbfgs_does_not_move_uphill() -> None:
    move, x = TwoLoopMove(1.0, 5), start()
    move.move(x, torch.ones_like(x))
    move.move(x, torch.full_like(x, 2.0))  # s.y < 0: not remembered
    assert not move.pairs
    move.before, before = torch.ones_like(x), x.clone()
    move.scale = -1.0
    assert not move.move(x, torch.ones_like(x))
    assert torch.equal(x, before)


def test_lbfgs_keeps_no_more_pairs_than_its_history() -> None:
    move = TwoLoopMove(0.3, 4)
    ours(move, 12, valley)
    assert len(move.pairs) == 4


@pytest.mark.parametrize("make", [lambda: TwoLoopMove(0.3, 4), lambda: AdamMove(0.05)])
def test_a_move_goes_on_from_its_state(make: Callable[[], TwoLoopMove | AdamMove]) -> None:
    first, x = make(), start()
    for step in range(6):
        first.move(x, valley_gradient(x))
        if step == 3:
            second, y = make(), x.clone()
            second.load(first.state())
    for _ in range(2):
        second.move(y, valley_gradient(y))
    assert torch.equal(x, y)


FORMS = pytest.mark.parametrize("form", [TwoLoopMove, CompactMove])
BOX = (0.0, 1.0)


@FORMS
@pytest.mark.parametrize("boldness", [0.0, 0.25])
def test_lbfgs_finds_the_lowest_place_in_the_box(form: type, boldness: float) -> None:
    """The bottom of the bowl lies beyond the bounds for two values of three."""
    slope = torch.logspace(0, 2, 24, dtype=torch.float64).view(1, 3, 2, 4)
    bottom = torch.tensor([-2.0, 0.4, 1.7], dtype=torch.float64).view(1, 3, 1, 1)
    mixed = torch.eye(24, dtype=torch.float64) + 0.01
    move, x = form(1.0, 10, box=BOX, boldness=boldness), torch.full_like(slope, 0.5)

    def gradient() -> Tensor:
        away = (slope * (x - bottom)).view(-1)
        return slope * (mixed @ away).view_as(x)

    for _ in range(300):
        move.move(x, gradient())
        assert 0 <= float(x.min()) <= float(x.max()) <= 1
    g = gradient()
    is_free = free_variables(x, g, BOX)
    assert 0 < int(is_free.sum()) < x.numel()
    assert float((g * is_free).abs().max()) < 1e-6, "free values are where nothing pulls them"
    assert not is_free[(g < 0) & (x == 1)].any()
    assert not is_free[(g > 0) & (x == 0)].any()


@FORMS
def test_lbfgs_remembers_the_step_as_its_bounds_have_cut_it(form: type) -> None:
    move, x = form(1.0, 5, box=BOX), torch.tensor([0.5, 0.0, 0.0, 1.0]).view(1, 1, 2, 2)
    move.move(x, torch.tensor([-2.0, 1.0, -1.0, 0.5]).view(1, 1, 2, 2))
    length = 1 / 3.5  # the second value is in the active set, and counts for nothing
    expected = torch.tensor([1.0, 0.0, length, 1 - 0.5 * length]).view(1, 1, 2, 2)
    torch.testing.assert_close(x, expected)
    torch.testing.assert_close(
        move.state()["step"].flatten(), torch.tensor([0.5, 0.0, length, -0.5 * length])
    )


def test_boldness_is_between_both_measures_of_a_pair_s_curvature() -> None:
    sy, yy, ss = 2.0, 16.0, 4.0
    assert scale_of(sy, yy, ss, 0.0) == sy / yy
    assert scale_of(sy, yy, ss, 1.0) == ss / sy
    assert scale_of(sy, yy, ss, 0.5) == pytest.approx((ss / yy) ** 0.5)


def test_both_forms_are_as_bold() -> None:
    first, second = (form(0.3, 4, boldness=0.25) for form in (TwoLoopMove, CompactMove))
    cautious = ours(TwoLoopMove(0.3, 4), 9, valley)
    bold = ours(first, 9, valley)
    torch.testing.assert_close(ours(second, 9, valley), bold, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(bold, cautious, rtol=1e-3)


@pytest.mark.parametrize("steps", [0, 1, 2, 9])
def test_both_forms_go_on_alike_at_another_size(steps: int) -> None:
    forms = [form(0.3, 4, 0.05, (-2.0, 2.0), 0.25) for form in (TwoLoopMove, CompactMove)]
    places = []
    for move in forms:
        ours(move, steps, valley)
        move.enlarge((3, 6))
        assert len(move.state()["pairs"]) == min(4, max(0, steps - 1))
        x = torch.linspace(-1, 1, 54, dtype=torch.float64).view(1, 3, 3, 6)
        for _ in range(6):
            move.move(x, valley_gradient(x))
        places.append(x)
    torch.testing.assert_close(places[1], places[0], rtol=1e-9, atol=1e-9)


@FORMS
def test_a_move_that_was_enlarged_goes_on_from_its_state(form: type) -> None:
    first = form(0.3, 4)
    ours(first, 7, valley)
    first.enlarge((3, 6))
    second = form(0.3, 4)
    second.load(first.state())
    x = torch.linspace(-1, 1, 54, dtype=torch.float64).view(1, 3, 3, 6)
    y = x.clone()
    for _ in range(3):
        first.move(x, valley_gradient(x))
        second.move(y, valley_gradient(y))
    assert torch.equal(x, y)


@FORMS
def test_pairs_that_tell_of_nothing_at_the_new_size_are_let_go(form: type) -> None:
    move, x = form(1.0, 4), torch.zeros(1, 1, 2, 2)
    checks = torch.tensor([1.0, -1.0, -1.0, 1.0]).view(1, 1, 2, 2)
    for slope in (1.0, 0.9):
        move.move(x, slope * checks)
    assert len(move.state()["pairs"]) == 1
    move.enlarge((1, 1))  # where their mean is left, which is 0
    assert move.state()["pairs"] == []
    y = torch.zeros(1, 1, 1, 1)
    move.move(y, torch.full((1, 1, 1, 1), 4.0))
    assert float(y) == -1.0, "as the first move of all"


def valley_gradient(x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(valley(leaf), leaf)[0]


def test_a_plateau_is_reached_after_the_patience_and_again_after_it() -> None:
    plateau = Plateau(2)
    assert [plateau.reached(loss) for loss in (3.0, 2.0, 2.0, 2.0)] == [False] * 4
    assert [plateau.reached(2.0) for _ in range(4)] == [True, False, False, True]
    assert not plateau.reached(1.0)
