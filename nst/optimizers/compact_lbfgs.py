"""L-BFGS that never asks its device for a number: the compact form.

two_loop_lbfgs.py's form reads every inner product: on CUDA each reading waits for all that the card
has still to do, and on a CPU each goes through memory by itself.  Here all pairs are rows of one
matrix (curvature_pairs.py, with measured times), which is read twice a move, once for all products
and once for the step; products and decisions stay where they are, and a pair that says nothing is
masked instead of left out.

    H g = c g + S R^-T ((D + c Y Y^T) u - c w) - c Y^T u,    u = R^-1 S g,    w = Y g

with rows s_i of S and y_i of Y oldest first, R the upper triangle of S Y^T, D its diagonal and
c = s.y / y.y of the newest pair.  (R. Byrd, J. Nocedal, R. Schnabel, 1994, with pairs as columns.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .curvature_pairs import NativePairs, Pairs, pairs_for
from .quasi_newton import QuasiNewtonMove, State, free_of, resized, scale_of, unpacked
from .two_loop_lbfgs import TwoLoopMove


def lbfgs_move(device: torch.device, *how: Any) -> QuasiNewtonMove:
    """The form of L-BFGS for a device: MPS has no float64, which the small systems need."""
    return (TwoLoopMove if device.type == "mps" else CompactMove)(*how)


class CompactMove(QuasiNewtonMove):
    """The same moves as TwoLoopMove's, with the pairs in a matrix (curvature_pairs.py)."""

    def _forget(self) -> None:
        self.pairs: Pairs | NativePairs | None = None
        self.is_placed = False  # whether x has been moved, and the gradient before is known
        self.has_pairs = False

    def _begin(self, g: Tensor) -> Pairs | NativePairs:
        self.pairs, self.numbers = pairs_for(g, self.history), g.numel()
        self.sy, self.yy = g.new_zeros(2, self.history, self.history, dtype=torch.float64)
        self.is_kept = g.new_zeros(self.history, dtype=torch.bool)  # the pairs that count
        self.oldest = g.new_zeros(1, dtype=torch.int64)
        self.unread = torch.arange(2, device=g.device)
        self.places = torch.arange(self.history, device=g.device)
        self.scale = g.new_ones((), dtype=torch.float64)  # c
        self.is_placed = self.has_pairs = False
        return self.pairs

    def move(self, x: Tensor, g: Tensor) -> bool:
        """Moves x, which it always does: where H g leads uphill, the pairs are forgotten."""
        g = g.contiguous()  # on CUDA it comes channels_last
        pairs = self.pairs or self._begin(g)
        found, to = pairs.look(x, g, self.box, self.is_placed), self.unread
        if not self.is_placed and not self.has_pairs:
            shares = self._first_shares(g * free_of(x, g, self.box))
        elif isinstance(pairs, NativePairs):
            shares, to = self._native_shares(found)
        else:
            if self.is_placed:
                found, to = self._remember(found)
            shares = self._shares(found)
        self.has_pairs |= self.is_placed
        pairs.go(x, to, shares, self.longest, self.box)
        self.is_placed = True
        return True

    def _native_shares(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """What `_remember` and `_shares` do, in one operator (csrc/ops_pairs.cpp)."""
        to, shares = torch.empty_like(self.unread), found.new_empty(2 * self.history + 1)
        known = (self.sy, self.yy, self.is_kept, self.oldest, self.scale)
        how = (self.is_placed, self.rate, self.boldness, self.LEAST, self.numbers)
        torch.ops.fastconv.pairs_shares.default(found, *known, *how, to, shares)
        return shares, to

    def _first_shares(self, push: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(push, 1).double()
        share = self.rate * length.clamp(min=1e-30).reciprocal().clamp(max=1.0)
        return torch.cat([share.new_zeros(2 * self.history), share[None]])

    def _remember(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """Takes in the pair that ends here.

        Gives the products with all pairs, it among them, and the rows that it goes to.
        """
        end = 2 * self.history
        (ss, sy), (_, yy) = found[:2, end : end + 2]
        is_useful = sy > self.LEAST
        both = torch.cat([self.oldest, self.oldest + self.history])
        found = found.index_copy(
            1, torch.where(is_useful, both, self.unread + end), found[:, end:-1]
        )
        # s_i.y of all older s_i: the upper triangle needs no more of a new pair
        is_new = is_useful & (self.places == self.oldest)
        of_s, of_y = found[1, :end].view(2, self.history)
        self.sy = torch.where(is_new, of_s[:, None], self.sy)
        self.yy = torch.where(is_new, of_y[:, None], torch.where(is_new[:, None], of_y, self.yy))
        self.scale = torch.where(is_useful, scale_of(sy, yy, ss, self.boldness), self.scale)
        self.is_kept |= is_new
        self.oldest = torch.where(is_useful, (self.oldest + 1) % self.history, self.oldest)
        return found, torch.where(is_useful, both + 2, self.unread)

    def _shares(self, found: Tensor) -> Tensor:
        """How much of each pair and of push the step has; rate and direction included."""
        of_push, push_push = found[2, :-3].view(2, self.history), found[2, -1]
        order = (self.oldest + self.places) % self.history  # oldest first
        kept = self.is_kept[order]
        both = kept[:, None] & kept
        sy, yy = (m[order][:, order] for m in (self.sy, self.yy))
        unit = torch.eye(len(order), dtype=sy.dtype, device=sy.device)
        r, yy = torch.where(both, sy.triu(), unit), torch.where(both, yy, 0.0)
        sg, yg = torch.where(kept, of_push[:, order], 0.0)
        u = torch.linalg.solve_triangular(r, sg[:, None], upper=True)[:, 0]
        behind = torch.where(kept, sy.diagonal(), 0.0) * u + self.scale * (yy @ u - yg)
        v = torch.linalg.solve_triangular(r.T, behind[:, None], upper=False)[:, 0]
        of_y = -self.scale * u
        slope = self.scale * push_push + torch.dot(v, sg) + torch.dot(of_y, yg)
        falls = slope >= 0  # of H g against g; the step is its opposite
        # else no longer than the first step: |push|_1 is the root of this sum at the most
        longest = (push_push * self.numbers).sqrt().clamp(min=1)
        share = self.rate * torch.where(falls, self.scale, longest.reciprocal())
        self.is_kept &= falls
        self.scale = torch.where(falls, self.scale, 1.0)
        of_pairs = torch.where(falls, self.rate * torch.stack([v, of_y]), 0.0)
        zeros = of_push.new_zeros(of_push.shape)
        return torch.cat([zeros.index_copy(1, order, of_pairs).flatten(), share[None]])

    def displace(self) -> None:
        self.is_placed = False

    def enlarge(self, hw: tuple[int, int]) -> None:
        smaller = self.pairs
        if smaller is None:
            return
        order, scale = self._in_order(), self.scale
        pairs = self._begin(smaller.step.new_empty(*smaller.step.shape[:2], *hw))
        count = 0
        for row in order:
            s, y = (resized(t, hw) for t in smaller.pair(row))
            if float(torch.dot(s.view(-1), y.view(-1))) > self.LEAST:
                pairs.keep(count, (s, y))
                count += 1
        self.sy, self.yy = pairs.products()
        self.is_kept[:count] = True
        self.oldest.fill_(count % self.history)
        self.scale, self.has_pairs = scale, count > 0

    def _in_order(self) -> list[int]:
        """The rows of the pairs that count, oldest first."""
        oldest = int(self.oldest)
        order = [(oldest + i) % self.history for i in range(self.history)]
        return [row for row in order if bool(self.is_kept[row])]

    def state(self) -> State:
        """TwoLoopMove's, so that a run can go on elsewhere, and what it takes to do so exactly."""
        pairs = self.pairs
        if pairs is None:
            return {"pairs": [], "scale": 1.0, "before": None, "step": None}
        rows = self._in_order()
        return {
            "pairs": [(*pairs.kept_pair(row), float(self.sy[row, row])) for row in rows],
            "scale": float(self.scale),
            "before": pairs.before.clone() if self.is_placed else None,
            "step": pairs.step.clone() if self.is_placed else None,
            "rows": rows,
            "oldest": int(self.oldest),
            "products": (self.sy.clone(), self.yy.clone()),
        }

    def load(self, state: State) -> None:
        known = state["pairs"][-self.history :]
        if state["before"] is None and not known:
            self.pairs = None
            return
        like = unpacked(known[0][0]) if state["before"] is None else state["before"]
        pairs = self._begin(like)
        if state["before"] is not None:
            pairs.before.copy_(state["before"])
            pairs.step.copy_(state["step"])
            self.is_placed = self.has_pairs = True
        exactly = "oldest" in state  # else it is the other form's
        rows = state["rows"] if exactly else list(range(len(known)))
        for row, (s, y, _) in zip(rows, known, strict=True):
            pairs.keep(row, (s, y))
            self.is_kept[row] = self.has_pairs = True
        self.oldest.fill_(state["oldest"] if exactly else len(known) % self.history)
        if exactly:
            self.sy, self.yy = (products.clone() for products in state["products"])
        else:
            self.sy, self.yy = pairs.products()
        self.scale.fill_(state["scale"])
