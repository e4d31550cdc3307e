"""L-BFGS that reads no number from its device: the compact form.

two_loop_lbfgs.py's form reads every inner product: on CUDA each reading waits for all that the card
has still to do, and on a CPU each goes through memory by itself.  Here all pairs are rows of one
matrix (curvature_pairs.py), which is read twice a move, once for all products and once for the
step; products and decisions stay on the device, and a pair that says nothing is masked instead of
left out.

    H g = c g + S R^-T ((D + c Y Y^T) u - c w) - c Y^T u,    u = R^-1 S g,    w = Y g

with rows s_i of S and y_i of Y oldest first, R the upper triangle of S Y^T, D its diagonal and
c = s.y / y.y of the newest pair.  (R. Byrd, J. Nocedal, R. Schnabel, 1994, with pairs as columns.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .curvature_pairs import CurvaturePairs
from .quasi_newton import QuasiNewtonMove, State, resized, scale_of, unpacked
from .two_loop_lbfgs import TwoLoopMove


def lbfgs_move(device: torch.device, *how: Any) -> QuasiNewtonMove:
    """The form of L-BFGS for a device: MPS has no float64, which the small systems need."""
    return (TwoLoopMove if device.type == "mps" else CompactMove)(*how)


class CompactMove(QuasiNewtonMove):
    """The same moves as TwoLoopMove's, with the pairs in a matrix (curvature_pairs.py)."""

    def _forget(self) -> None:
        self.pairs: CurvaturePairs | None = None
        self.is_placed = False  # whether x has been moved, and the gradient before is known
        self.has_pairs = False

    def _begin(self, g: Tensor) -> CurvaturePairs:
        self.pairs = CurvaturePairs(g, self.history)
        slots = self.pairs.slots
        self.sy, self.yy = g.new_zeros(2, slots, slots, dtype=torch.float64)
        self.is_kept = g.new_zeros(slots, dtype=torch.bool)  # the pairs that count
        self.slots = torch.arange(slots, device=g.device)
        self.next = self.slots[:1].clone()  # the slot of the next pair, whose own does not count
        self.scale = g.new_ones((), dtype=torch.float64)  # c
        self.is_placed = self.has_pairs = False
        return self.pairs

    def move(self, x: Tensor, g: Tensor) -> bool:
        """Moves x, which it always does: where H g leads uphill, the pairs are forgotten."""
        g = g.contiguous()  # on CUDA it comes channels_last
        pairs = self.pairs or self._begin(g)
        pairs.read(x, g, self.box)
        if self.is_placed:
            pairs.put_newest(g, self.next)
        pairs.before.copy_(g)
        if self.is_placed or self.has_pairs:
            with_s, with_y, with_g = pairs.products()
            if self.is_placed:
                self._remember(with_s, with_y)
            factors, factor = self._factors(with_g, pairs.reduced_square())
        else:
            factors, factor = self._first_factors()
        self.has_pairs |= self.is_placed
        pairs.move(x, factors, factor, self.longest, self.box)
        self.is_placed = True
        return True

    def _first_factors(self) -> tuple[Tensor, Tensor]:
        assert self.pairs is not None
        length = torch.linalg.vector_norm(self.pairs.reduced, 1).double()
        factor = -self.rate * length.clamp(min=1e-30).reciprocal().clamp(max=1.0)
        return factor.new_zeros(2 * len(self.slots)), factor

    def _remember(self, with_s: Tensor, with_y: Tensor) -> None:
        """Counts the pair in the next slot, if it says something; the oldest one's is the next."""
        of_newest = torch.stack([*with_s, *with_y])[:, self.next]
        ss, _, sy, yy = of_newest[:, 0]  # s.s, y.s, s.y, y.y
        is_useful = sy > self.LEAST
        is_new = is_useful & (self.slots == self.next)
        s_y, y_y = with_y
        # s_i.y of all older s_i: the upper triangle needs no more of a new pair
        self.sy = torch.where(is_new, s_y[:, None], self.sy)
        self.yy = torch.where(is_new, y_y[:, None], torch.where(is_new[:, None], y_y, self.yy))
        self.scale = torch.where(is_useful, scale_of(sy, yy, ss, self.boldness), self.scale)
        self.next = torch.where(is_useful, (self.next + 1) % len(self.slots), self.next)
        self.is_kept = (self.is_kept | is_new) & (self.slots != self.next)

    def _factors(self, with_g: Tensor, gg: Tensor) -> tuple[Tensor, Tensor]:
        """What the step has of each row of S and Y, and of the reduced gradient: -rate H g."""
        order = (self.next + 1 + self.slots[:-1]) % len(self.slots)  # oldest first
        kept = self.is_kept[order]
        both = kept[:, None] & kept
        sy, yy = (m[order][:, order] for m in (self.sy, self.yy))
        unit = torch.eye(len(order), dtype=sy.dtype, device=sy.device)
        r, yy = torch.where(both, sy.triu(), unit), torch.where(both, yy, 0.0)
        sg, yg = torch.where(kept, with_g[:, order], 0.0)
        u = torch.linalg.solve_triangular(r, sg[:, None], upper=True)[:, 0]
        behind = torch.where(kept, sy.diagonal(), 0.0) * u + self.scale * (yy @ u - yg)
        v = torch.linalg.solve_triangular(r.T, behind[:, None], upper=False)[:, 0]
        of_y = -self.scale * u
        slope = self.scale * gg + torch.dot(v, sg) + torch.dot(of_y, yg)
        falls = slope >= 0  # of H g against g; the step is its opposite
        # else no longer than the first step: |g|_1 is the root of this product at the most
        assert self.pairs is not None
        longest = (gg * self.pairs.numbers).sqrt().clamp(min=1)
        factor = -self.rate * torch.where(falls, self.scale, longest.reciprocal())
        self.is_kept &= falls
        self.scale = torch.where(falls, self.scale, 1.0)
        of_pairs = torch.where(falls, -self.rate * torch.stack([v, of_y]), 0.0)
        zeros = torch.zeros_like(with_g)
        return zeros.index_copy(1, order, of_pairs).flatten(), factor

    def displace(self) -> None:
        self.is_placed = False

    def enlarge(self, hw: tuple[int, int]) -> None:
        smaller = self.pairs
        if smaller is None:
            return
        order, scale = self._in_order(), self.scale
        pairs = self._begin(smaller.step.new_empty(*smaller.shape[:2], *hw))
        count = 0
        for slot in order:
            s, y = (resized(t, hw) for t in smaller.pair(slot))
            if float(torch.dot(s.view(-1), y.view(-1))) > self.LEAST:
                pairs.put(self.slots[count, None], s, y)
                count += 1
        self.sy, self.yy = pairs.all_products()
        self.is_kept[:count] = True
        self.next.fill_(count)
        self.scale, self.has_pairs = scale, count > 0

    def _in_order(self) -> list[int]:
        """The slots of the pairs that count, oldest first."""
        after, slots = int(self.next) + 1, len(self.slots)
        order = [(after + i) % slots for i in range(slots)]
        return [slot for slot in order if bool(self.is_kept[slot])]

    def state(self) -> State:
        """TwoLoopMove's, so that a run can go on elsewhere, and what it takes to do so exactly."""
        pairs = self.pairs
        if pairs is None:
            return {"pairs": [], "scale": 1.0, "before": None, "step": None}
        slots = self._in_order()
        return {
            "pairs": [(*pairs.stored_pair(slot), float(self.sy[slot, slot])) for slot in slots],
            "scale": float(self.scale),
            "before": pairs.before.clone() if self.is_placed else None,
            "step": pairs.step.clone() if self.is_placed else None,
            "slots": slots,
            "next": int(self.next),
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
        exactly = "slots" in state  # else it is the other form's, or an older version's
        slots = state["slots"] if exactly else list(range(len(known)))
        for slot, (s, y, _) in zip(slots, known, strict=True):
            pairs.put(self.slots[slot, None], unpacked(s), unpacked(y))
            self.is_kept[slot] = self.has_pairs = True
        self.next.fill_(state["next"] if exactly else len(known))
        if exactly:
            self.sy, self.yy = (products.clone() for products in state["products"])
        else:
            self.sy, self.yy = pairs.all_products()
        self.scale.fill_(state["scale"])
