"""The pairs of L-BFGS as the native backend keeps and multiplies them, beside torch's operators."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_compact import gradients
from test_moves import start
from torch import Tensor

from fastconv.registry import has
from nst.optimizers.compact_lbfgs import CompactMove
from nst.optimizers.curvature_pairs import NativePairs, Pairs
from nst.optimizers.quasi_newton import unpacked
from nst.optimizers.two_loop_lbfgs import TwoLoopMove

native_only = pytest.mark.skipif(not has("native"), reason="the native backend is not here")

# Some numbers of float32, and pieces and parts of rows beyond them (csrc/ops_pairs.cpp).
SIZES = [(1, 1), (2, 5), (3, 11), (26, 27), (5, 137), (90, 61), (150, 220)]


def both_forms(history: int, boldness: float = 0.25) -> tuple[CompactMove, CompactMove]:
    how = (0.7, history, 0.05, (0.0, 1.0), boldness)
    return CompactMove(*how), CompactMove(*how)


def noisy_valley(x: Tensor, generator: torch.Generator) -> Tensor:
    """A valley whose floor is partly outside of [0, 1]; some pairs are of no use."""
    slope = torch.logspace(0, 1.5, x.numel()).view_as(x)
    target = torch.linspace(-0.3, 1.3, x.numel()).view_as(x).flip(-1)
    return slope * (x - target) + 0.2 * torch.randn(x.shape, generator=generator)


@native_only
@pytest.mark.parametrize("hw", SIZES)
@pytest.mark.parametrize("history", [1, 2, 7])
def test_the_native_operators_move_as_torch_s(
    hw: tuple[int, int], history: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step for step from the same pairs, of which the newest is not yet rounded to 16 bits."""
    mine, theirs = both_forms(history)
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(1, 3, *hw, generator=generator)
    for _ in range(3 * history + 6):
        y, g = x.clone(), noisy_valley(x, generator)
        with monkeypatch.context() as patched:
            patched.setattr("nst.optimizers.curvature_pairs.has", lambda name: False)
            theirs.load(mine.state())
            theirs.move(y, g)
        assert type(theirs.pairs) is Pairs
        mine.move(x, g)
        assert type(mine.pairs) is NativePairs
        torch.testing.assert_close(x, y, rtol=0, atol=1e-4)
        ours, known = mine.state(), theirs.state()
        assert ours["rows"] == known["rows"]
        assert ours["oldest"] == known["oldest"]
        # s.y and y.y of pictures of few pixels are sums of few rounded numbers
        assert ours["scale"] == pytest.approx(known["scale"], rel=1e-3 if y.numel() > 99 else 0.2)
        assert torch.equal(ours["before"], known["before"])
        torch.testing.assert_close(ours["step"], known["step"], rtol=0, atol=1e-4)
        for pairs in zip(ours["pairs"], known["pairs"], strict=True):
            for a, b in list(zip(*pairs))[:2]:
                b = unpacked(b)
                torch.testing.assert_close(
                    unpacked(a), b, rtol=0, atol=float(b.abs().max()) / 32767
                )


@native_only
def test_a_state_has_the_pairs_as_they_are_kept_and_every_form_reads_it() -> None:
    x, given = start().float(), gradients(8)
    move = CompactMove(0.3, 3)
    for g in given[:6]:
        move.move(x, g.float())
    (first, scales), _, _ = move.state()["pairs"][0]
    assert (first.dtype, first.shape, scales.dtype) == (torch.int16, x.shape, torch.float32)
    again, plain = CompactMove(0.3, 3), TwoLoopMove(0.3, 3)
    places = [x.clone() for _ in range(2)]
    again.load(move.state())
    plain.load(move.state())
    assert all(torch.equal(a, b) for a, b in zip(again.pairs.pair(0), move.pairs.pair(0)))
    for one, y in zip((again, plain), places):
        one.move(y, given[6].float())
    move.move(x, given[6].float())
    assert torch.equal(places[0], x)
    torch.testing.assert_close(places[1], x, rtol=0, atol=1e-5)


@native_only
def test_the_native_operators_forget_their_pairs_where_these_lead_uphill() -> None:
    move, _ = both_forms(4)
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(1, 3, 9, 13, generator=generator)
    for _ in range(4):
        move.move(x, noisy_valley(x, generator))
    assert move.state()["pairs"]
    move.scale.fill_(-1e6)
    before, g = x.clone(), noisy_valley(x, generator)
    move.pairs.before.copy_(g)  # a pair with y = 0 is of no use, and leaves the scale as it is
    move.move(x, g)
    went = before - x
    assert move.state()["pairs"] == []
    assert float(move.scale) == 1.0
    assert 0 < float(went.abs().sum()) <= 0.7
    assert float((went * g).sum()) > 0


@native_only
def test_the_native_operators_give_the_same_bits_on_any_number_of_threads() -> None:
    generator = torch.Generator().manual_seed(5)
    x, g, step = torch.rand(3, 1, 3, 150, 200, generator=generator)
    pairs, shares = NativePairs(x, 3), torch.linspace(-1, 1, 7, dtype=torch.float64)
    for row in range(3):
        pairs.keep(row, torch.rand(2, *x.shape, generator=generator).unbind())
    found = []
    for threads in (1, 2, 3):
        before, y = torch.get_num_threads(), x.clone()
        torch.set_num_threads(threads)
        try:
            pairs.step.copy_(step)
            pairs.before.copy_(step)
            products = pairs.look(y, g, (0.0, 1.0), is_placed=True)
            pairs.go(y, torch.tensor([0, 1]), shares, 0.05, (0.0, 1.0))
        finally:
            torch.set_num_threads(before)
        found.append((products, y))
    for products, y in found[1:]:
        assert torch.equal(products, found[0][0])
        assert torch.equal(y, found[0][1])


@native_only
@settings(deadline=None)
@given(
    st.integers(1, 5000),
    st.sampled_from([1e-38, 1e-35, 1e-33, 1e-30, 1e-20, 1e-3, 1.0, 1e20, 3e38]),
    st.integers(0, 99),
    st.sampled_from([0.0, 0.999, 1.0]),
)
@example(415, 1.0, 8, 0.0)  # the largest number is between 32767 and 32768 steps
def test_packed_pairs_lose_little_and_lose_it_once(
    count: int, size: float, seed: int, zeros: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    pair = torch.rand(2, 1, 1, 1, count, generator=generator) * 2 - 1
    pair *= size * (torch.rand(pair.shape, generator=generator) >= zeros)
    pairs = NativePairs(pair[0], 3)
    for row in (0, 2):
        pairs.keep(row, pair.unbind())
    once = torch.stack(pairs.pair(2))
    for begin in range(0, count, 2048):
        piece, found = (t[..., begin : begin + 2048] for t in (pair, once))
        most = piece.abs().amax(-1, keepdim=True)
        lost = (found - piece).abs()
        assert bool((lost <= most / 32767 + 2**-126).all())  # below, numbers count as zero
    pairs.keep(0, once.unbind())
    assert torch.equal(torch.stack(pairs.pair(0)), once)
    assert not pairs.pair(1)[0].any()
    if size == 1.0:
        s, y = torch.stack([once, torch.zeros_like(once), once]).flatten(2).double().unbind(1)
        for found, known in zip(pairs.products(), (s @ y.T, y @ y.T)):
            torch.testing.assert_close(found, known, rtol=1e-12, atol=1e-12)


@native_only
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_piece_with_what_is_no_number_is_none_as_a_whole(wrong: float) -> None:
    s = torch.linspace(-1, 1, 2100).view(1, 1, 1, -1)
    pairs, bad = NativePairs(s, 1), s.clone()
    bad[..., 7] = wrong
    pairs.keep(0, (bad, s))
    found, y = pairs.pair(0)
    assert bool(found[..., :2048].isnan().all())
    assert bool(found[..., 2048:].isfinite().all())
    assert bool(y.isfinite().all())
    assert bool(pairs.products()[0].isnan().all())


@native_only
def test_the_native_operators_refuse_what_they_would_read_wrongly() -> None:
    ops, x, step = torch.ops.fastconv, torch.zeros(40), torch.zeros(64)
    rows, scales = torch.zeros(4, 64, dtype=torch.int16), torch.ones(4, 1)
    found, shares = torch.zeros(3, 5, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    look = [x, x, True, 0.0, 1.0, rows, scales, step, x.clone(), found]
    go = [x, x, rows, scales, step, torch.tensor([0, 1]), shares, 1.0, 0.0, 1.0]
    pack = [x, rows[:1], scales[:1]]
    calls = {"pairs_look": look, "pairs_go": go, "pairs_pack": pack}
    for name, call in calls.items():
        getattr(ops, name)(*call)
    for name, place, wrong in (
        ("pairs_look", 0, torch.zeros(65)),
        ("pairs_look", 1, torch.zeros(39)),
        ("pairs_look", 1, torch.zeros(80)[::2]),
        ("pairs_look", 5, rows[:3]),
        ("pairs_look", 5, torch.zeros(4, 63, dtype=torch.int16)),
        ("pairs_look", 5, torch.zeros(4, 64)),
        ("pairs_look", 6, torch.ones(4, 2)),
        ("pairs_look", 7, torch.zeros(40)),
        ("pairs_look", 8, torch.zeros(41)),
        ("pairs_look", 9, torch.zeros(3, 5)),
        ("pairs_go", 1, torch.zeros(41)),
        ("pairs_go", 2, torch.zeros(4, 32, dtype=torch.int16)),
        ("pairs_go", 3, torch.ones(3, 1)),
        ("pairs_go", 4, torch.zeros(40)),
        ("pairs_go", 5, torch.tensor([0, 4])),
        ("pairs_go", 5, torch.tensor([-1, 1])),
        ("pairs_go", 6, torch.zeros(4, dtype=torch.float64)),
        ("pairs_pack", 0, torch.zeros(65)),
        ("pairs_pack", 1, rows[:2]),
    ):
        arguments = [*calls[name][:place], wrong, *calls[name][place + 1 :]]
        with pytest.raises(ValueError, match=r"pairs: .*expects"):
            getattr(ops, name)(*arguments)


@native_only
def test_the_small_systems_refuse_what_they_would_read_wrongly() -> None:
    float64 = {"dtype": torch.float64}
    products, square = torch.ones(3, 7, **float64), torch.eye(2, **float64)
    kept, oldest, scale = torch.ones(2, dtype=torch.bool), torch.zeros(1, dtype=torch.int64), 1.0
    to, shares = torch.zeros(2, dtype=torch.int64), torch.zeros(5, **float64)
    known = [products, square, square.clone(), kept, oldest, torch.tensor(scale, **float64)]
    known += [True, 1.0, 0.0, 1e-10, 40, to, shares]
    torch.ops.fastconv.pairs_shares(*known)
    for place, wrong in (
        (0, torch.ones(3, 6, **float64)),
        (1, torch.eye(2)),
        (3, torch.ones(3, dtype=torch.bool)),
        (4, torch.full((1,), 2)),
        (4, torch.full((1,), -1)),
        (11, torch.zeros(2)),
        (12, torch.zeros(4, **float64)),
    ):
        with pytest.raises(ValueError, match="pairs: "):
            torch.ops.fastconv.pairs_shares(*known[:place], wrong, *known[place + 1 :])
