"""L-BFGS that never asks its device for a number: the compact form.

moves.py's form reads every inner product: on CUDA each reading waits for all that the card has
still to do, and on a CPU each goes through memory by itself.  Here all pairs are rows of one
matrix, which is read twice a move, once for all products and once for the step; products and
decisions stay where they are, and a pair that says nothing is masked instead of left out.  At 512
pixels, with 10 and 20 pairs and caches full of something else, as a network leaves them, a move
takes 12 and 17 ms on two cores, and 15 and 23 in moves.py's form.

    H g = c g + S R^-T ((D + c Y Y^T) u - c w) - c Y^T u,    u = R^-1 S g,    w = Y g

with rows s_i of S and y_i of Y oldest first, R the upper triangle of S Y^T, D its diagonal and
c = s.y / y.y of the newest pair.  (R. Byrd, J. Nocedal, R. Schnabel, 1994, with pairs as columns.)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .moves import EVERYWHERE, Box, LBFGSMove, State, free_of, resized, scale_of, step_within


def lbfgs_move(device: torch.device, *how: Any) -> LBFGSMove | CompactMove:
    """The form of L-BFGS for a device: MPS has no float64, which the small systems need."""
    return (LBFGSMove if device.type == "mps" else CompactMove)(*how)


class CompactMove:
    """The same moves as LBFGSMove's.

    All rows are of one matrix: two that nobody reads, S and Y (`pairs`), then s, y and push (the
    free part of g) of this move (`newest`).  A pair of use takes the place of the oldest one, any
    other goes to the first two rows.  `is_kept` tells the pairs that count.  Rows end with zeros,
    so that they can be cut into CHUNKS, which are multiplied by themselves.
    """

    CHUNKS = 64

    def __init__(
        self,
        rate: float,
        history: int,
        longest: float = math.inf,
        box: Box = EVERYWHERE,
        boldness: float = 0.0,
    ) -> None:
        self.rate, self.rows, self.longest = rate, history, longest
        self.box, self.boldness = box, boldness
        self.step: Tensor | None = None  # s: what was added to x at the last place
        self.is_placed = False  # whether there was one, and its gradient is known
        self.has_pairs = False

    def _begin(self, g: Tensor) -> None:
        count = g.numel()
        length = -(-count // (16 * self.CHUNKS)) * 16 * self.CHUNKS
        memory = g.new_zeros(2 + 2 * self.rows + 3, length)
        self.known, self.writable = memory[2:], memory[:-3]
        self.pairs, self.newest = self.known[:-3], self.known[-3:]
        self.row = self.newest[0]
        self.step, self.y, self.push = (row[:count].view(g.shape) for row in self.newest)
        self.before, self.free = torch.zeros(2, *g.shape, dtype=g.dtype, device=g.device)
        self.sy, self.yy = g.new_zeros(2, self.rows, self.rows, dtype=torch.float64)
        self.is_kept = g.new_zeros(self.rows, dtype=torch.bool)
        self.oldest = g.new_zeros(1, dtype=torch.int64)
        self.first = torch.arange(2, device=g.device)
        self.places = torch.arange(self.rows, device=g.device)
        self.scale = g.new_ones((), dtype=torch.float64)  # c
        self.is_placed = self.has_pairs = False

    def move(self, x: Tensor, g: Tensor) -> bool:
        """Moves x, which it always does: where H g leads uphill, the pairs are forgotten."""
        g = g.contiguous()  # on CUDA it comes channels_last
        if self.step is None:
            self._begin(g)
            assert self.step is not None
        is_free = free_of(x, g, self.box, self.free)
        torch.mul(g, is_free, out=self.push)
        if self.is_placed:
            torch.sub(g, self.before, out=self.y).mul_(is_free)
            self._step(*self._shares(self._remember(self._products())))
        elif self.has_pairs:
            self._step(*self._shares(self._products()))
        else:
            self._step(self._first_length())
        self.step.mul_(is_free)
        if self.longest < math.inf:
            mean = torch.linalg.vector_norm(self.step, 1) / self.step.numel()
            self.step.mul_(self.longest / mean.clamp(min=self.longest))
        self.before.copy_(g)
        step_within(x, self.step, self.box, room=self.y)
        self.is_placed = True
        return True

    def _first_length(self) -> Tensor:
        sum_of_all = torch.linalg.vector_norm(self.push, 1).double()
        return self.rate * sum_of_all.clamp(min=1e-30).reciprocal().clamp(max=1.0)

    def _step(self, of_push: Tensor, of_pairs: Tensor | None = None) -> None:
        """-(of_push push + [S; Y]^T of_pairs), into the step."""
        torch.mul(self.newest[2], -of_push.to(self.row.dtype), out=self.row)
        if of_pairs is not None:
            shares = of_pairs.to(self.row.dtype)
            self.row.addmv_(self.pairs.T, shares, alpha=-1)

    def _products(self) -> Tensor:
        """Of s, y and push (first) with S, Y, s, y and push (second), (3, 2 rows + 3)."""
        chunks = self.known.view(len(self.known), self.CHUNKS, -1).permute(1, 2, 0)
        seen = self.newest.view(3, self.CHUNKS, -1).transpose(0, 1)
        return torch.bmm(seen, chunks).sum(0, dtype=torch.float64)

    def _remember(self, found: Tensor) -> Tensor:
        """Takes in the pair that ends here; the products with all pairs, it among them."""
        end = 2 * self.rows
        (ss, sy), (_, yy) = found[:2, end : end + 2]
        is_useful = sy > LBFGSMove.LEAST
        both = torch.cat([self.oldest, self.oldest + self.rows])
        self.writable.index_copy_(0, torch.where(is_useful, both + 2, self.first), self.newest[:2])
        found = found.index_copy(
            1, torch.where(is_useful, both, self.first + end), found[:, end:-1]
        )
        # s_i.y of all older s_i: the upper triangle needs no more of a new pair
        is_new = is_useful & (self.places == self.oldest)
        of_s, of_y = found[1, :end].view(2, self.rows)
        self.sy = torch.where(is_new, of_s[:, None], self.sy)
        self.yy = torch.where(is_new, of_y[:, None], torch.where(is_new[:, None], of_y, self.yy))
        self.scale = torch.where(is_useful, scale_of(sy, yy, ss, self.boldness), self.scale)
        self.is_kept |= is_new
        self.oldest = torch.where(is_useful, (self.oldest + 1) % self.rows, self.oldest)
        self.has_pairs = True
        return found

    def _shares(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """How much of push and of each pair the step has; rate and direction included."""
        of_push, push_push = found[2, :-3].view(2, self.rows), found[2, -1]
        order = (self.oldest + self.places) % self.rows  # oldest first
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
        longest = (push_push * self.push.numel()).sqrt().clamp(min=1)
        share = self.rate * torch.where(falls, self.scale, longest.reciprocal())
        self.is_kept &= falls
        self.scale = torch.where(falls, self.scale, 1.0)
        of_pairs = torch.where(falls, self.rate * torch.stack([v, of_y]), 0.0)
        zeros = of_push.new_zeros(of_push.shape)
        return share, zeros.index_copy(1, order, of_pairs).flatten()

    def enlarge(self, hw: tuple[int, int]) -> None:
        """Go on at another size with what the pairs tell of; where x was there, nobody knows."""
        if self.step is None:
            return
        smaller = [row[: self.step.numel()].view_as(self.step) for row in self.pairs]
        known = self.is_kept, self.oldest, self.scale
        self._begin(self.step.new_empty(*self.step.shape[:2], *hw))
        for row, pair in zip(self.pairs, smaller):
            row[: self.step.numel()] = resized(pair, hw).flatten()
        self._multiply()
        self.is_kept, self.oldest, self.scale = known
        self.is_kept = self.is_kept & (self.sy.diagonal() > LBFGSMove.LEAST)
        self.has_pairs = bool(self.is_kept.any())

    def _multiply(self) -> None:
        """All products, anew."""
        s, y = self.pairs.view(2, self.rows, -1)
        self.sy, self.yy = (s @ y.T).double(), (y @ y.T).double()

    def state(self) -> State:
        """LBFGSMove's, so that a run can go on elsewhere, and what makes it go on exactly here."""
        if self.step is None:
            return {"pairs": [], "scale": 1.0, "before": None, "step": None}
        oldest = int(self.oldest)
        order = [(oldest + i) % self.rows for i in range(self.rows)]
        rows = [row for row in order if bool(self.is_kept[row])]
        count, shape = self.step.numel(), self.step.shape
        s, y = self.pairs[:, :count].view(2, self.rows, *shape)
        return {
            "pairs": [(s[row], y[row], float(self.sy[row, row])) for row in rows],
            "scale": float(self.scale),
            "before": self.before.clone() if self.is_placed else None,
            "step": self.step.clone() if self.is_placed else None,
            "rows": rows,
            "oldest": oldest,
            "products": (self.sy, self.yy),
        }

    def load(self, state: State) -> None:
        pairs = state["pairs"][-self.rows :]
        if state["before"] is None and not pairs:
            self.step = None
            return
        self._begin(pairs[0][0] if state["before"] is None else state["before"])
        assert self.step is not None
        if state["before"] is not None:
            self.before.copy_(state["before"])
            self.step.copy_(state["step"])
            self.is_placed = self.has_pairs = True
        exactly = "oldest" in state  # else it is the other form's
        rows = state["rows"] if exactly else list(range(len(pairs)))
        s, y = self.pairs.view(2, self.rows, -1)
        for row, pair in zip(rows, pairs, strict=True):
            s[row, : self.step.numel()], y[row, : self.step.numel()] = (
                t.flatten() for t in pair[:2]
            )
            self.is_kept[row] = self.has_pairs = True
        self.oldest.fill_(state["oldest"] if exactly else len(pairs) % self.rows)
        if exactly:
            self.sy, self.yy = (products.clone() for products in state["products"])
        else:
            self._multiply()
        self.scale.fill_(state["scale"])
