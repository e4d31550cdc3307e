"""The compact form of L-BFGS against torch's and the two-loop recursion; it reads no number."""

from __future__ import annotations

import pytest
import torch
from asking import questions
from test_moves import ours, start, theirs, valley, valley_gradient
from torch import Tensor

from nst.optimizers.compact_lbfgs import CompactMove, lbfgs_move
from nst.optimizers.two_loop_lbfgs import TwoLoopMove

DOUBLE = {"rtol": 1e-9, "atol": 1e-9}


def gradients(count: int, numbers: int = 24) -> list[Tensor]:
    """Some of which turn back, so that s.y < 0 now and then."""
    generator = torch.Generator().manual_seed(3)
    shape = (count, 1, 3, 2, numbers // 6)
    return list(torch.randn(shape, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 25])
def test_it_moves_as_torch_s(steps: int) -> None:
    once = {"max_iter": 1, "history_size": 5, "tolerance_grad": 0, "tolerance_change": 0}
    expected = theirs(torch.optim.LBFGS, steps, valley, lr=0.3, **once)
    torch.testing.assert_close(ours(CompactMove(0.3, 5), steps, valley), expected, **DOUBLE)


@pytest.mark.parametrize("history", [1, 2, 7, 40])
def test_pairs_that_say_nothing_are_neither_used_nor_in_the_way(history: int) -> None:
    first, second = TwoLoopMove(0.5, history), CompactMove(0.5, history)
    x, y = start(), start()
    for g in gradients(30):
        first.move(x, g)
        second.move(y, g)
        torch.testing.assert_close(y, x, **DOUBLE)
        ours, theirs = second.state(), first.state()
        assert len(ours["pairs"]) == len(theirs["pairs"])
        assert ours["scale"] == pytest.approx(theirs["scale"], rel=1e-9)
    assert len(first.pairs) < 30 - 1, "some of the pairs are of no use"


def test_uphill_it_forgets_its_pairs_and_moves_no_farther_than_at_the_first_time() -> None:
    move, x = CompactMove(0.3, 5), start()
    for _ in range(4):
        move.move(x, valley_gradient(x))
    assert len(move.state()["pairs"]) == 3
    move.scale.fill_(-1e6)
    before, g = x.clone(), valley_gradient(x)
    move.pairs.before.copy_(g)  # a pair with y = 0 is of no use, and leaves the scale as it is
    assert move.move(x, g)
    went = before - x
    torch.testing.assert_close(went / went.abs().sum(), g / g.abs().sum())
    assert 0 < float(went.abs().sum()) <= 0.3
    assert move.state()["pairs"] == []
    assert float(move.scale) == 1.0


@pytest.mark.parametrize("longest", [1e-4, 1e-2, 1e3])
def test_the_length_of_a_step_is_bounded_as_in_the_other_form(longest: float) -> None:
    first, second = (form(0.3, 4, longest) for form in (TwoLoopMove, CompactMove))
    x, y = start(), start()
    for _ in range(6):
        first.move(x, valley_gradient(x))
        before = y.clone()
        second.move(y, valley_gradient(y))
        torch.testing.assert_close(y, x, **DOUBLE)
        torch.testing.assert_close(y - before, second.pairs.step, **DOUBLE)
        assert float(second.pairs.step.abs().mean()) <= longest * (1 + 1e-9)


@pytest.mark.parametrize("numbers", [6, 1020, 1026, 3072])
def test_rows_of_any_length_are_multiplied_in_chunks(numbers: int) -> None:
    first, second = TwoLoopMove(0.5, 3), CompactMove(0.5, 3)
    x = torch.zeros(1, 3, 2, numbers // 6, dtype=torch.float64)
    y = x.clone()
    for g in gradients(9, numbers):
        first.move(x, g)
        second.move(y, g)
    torch.testing.assert_close(y, x, **DOUBLE)


def test_a_gradient_in_another_layout_is_the_same_gradient() -> None:
    first, second = CompactMove(0.5, 4), CompactMove(0.5, 4)
    x, y = start(), start()
    for g in gradients(6):
        first.move(x, g)
        second.move(y, g.contiguous(memory_format=torch.channels_last))
    assert torch.equal(x, y)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_goes_on_from_its_state_bit_for_bit(dtype: torch.dtype) -> None:
    first, x = CompactMove(0.3, 4), start().to(dtype)
    for step in range(9):
        first.move(x, valley_gradient(x))
        if step == 6:
            second, y = CompactMove(0.3, 4), x.clone()
            second.load(first.state())
    for _ in range(2):
        second.move(y, valley_gradient(y))
    assert torch.equal(x, y)


@pytest.mark.parametrize("forms", [(TwoLoopMove, CompactMove), (CompactMove, TwoLoopMove)])
@pytest.mark.parametrize("steps", [0, 1, 2, 9])
def test_one_form_goes_on_where_the_other_was(forms: tuple[type, type], steps: int) -> None:
    first, second = (form(0.3, 4) for form in forms)
    x = start()
    for _ in range(steps):
        first.move(x, valley_gradient(x))
    second.load(first.state())
    y = x.clone()
    for _ in range(6):
        first.move(x, valley_gradient(x))
        second.move(y, valley_gradient(y))
    torch.testing.assert_close(y, x, **DOUBLE)


def test_no_number_is_asked_for() -> None:
    move, x, given = CompactMove(0.3, 4, 0.01), start(), gradients(8)
    with questions() as asked:
        for g in given:
            move.move(x, g)
    assert asked == []


def test_where_there_are_no_numbers_it_moves_all_the_same() -> None:
    move, x = CompactMove(0.3, 4, 0.01), torch.empty(1, 3, 8, 8, device="meta")
    for _ in range(8):
        move.move(x, torch.empty_like(x))
    assert move.pairs.step.shape == x.shape


def test_the_other_form_does_ask() -> None:
    with questions() as asked:
        ours(TwoLoopMove(0.3, 4), 3, valley)
    assert "__float__" in asked


def test_the_form_is_chosen_by_the_device() -> None:
    forms = {"cpu": CompactMove, "mps": TwoLoopMove, "cuda": CompactMove}
    for device, form in forms.items():
        assert type(lbfgs_move(torch.device(device), 1.0, 5, 0.05)) is form


def test_float32_falls_as_far_in_both_forms() -> None:
    def steep(x: Tensor) -> Tensor:
        slope = torch.logspace(0, 4, x.numel()).view_as(x)
        return (slope * (x - 0.25).square()).mean() * x.numel()

    losses = []
    for form in (TwoLoopMove, CompactMove):
        move, x = form(1.0, 20), torch.linspace(0, 1, 3 * 40 * 40).view(1, 3, 40, 40)
        for _ in range(120):
            leaf = x.clone().requires_grad_()
            (g,) = torch.autograd.grad(steep(leaf), leaf)
            move.move(x, g)
        losses.append(float(steep(x)))
    assert losses[1] < 2 * losses[0] + 1e-4


@pytest.mark.parametrize("history", [2, 4])
def test_both_forms_go_on_with_the_same_pairs_at_a_new_scale(history: int) -> None:
    forms = (TwoLoopMove(0.5, history), CompactMove(0.5, history))
    counts = []
    for move in forms:
        x, rough = start(), gradients(20)
        for g in rough[:7]:
            move.move(x, g)
        move.enlarge((13, 11))
        y = torch.zeros(*x.shape[:2], 13, 11, dtype=x.dtype)
        counts.append([len(move.state()["pairs"])])
        for g in rough[7:16]:
            move.move(y, torch.nn.functional.interpolate(g, (13, 11), mode="bicubic"))
            counts[-1].append(len(move.state()["pairs"]))
    assert counts[0] == counts[1]
