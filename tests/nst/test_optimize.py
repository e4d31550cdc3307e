"""The optimisers on functions whose minimum is known, and their guard."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nst.config.options import StyleConfig
from nst.errors import NstError
from nst.losses.balance import Balance
from nst.losses.evaluation import Evaluation
from nst.optimizers.adam import Adam
from nst.optimizers.base import HALVINGS, Optimizer
from nst.optimizers.compact_lbfgs import CompactMove
from nst.optimizers.lbfgs import LBFGS
from nst.optimizers.quasi_newton import unpacked
from nst.optimizers.table import OPTIMIZERS
from nst.optimizers.two_loop_lbfgs import TwoLoopMove
from nst.tables import found

GOAL = 0.25
Objective = Callable[[Tensor], Evaluation]


def bowl(x: Tensor) -> Evaluation:
    """Steeper in one half than in the other, lowest at GOAL."""
    slope = torch.linspace(1, 20, x.numel()).view_as(x)
    total = (slope * (x - GOAL).square()).mean()
    return Evaluation(total, {"total": total.item()})


def optimizer(name: str, notes: list[str] | None = None, **options: Any) -> Optimizer:
    config = StyleConfig.of("quality", optimizer=name, **options)
    x = torch.full((1, 3, 4, 5), 0.9)
    kind = found("optimizer", name, OPTIMIZERS)
    return kind(x, config, (notes if notes is not None else []).append)


@pytest.fixture(params=[TwoLoopMove, CompactMove], ids=["two loops", "compact"], autouse=True)
def _form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here holds in both of L-BFGS's forms."""
    place = "nst.optimizers.lbfgs.lbfgs_move"
    monkeypatch.setattr(place, lambda device, *rest: request.param(*rest))


def run(it: Optimizer, objective: Objective, steps: int) -> list[float]:
    return [it.step(objective).values["total"] for _ in range(steps)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_finds_the_bottom(name: str) -> None:
    it = optimizer(name, ema=0.9)
    run(it, bowl, 300)
    torch.testing.assert_close(it.picture, torch.full_like(it.picture, GOAL), atol=0.01, rtol=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_step_is_one_evaluation_and_the_first_is_of_the_start(name: str) -> None:
    seen: list[Tensor] = []

    def watched(x: Tensor) -> Evaluation:
        seen.append(x.detach().clone())
        return bowl(x)

    run(optimizer(name), watched, 5)
    assert len(seen) == 5
    assert (seen[0] == 0.9).all()


def test_lbfgs_never_leaps_however_far_the_bottom_seems() -> None:
    def nearly_straight(x: Tensor) -> Evaluation:  # its bottom is at -5000
        total = (x + 1e-4 * x.square()).mean() + 10
        return Evaluation(total, {"total": total.item()})

    it = optimizer("lbfgs")
    assert isinstance(it, LBFGS)
    places = [it.x.detach().clone()]
    for _ in range(8):
        it.step(nearly_straight)
        places.append(it.x.detach().clone())
    moves = [float((b - a).abs().mean()) for a, b in itertools.pairwise(places)]
    assert max(moves) == pytest.approx(it.LONGEST, rel=1e-4)


def test_a_bad_step_of_the_longest_length_is_tried_again_at_half_of_it() -> None:
    places: list[Tensor] = []

    def nearly_straight(x: Tensor) -> Evaluation:  # its bottom is far away, and one value is bad
        places.append(x.detach().clone())
        total = (x + 1e-4 * x.square()).mean() + 10
        return Evaluation(total, {"total": 1e9 if len(places) == 6 else total.item()})

    it = optimizer("lbfgs")
    assert isinstance(it, LBFGS)
    run(it, nearly_straight, 7)
    there, back, again = (float((b - a).abs().mean()) for a, b in itertools.pairwise(places[4:8]))
    assert there == back == pytest.approx(it.LONGEST, rel=1e-4)
    assert again == pytest.approx(it.LONGEST / 2, rel=1e-4)


def test_stepping_back_leaves_no_pair_behind() -> None:
    calls = 0

    def noisy(x: Tensor) -> Evaluation:  # at the same place a gradient that differs by a hair
        nonlocal calls
        calls += 1
        total = bowl(x).total - 1e-6 * calls * x.mean()
        return Evaluation(total, {"total": 1e9 if calls == 8 else total.item()})

    it = optimizer("lbfgs")
    run(it, noisy, 7)
    known = len(it.inner.state()["pairs"])
    scale = it.inner.state()["scale"]
    run(it, noisy, 2)  # the bad one and the way back, then the first step from there
    assert len(it.inner.state()["pairs"]) <= known + 1
    assert it.inner.state()["scale"] == pytest.approx(scale, rel=0.5)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e9])
def test_a_bad_loss_is_stepped_back_from_and_told(name: str, bad: float) -> None:
    notes: list[str] = []
    calls = 0

    def sometimes_bad(x: Tensor) -> Evaluation:
        nonlocal calls
        calls += 1
        if calls == 8:
            return Evaluation(x.sum() * bad, {"total": bad})
        return bowl(x)

    it = optimizer(name, notes)
    before = it.rate
    losses = run(it, sometimes_bad, 10)
    assert it.rate == before / 2
    losses += run(it, sometimes_bad, 90)
    assert it.rate == (before if name == "lbfgs" else before / 2)
    assert len(notes) == 1
    assert "stepped back" in notes[0]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[5]


def test_a_gradient_that_is_not_finite_counts_as_a_bad_loss() -> None:
    notes: list[str] = []
    calls = 0

    def nan_gradient(x: Tensor) -> Evaluation:
        nonlocal calls
        calls += 1
        evaluation = bowl(x)
        if calls == 3:
            evaluation.total = evaluation.total + (x - x).sum().sqrt() * 0  # 0 * inf backwards
        return evaluation

    run(optimizer("lbfgs", notes), nan_gradient, 6)
    assert len(notes) == 1


def test_a_loss_that_is_never_finite_ends_the_run_with_a_reason() -> None:
    def hopeless(x: Tensor) -> Evaluation:
        return Evaluation(x.sum() * math.nan, {"total": math.nan})

    with pytest.raises(NstError, match="does not recover"):
        optimizer("adam").step(hopeless)


def test_the_halvings_have_an_end() -> None:
    calls = 0

    def soon_hopeless(x: Tensor) -> Evaluation:
        nonlocal calls
        calls += 1
        # good at the start and each time it has stepped back, bad after every move
        return bowl(x) if calls % 2 else Evaluation(x.sum() * 1e9, {"total": 1e9})

    notes: list[str] = []
    it = optimizer("adam", notes)
    with pytest.raises(NstError, match="does not recover"):
        run(it, soon_hopeless, 100)
    assert len(notes) == HALVINGS


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_restored_optimizer_goes_on_bit_for_bit(name: str) -> None:
    unbroken = optimizer(name)
    run(unbroken, bowl, 12)
    kept = optimizer_state_after(name, 7)
    resumed = optimizer(name)
    resumed.load_state(kept)
    run(resumed, bowl, 5)
    assert torch.equal(resumed.x, unbroken.x)
    assert torch.equal(resumed.picture, unbroken.picture)


def optimizer_state_after(name: str, steps: int) -> dict[str, Any]:
    it = optimizer(name)
    run(it, bowl, steps)
    return it.state()


def test_adam_s_picture_is_the_corrected_average_of_its_steps() -> None:
    it = optimizer("adam", ema=0.5)
    seen: list[Tensor] = []
    for _ in range(3):
        it.step(bowl)
        seen.append(it.x.detach().clone())
    expected = (seen[0] + 2 * seen[1] + 4 * seen[2]) / 7
    torch.testing.assert_close(it.picture, expected)


def test_adam_without_averaging_gives_its_last_step() -> None:
    it = optimizer("adam", ema=0.0)
    run(it, bowl, 3)
    assert torch.equal(it.picture, it.x.detach())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_leaves_the_range_of_colours(name: str) -> None:
    def outwards(x: Tensor) -> Evaluation:
        total = -x.mean() + 2
        return Evaluation(total, {"total": total.item()})

    it = optimizer(name)
    run(it, outwards, 30)
    assert it.x.max().item() == 1.0


def test_lbfgs_starts_within_the_range_of_colours() -> None:
    x = torch.tensor([-0.5, 0.5, 1.5]).view(1, 3, 1, 1)
    it = LBFGS(x, StyleConfig.of("seed"), lambda text: None)
    assert it.x.flatten().tolist() == [0.0, 0.5, 1.0]


def test_a_new_scale_starts_from_the_picture_with_adam_s_moments() -> None:
    it = optimizer("adam")
    assert isinstance(it, Adam)
    run(it, bowl, 5)
    picture, smaller = it.picture, it.inner.state()
    it.enlarge((8, 10))
    assert it.x.shape == (1, 3, 8, 10)
    assert it.count == 0
    larger = it.inner.state()
    assert larger["m"].shape == larger["v"].shape == it.x.shape
    assert larger["count"] == 4
    assert (larger["v"] >= 0).all()
    torch.testing.assert_close(larger["m"].mean(), smaller["m"].mean(), rtol=0.1, atol=0)
    torch.testing.assert_close(it.x.mean(), picture.mean(), rtol=0.01, atol=0)
    run(it, bowl, 3)


def test_lbfgs_takes_its_memory_along_to_a_new_scale() -> None:
    it = optimizer("lbfgs")
    run(it, bowl, 5)
    known = len(it.inner.state()["pairs"])
    it.enlarge((8, 10))
    found = it.inner.state()["pairs"]
    assert len(found) == known > 0
    assert all(unpacked(t).shape == it.x.shape for s, y, _ in found for t in (s, y))
    assert run(it, bowl, 20)[-1] < 1e-3


def test_adamw_slows_down_where_the_loss_stays() -> None:
    def flat(x: Tensor) -> Evaluation:
        return Evaluation(x.sum() * 0 + 1.0, {"total": 1.0})

    it = optimizer("adamw")
    run(it, flat, 60)
    assert it.inner.rate < it.rate


def test_auto_balance_comes_to_rest_where_both_sides_are_equal() -> None:
    balance = Balance()
    moved = [balance.watch(content=4.0 / balance.factor, style=1.0) for _ in range(200)]
    assert sum(moved) == 20
    assert balance.factor == pytest.approx(4.0, rel=1e-3)


def test_auto_balance_waits_while_there_is_nothing_to_compare() -> None:
    balance = Balance()
    assert not any(balance.watch(content=0.0, style=2.0) for _ in range(50))
    assert balance.factor == 1.0


def test_adamw_is_torchs_without_weight_decay() -> None:
    """While nothing is clamped and the loss falls, step for step."""
    it = optimizer("adamw")
    x = torch.full((1, 3, 4, 5), 0.9, requires_grad=True)
    theirs = torch.optim.AdamW([x], it.rate, betas=(0.9, 0.99), weight_decay=0.0)
    it.step(bowl)  # looks at the start; each later one moves first
    for _ in range(15):
        it.step(bowl)
        theirs.zero_grad()
        bowl(x).total.backward()
        theirs.step()
        torch.testing.assert_close(it.x.detach(), x.detach(), rtol=1e-5, atol=1e-6)
    assert 0 < float(x.detach().min()) < float(x.detach().max()) < 1
