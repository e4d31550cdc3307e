"""How x moves, against torch's own optimisers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nst.moves import AdamMove, LBFGSMove, Plateau


def valley(x: Tensor) -> Tensor:
    """A long valley that bends: Rosenbrock's, over pairs of values."""
    a, b = x[..., 0::2], x[..., 1::2]
    return (10 * (b - a * a).square() + (1 - a).square()).sum()


def start() -> Tensor:
    return torch.linspace(-1, 1, 24, dtype=torch.float64).view(1, 3, 2, 4)


def ours(move: LBFGSMove | AdamMove, steps: int, function: Callable[[Tensor], Tensor]) -> Tensor:
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
    actual = ours(LBFGSMove(0.3, 5), steps, valley)
    once = {"max_iter": 1, "history_size": 5, "tolerance_grad": 0, "tolerance_change": 0}
    expected = theirs(torch.optim.LBFGS, steps, valley, lr=0.3, **once)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 25])
def test_adam_moves_as_torch_s(steps: int) -> None:
    actual = ours(AdamMove(0.05), steps, valley)
    expected = theirs(torch.optim.Adam, steps, valley, lr=0.05, betas=AdamMove.BETAS)
    torch.testing.assert_close(actual, expected)


def test_lbfgs_does_not_move_uphill() -> None:
    move, x = LBFGSMove(1.0, 5), start()
    move.move(x, torch.ones_like(x))
    move.move(x, torch.full_like(x, 2.0))  # s.y < 0: not remembered
    assert not move.pairs
    move.step, before = torch.ones_like(x), x.clone()
    move.scale = -1.0
    assert not move.move(x, torch.ones_like(x))
    assert torch.equal(x, before)


def test_lbfgs_keeps_no_more_pairs_than_its_history() -> None:
    move = LBFGSMove(0.3, 4)
    ours(move, 12, valley)
    assert len(move.pairs) == 4


@pytest.mark.parametrize("make", [lambda: LBFGSMove(0.3, 4), lambda: AdamMove(0.05)])
def test_a_move_goes_on_from_its_state(make: Callable[[], LBFGSMove | AdamMove]) -> None:
    first, x = make(), start()
    for step in range(6):
        first.move(x, valley_gradient(x))
        if step == 3:
            second, y = make(), x.clone()
            second.load(first.state())
    for _ in range(2):
        second.move(y, valley_gradient(y))
    assert torch.equal(x, y)


def valley_gradient(x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(valley(leaf), leaf)[0]


def test_a_plateau_is_reached_after_the_patience_and_again_after_it() -> None:
    plateau = Plateau(2)
    assert [plateau.reached(loss) for loss in (3.0, 2.0, 2.0, 2.0)] == [False] * 4
    assert [plateau.reached(2.0) for _ in range(4)] == [True, False, False, True]
    assert not plateau.reached(1.0)
