"""The memory of L-BFGS in its compact form, and the two passes that a move makes over it.

    look    free = 0 where x rests at a wall of the box (`free_of`), else 1
            push = free g,   y = free (g - before),   before = g
            all products of s, y and push with S, Y, s, y and push
    go      s and y are kept among S and Y
            s = -free (sum_i shares[i] [S; Y][i] + shares[-1] push), no longer than `longest`
            x += s, at most up to the walls, and s becomes the way it went

On a CPU both wait for memory.  Where the native backend is, each is one operator, and S and Y are
kept as integers of 16 bits (runs come as low as in float32).  Milliseconds of a move at 512 px on
two cores with so many pairs, caches full of something else, as a network leaves them:

                                          10     20    100
    native                               5.8    9.0     35
    torch's operators, float32            12     17     55
    two-loop recursion                     16     23     98
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastconv.registry import has

from .quasi_newton import PIECE, Box, Kept, Packed, free_of, step_within, unpacked

Pair = tuple[Tensor, Tensor]


def pairs_for(g: Tensor, count: int) -> Pairs | NativePairs:
    """Memory for `count` pairs of the shape of g."""
    is_native = g.device.type == "cpu" and g.dtype == torch.float32 and has("native")
    return (NativePairs if is_native else Pairs)(g, count)


def pair_bytes(device: torch.device, dtype: torch.dtype) -> int:
    """Bytes that a number of a kept pair takes."""
    is_native = device.type == "cpu" and dtype == torch.float32 and has("native")
    return 2 if is_native else dtype.itemsize


class Pairs:
    """All of it is one matrix.

    Two rows that nobody reads, S and Y (`known`), then s, y and push of this move (`newest`).  A
    pair of use takes the place of the oldest one, any other goes to the first two rows.  Rows end
    with zeros, so that they can be cut into CHUNKS, which are multiplied by themselves; an odd
    number of lines in each keeps the rows apart in the caches.
    """

    CHUNKS = 64

    def __init__(self, g: Tensor, count: int) -> None:
        lines = -(-g.numel() // (16 * self.CHUNKS)) | 1
        self.rows = g.new_zeros(2 + 2 * count + 3, lines * 16 * self.CHUNKS)
        self.writable, self.read = self.rows[:-3], self.rows[2:]
        self.known, self.newest = self.rows[2:-3], self.rows[-3:]
        self.step, self.y, self.push = self.newest[:, : g.numel()].view(3, *g.shape)
        self.kept = self.known[:, : g.numel()].view(2, count, *g.shape)
        self.before, self.free = torch.zeros(2, *g.shape, dtype=g.dtype, device=g.device)

    def pair(self, row: int) -> Pair:
        """s and y of one of them."""
        return self.kept[0, row], self.kept[1, row]

    def kept_pair(self, row: int) -> Pair:
        """The same as it is kept, for a checkpoint."""
        s, y = self.pair(row)
        return s.clone(), y.clone()

    def keep(self, row: int, pair: tuple[Kept, Kept]) -> None:
        """Put one where another was."""
        s, y = pair
        self.kept[0, row], self.kept[1, row] = unpacked(s), unpacked(y)

    def products(self) -> Pair:
        """s_i.y_j and y_i.y_j of all of them, float64."""
        s, y = self.known.chunk(2)
        return (s @ y.T).double(), (y @ y.T).double()

    def look(self, x: Tensor, g: Tensor, box: Box, is_placed: bool) -> Tensor:
        """(3, 2 count + 3), float64; y only if `before` is known."""
        free_of(x, g, box, self.free)
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


class NativePairs:
    """The same by native operators (csrc/ops_pairs.cpp), with pairs in half of the memory.

    S and Y, s and y are rows of integers up to 32767; every PIECE of a row has a power of two of
    its own, with which a number loses 1/32767 of the largest one at the most (where that is above
    2e-34).  Taken out and put back, a pair is the same bit for bit.  `step` is s in full.
    """

    def __init__(self, g: Tensor, count: int) -> None:
        self.shape, self.count, numbers = g.shape, count, g.numel()
        length = (-(-numbers // 1024) | 1) * 1024  # an odd number of lines, as above
        self.rows = torch.zeros(2 * count + 2, length, dtype=torch.int16)
        self.scales = torch.zeros(2 * count + 2, -(-numbers // PIECE))
        self.row = torch.zeros(length)
        self.step, self.before = self.row[:numbers].view(g.shape), torch.zeros_like(g)

    def pair(self, row: int) -> Pair:
        s, y = self._packed(row), self._packed(self.count + row)
        return unpacked(s), unpacked(y)

    def kept_pair(self, row: int) -> tuple[Packed, Packed]:
        (s, s_scales), (y, y_scales) = self._packed(row), self._packed(self.count + row)
        return (s.clone(), s_scales.clone()), (y.clone(), y_scales.clone())

    def _packed(self, place: int) -> Packed:
        return self.rows[place, : self.step.numel()].view(self.shape), self.scales[place]

    def keep(self, row: int, pair: tuple[Kept, Kept]) -> None:
        pack = torch.ops.fastconv.pairs_pack.default
        for place, kept in zip((row, self.count + row), pair):
            if isinstance(kept, Tensor):
                pack(kept.contiguous(), self.rows[place, None], self.scales[place, None])
                continue
            integers, scales = kept
            mine, my_scales = self._packed(place)
            mine.copy_(integers)
            my_scales.copy_(scales)

    def products(self) -> Pair:
        """Piece by piece: all rows as numbers would take twice the memory that they have."""
        sums = torch.zeros(2, self.count, self.count, dtype=torch.float64)
        for index, scales in enumerate(self.scales[:-2].T):
            at = slice(index * PIECE, (index + 1) * PIECE)
            s, y = (self.rows[:-2, at] * scales[:, None]).double().chunk(2)
            sums += torch.stack([s @ y.T, y @ y.T])
        return sums[0], sums[1]

    def look(self, x: Tensor, g: Tensor, box: Box, is_placed: bool) -> Tensor:
        found = torch.empty(3, len(self.rows) + 1, dtype=torch.float64)
        known = (self.rows, self.scales, self.row, self.before)
        torch.ops.fastconv.pairs_look.default(x, g, is_placed, *box, *known, found)
        return found

    def go(self, x: Tensor, to: Tensor, shares: Tensor, longest: float, box: Box) -> None:
        known = (self.before, self.rows, self.scales, self.row)
        torch.ops.fastconv.pairs_go.default(x, *known, to, shares, longest, *box)
