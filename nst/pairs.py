"""The memory of L-BFGS in its compact form, and the two passes that a move makes over it.

    look    free = 0 where x rests at a wall of the box (`free_of`), else 1
            push = free g,   y = free (g - before),   before = g
            all products of s, y and push with S, Y, s, y and push
    go      s and y are kept among S and Y
            s = -free (sum_i shares[i] [S; Y][i] + shares[-1] push), no longer than `longest`
            x += s, at most up to the walls, and s becomes the way it went

On a CPU, where the native backend is, each is one operator: at 512 pixels, with 10 pairs and caches
full of something else, as a network leaves them, a move takes MEASURED.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastconv.registry import has

from .moves import Box, free_of, step_within


def pairs_for(g: Tensor, count: int) -> Pairs:
    """Memory for `count` pairs of the shape of g."""
    is_native = g.device.type == "cpu" and g.dtype == torch.float32 and has("native")
    return (NativePairs if is_native else Pairs)(g, count)


class Pairs:
    """All of it is one matrix.

    Two rows that nobody reads, S and Y (`known`), then s, y and push of this move (`newest`).  A
    pair of use takes the place of the oldest one, any other goes to the first two rows.  Rows end
    with zeros, so that they can be cut into CHUNKS, which are multiplied by themselves; an odd
    number of lines in each keeps the rows apart in the caches.
    """

    CHUNKS = 64

    free: Tensor | None = None

    def __init__(self, g: Tensor, count: int) -> None:
        lines = -(-g.numel() // (16 * self.CHUNKS)) | 1
        self.rows = g.new_zeros(2 + 2 * count + 3, lines * 16 * self.CHUNKS)
        self.writable, self.read = self.rows[:-3], self.rows[2:]
        self.known, self.newest = self.rows[2:-3], self.rows[-3:]
        self.step, self.y, self.push = self.newest[:, : g.numel()].view(3, *g.shape)
        self.kept = self.known[:, : g.numel()].view(2, count, *g.shape)
        self.before = torch.zeros_like(g)

    def look(self, x: Tensor, g: Tensor, box: Box, is_placed: bool) -> Tensor:
        """(3, 2 count + 3), float64; y only if `before` is known."""
        self.free = free_of(x, g, box, self.free)
        torch.mul(g, self.free, out=self.push)
        if is_placed:
            torch.sub(g, self.before, out=self.y).mul_(self.free)
        self.before.copy_(g)
        chunks = self.read.view(len(self.read), self.CHUNKS, -1).permute(1, 2, 0)
        seen = self.newest.view(3, self.CHUNKS, -1).transpose(0, 1)
        return torch.bmm(seen, chunks).sum(0, dtype=torch.float64)

    def go(self, x: Tensor, to: Tensor, shares: Tensor, longest: float, box: Box) -> None:
        """to (2): the rows that s and y go to; shares (2 count + 1), float64."""
        self.writable.index_copy_(0, to, self.newest[:2])
        row, shares = self.newest[0], shares.to(x.dtype)
        torch.mul(self.newest[2], -shares[-1], out=row)
        row.addmv_(self.known.T, shares[:-1], alpha=-1)
        self.step.mul_(self.free)
        if longest < math.inf:
            mean = torch.linalg.vector_norm(self.step, 1) / self.step.numel()
            self.step.mul_(longest / mean.clamp(min=longest))
        step_within(x, self.step, box, room=self.y)


class NativePairs(Pairs):
    """The same, each in one operator (csrc/ops_pairs.cpp), which makes `free` and `push` on the way."""

    def look(self, x: Tensor, g: Tensor, box: Box, is_placed: bool) -> Tensor:
        found = g.new_empty(3, len(self.read), dtype=torch.float64)
        look = torch.ops.fastconv.pairs_look.default
        look(x, g, is_placed, *box, self.rows, self.before, found)
        return found

    def go(self, x: Tensor, to: Tensor, shares: Tensor, longest: float, box: Box) -> None:
        go = torch.ops.fastconv.pairs_go.default
        go(x, self.before, self.rows, to, shares, longest, *box)
