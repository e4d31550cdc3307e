"""L-BFGS that never asks its device for a number: the compact form.

moves.py's form reads every inner product: on CUDA each reading waits for all that the card has
still to do, and on a CPU each goes through memory by itself.  Here all pairs are rows of one
matrix, which is read twice a move, once for all products and once for the step; products and
decisions stay where they are, and a pair that says nothing is masked instead of left out.  At 512
pixels, with 10 and 20 pairs and caches full of something else, as a network leaves them, a move
takes 10 and 15 ms on two cores, and 14 and 24 in moves.py's form.

    H g = c g + S R^-T ((D + c Y Y^T) u - c w) - c Y^T u,    u = R^-1 S g,    w = Y g

with rows s_i of S and y_i of Y oldest first, R the upper triangle of S Y^T, D its diagonal and
c = s.y / y.y of the newest pair.  (R. Byrd, J. Nocedal, R. Schnabel, 1994, with pairs as columns.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .moves import LBFGSMove, State


def lbfgs_move(
    device: torch.device, rate: float, history: int, longest: float
) -> LBFGSMove | CompactMove:
    """The form of L-BFGS for a device: MPS has no float64, which the small systems need."""
    return (LBFGSMove if device.type == "mps" else CompactMove)(rate, history, longest)


class CompactMove:
    """The same moves as LBFGSMove's.

    S and Y are the first rows of `pairs`.  A pair of use takes the place of the oldest one, any
    other goes where nobody reads it, into the two rows behind.  `is_kept` tells the rows that
    count.  Rows end with zeros, so that they can be cut into CHUNKS, which are multiplied by
    themselves.
    """

    CHUNKS = 64

    def __init__(self, rate: float, history: int, longest: float = math.inf) -> None:
        self.rate, self.rows, self.longest = rate, history, longest
        self.step: Tensor | None = None  # what was added to x at the last place

    def _begin(self, g: Tensor) -> None:
        count = g.numel()
        length = -(-count // (16 * self.CHUNKS)) * 16 * self.CHUNKS
        self.pairs = g.new_zeros(2 * self.rows + 2, length)
        self.newest = g.new_zeros(3, length)  # s, y and g; y and g are multiplied by all pairs
        self.row = self.newest[0]
        self.step, self.y, self.before = (row[:count].view(g.shape) for row in self.newest)
        self.sy, self.yy = g.new_zeros(2, self.rows, self.rows, dtype=torch.float64)
        self.is_kept = g.new_zeros(self.rows, dtype=torch.bool)
        self.oldest = g.new_zeros(1, dtype=torch.int64)
        self.beside = torch.tensor([2 * self.rows, 2 * self.rows + 1], device=g.device)
        self.places = torch.arange(self.rows, device=g.device)
        self.scale = g.new_ones((), dtype=torch.float64)  # c

    def move(self, x: Tensor, g: Tensor) -> bool:
        """Moves x, which it always does: where H g leads uphill, the pairs are forgotten."""
        g = g.contiguous()  # on CUDA it comes channels_last
        if self.step is None:
            self._begin(g)
            self.before.copy_(g)
            self._step(g, self._first_length(g))
        else:
            self._step(g, *self._shares(g, self._remember(g)))
        assert self.step is not None
        if self.longest < math.inf:
            mean = torch.linalg.vector_norm(self.step, 1) / self.step.numel()
            self.step.mul_(self.longest / mean.clamp(min=self.longest))
        x.add_(self.step)
        return True

    def _first_length(self, g: Tensor) -> Tensor:
        sum_of_all = torch.linalg.vector_norm(g, 1).double()
        return self.rate * sum_of_all.clamp(min=1e-30).reciprocal().clamp(max=1.0)

    def _step(self, g: Tensor, of_g: Tensor, of_pairs: Tensor | None = None) -> None:
        """-(of_g g + [S; Y]^T of_pairs), into the step."""
        assert self.step is not None
        torch.mul(g, -of_g.to(g.dtype), out=self.step)
        if of_pairs is not None:
            self.row.addmv_(self.pairs[: 2 * self.rows].T, of_pairs.to(g.dtype), alpha=-1)

    def _remember(self, g: Tensor) -> Tensor:
        """Takes in the pair that ends at g; S g and Y g, (2, rows)."""
        torch.sub(g, self.before, out=self.y)
        self.before.copy_(g)
        is_useful = torch.dot(self.newest[0], self.newest[1]) > LBFGSMove.LEAST
        place = torch.cat([self.oldest, self.oldest + self.rows])
        place = torch.where(is_useful, place, self.beside)
        self.pairs.index_copy_(0, place, self.newest[:2])
        (sy, yy), of_g = self._products()
        # s_i.y of all older s_i: the upper triangle needs no more of a new pair
        is_new = is_useful & (self.places == self.oldest)
        self.sy = torch.where(is_new, sy[:, None], self.sy)
        self.yy = torch.where(is_new, yy[:, None], torch.where(is_new[:, None], yy, self.yy))
        own = sy[self.oldest][0] / yy[self.oldest][0]
        self.scale = torch.where(is_useful, own, self.scale)
        self.is_kept |= is_new
        self.oldest = torch.where(is_useful, (self.oldest + 1) % self.rows, self.oldest)
        return of_g

    def _products(self) -> Tensor:
        """Of y and g (first) with the rows of S and Y (second), (2, 2, rows)."""
        chunks = self.pairs[: 2 * self.rows].view(2 * self.rows, self.CHUNKS, -1).permute(1, 2, 0)
        seen = self.newest[1:].view(2, self.CHUNKS, -1).transpose(0, 1)
        return torch.bmm(seen, chunks).sum(0, dtype=torch.float64).view(2, 2, self.rows)

    def _shares(self, g: Tensor, of_g: Tensor) -> tuple[Tensor, Tensor]:
        """How much of g and of each pair the step has; rate and direction included."""
        order = (self.oldest + self.places) % self.rows  # oldest first
        kept = self.is_kept[order]
        both = kept[:, None] & kept
        sy, yy = (m[order][:, order] for m in (self.sy, self.yy))
        unit = torch.eye(len(order), dtype=sy.dtype, device=sy.device)
        r, yy = torch.where(both, sy.triu(), unit), torch.where(both, yy, 0.0)
        sg, yg = torch.where(kept, of_g[:, order], 0.0)
        u = torch.linalg.solve_triangular(r, sg[:, None], upper=True)[:, 0]
        behind = torch.where(kept, sy.diagonal(), 0.0) * u + self.scale * (yy @ u - yg)
        v = torch.linalg.solve_triangular(r.T, behind[:, None], upper=False)[:, 0]
        of_y = -self.scale * u
        flat = g.view(-1)
        slope = self.scale * torch.dot(flat, flat) + torch.dot(v, sg) + torch.dot(of_y, yg)
        falls = slope >= 0  # of H g against g; the step is its opposite
        share = torch.where(falls, self.rate * self.scale, self._first_length(g))
        self.is_kept &= falls
        self.scale = torch.where(falls, self.scale, 1.0)
        of_pairs = torch.where(falls, self.rate * torch.stack([v, of_y]), 0.0)
        return share, of_g.new_zeros(of_g.shape).index_copy(1, order, of_pairs).flatten()

    def state(self) -> State:
        """LBFGSMove's, so that a run can go on elsewhere, and what makes it go on exactly here."""
        if self.step is None:
            return {"pairs": [], "scale": 1.0, "before": None, "step": None}
        oldest = int(self.oldest)
        order = [(oldest + i) % self.rows for i in range(self.rows)]
        rows = [row for row in order if bool(self.is_kept[row])]
        count, shape = self.step.numel(), self.step.shape
        s, y = self.pairs[: 2 * self.rows, :count].view(2, self.rows, *shape)
        return {
            "pairs": [(s[row], y[row], float(self.sy[row, row])) for row in rows],
            "scale": float(self.scale),
            "before": self.before.clone(),
            "step": self.step.clone(),
            "rows": rows,
            "oldest": oldest,
            "products": (self.sy, self.yy),
        }

    def load(self, state: State) -> None:
        if state["before"] is None or state["step"] is None:
            self.step = None
            return
        count = state["step"].numel()
        self._begin(state["before"])
        self.before.copy_(state["before"])
        self.row[:count] = state["step"].flatten()
        exactly = "oldest" in state  # else it is the other form's
        pairs = state["pairs"][-self.rows :]
        rows = state["rows"] if exactly else list(range(len(pairs)))
        s, y = self.pairs[: 2 * self.rows].view(2, self.rows, -1)
        for row, pair in zip(rows, pairs, strict=True):
            s[row, :count], y[row, :count] = (t.flatten() for t in pair[:2])
            self.is_kept[row] = True
        self.oldest.fill_(state["oldest"] if exactly else len(pairs) % self.rows)
        if exactly:
            self.sy, self.yy = (products.clone() for products in state["products"])
        else:
            self.sy, self.yy = (s @ y.T).double(), (y @ y.T).double()
        self.scale.fill_(state["scale"])
