"""L-BFGS with its pairs in 16 bits, beside the same moves with them in float32."""

from __future__ import annotations

import pytest
import torch
from test_compact import gradients
from test_moves import start
from torch import Tensor

from fastconv.packed import PackedRows
from fastconv.registry import has
from nst.optimizers.compact_lbfgs import CompactMove
from nst.optimizers.curvature_pairs import FloatRows
from nst.optimizers.quasi_newton import unpacked
from nst.optimizers.two_loop_lbfgs import TwoLoopMove

native_only = pytest.mark.skipif(not has("native"), reason="the native backend is not here")

# Some numbers, and blocks and parts of rows beyond them (csrc/ops_packed_rows.cpp).
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
def test_packed_pairs_make_the_moves_of_unpacked_ones(
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
        assert type(theirs.pairs.rows) is FloatRows
        mine.move(x, g)
        assert type(mine.pairs.rows) is PackedRows
        torch.testing.assert_close(x, y, rtol=0, atol=1e-4)
        ours, known = mine.state(), theirs.state()
        assert ours["slots"] == known["slots"]
        assert ours["next"] == known["next"]
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
def test_packed_pairs_are_forgotten_where_they_lead_uphill() -> None:
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
def test_a_state_of_an_older_version_is_read_too() -> None:
    """It had other names for the slots, and its rows were cut where the picture ends."""
    x, given = start().float(), gradients(9)
    move = CompactMove(0.3, 3)
    for g in given[:6]:
        move.move(x, g.float())
    state = move.state()
    older = {name: state[name] for name in ("pairs", "scale", "before", "step")}
    older |= {"rows": [0, 1, 2], "oldest": 0, "products": (torch.zeros(3, 3), torch.zeros(3, 3))}
    again, y = CompactMove(0.3, 3), x.clone()
    again.load(older)
    for g in given[6:]:
        move.move(x, g.float())
        again.move(y, g.float())
    torch.testing.assert_close(y, x, rtol=0, atol=1e-5)
