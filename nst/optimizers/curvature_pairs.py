"""The memory of L-BFGS in its compact form: S and Y are the rows of one matrix.

A move reads the matrix twice, once for its products with s, y and the gradient, once for the step;
on a CPU it waits for that.  Where the native backend is, the matrix is kept in 16 bits
(fastconv.packed), elsewhere in the picture's own dtype; all else is the same.

Milliseconds of a move on two cores with AVX-512, the caches full of something else as a network
leaves them (2026-11-28; medians, with 100 pairs the least of 15 on a machine that was busy):

                                   512 px, 10 pairs    20   100    2048 px, 10 pairs    20
    16-bit rows                                 7.3    12    81                  177   276
    float32 rows                                 11    20   174                  281   582
    two-loop recursion                          8.6    13   126                  413
    a move in 3 native operators                4.7   9.4    71                  122   227

The last, which computed all of a move block by block, was given up: a step at 512 px takes some
350 ms, and native code would have to know of bounds and of L-BFGS.  Rows in torch's own float16 or
bfloat16 are slower than in float32, since they have to be converted (512 px, 10 pairs: 18 and 19
ms).  Off the step of float64 by the same 20 pairs: 2e-7 with float32 rows, 3e-5 with 16-bit rows,
2e-4 with float16 and 2e-3 with bfloat16.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastconv.packed import PackedRows
from fastconv.registry import has

from .quasi_newton import Box, Stored, free_variables, step_within

LINE = 16  # float32 numbers in a cache line of 64 bytes
CHUNKS = 64  # of a row, each of which is multiplied by itself


def padded(numbers: int) -> int:
    """The length of a row: CHUNKS of an odd number of lines each, the end of them zeros.

    With an even number of lines, the rows of a chunk would share few sets of the caches.
    """
    return (-(-numbers // (LINE * CHUNKS)) | 1) * LINE * CHUNKS


def pair_bytes(device: torch.device, dtype: torch.dtype) -> int:
    """Bytes that a number of a kept pair takes."""
    return 2 if keeps_packed(device, dtype) else dtype.itemsize


def keeps_packed(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether pairs are kept as PackedRows."""
    return device.type == "cpu" and dtype == torch.float32 and has("native")


class FloatRows:
    """What PackedRows does, in the dtype and on the device of `like`, a vector as long as a row."""

    def __init__(self, rows: int, like: Tensor) -> None:
        self.matrix = like.new_zeros(rows, len(like))

    def put(self, row: Tensor, vector: Tensor) -> None:
        """`row`: (1), which the device alone has to know."""
        self.matrix.index_copy_(0, row, vector[None])

    def row(self, row: int) -> Tensor:
        return self.matrix[row]

    def products(self, vectors: Tensor) -> Tensor:
        rows = self.matrix.view(len(self.matrix), CHUNKS, -1).permute(1, 2, 0)
        given = vectors.view(len(vectors), CHUNKS, -1).transpose(0, 1)
        return torch.bmm(given, rows).sum(0, dtype=torch.float64).T

    def combine(self, factors: Tensor, out: Tensor) -> Tensor:
        return torch.mv(self.matrix.T, factors.to(out.dtype), out=out)


class CurvaturePairs:
    """Slots for pairs, the vectors of a move, and what it does with all numbers of a picture.

    There is one slot more than there are pairs: a new pair is put there before anybody knows
    whether it is of use, and takes nothing from the others if it is not.
    """

    def __init__(self, g: Tensor, count: int) -> None:
        self.shape, self.numbers, self.slots = g.shape, g.numel(), count + 1
        self.vectors = g.new_zeros(3, padded(self.numbers))
        self.step, self.y, self.reduced = self.vectors[:, : self.numbers].view(3, *g.shape)
        self.before, self.free = torch.zeros(2, *g.shape, dtype=g.dtype, device=g.device)
        is_native = keeps_packed(g.device, g.dtype)
        rows, length = 2 * self.slots, self.vectors.shape[1]
        self.rows: PackedRows | FloatRows = (
            PackedRows(rows, length) if is_native else FloatRows(rows, self.vectors[0])
        )

    def pair(self, slot: int) -> tuple[Tensor, Tensor]:
        """s and y in the shape of the picture."""
        s, y = (self.rows.row(row)[: self.numbers] for row in (slot, self.slots + slot))
        return s.view(self.shape), y.view(self.shape)

    def stored_pair(self, slot: int) -> tuple[Stored, Stored]:
        """Copies of s and y as they are stored, for a checkpoint."""
        s, y = (self._stored(row) for row in (slot, self.slots + slot))
        return s, y

    def _stored(self, row: int) -> Stored:
        if isinstance(self.rows, FloatRows):
            return self.rows.row(row)[: self.numbers].view(self.shape).clone()
        integers, scales = self.rows.packed(row)
        return integers[: self.numbers].view(self.shape).clone(), scales.clone()

    def put(self, slot: Tensor, s: Tensor, y: Tensor) -> None:
        """`slot`: (1)."""
        for row, numbers in ((slot, s), (slot + self.slots, y)):
            vector = self.vectors.new_zeros(self.vectors.shape[1])
            vector[: self.numbers] = numbers.reshape(-1)
            self.rows.put(row, vector)

    def all_products(self) -> tuple[Tensor, Tensor]:
        """s_i.y_j and y_i.y_j of all slots, float64."""
        found = []
        for first in range(self.slots, 2 * self.slots, 3):
            several = range(first, min(first + 3, 2 * self.slots))
            found.append(self.rows.products(torch.stack([self.rows.row(row) for row in several])))
        sy, yy = torch.cat(found, 1).view(2, self.slots, self.slots)
        return sy, yy

    def read(self, x: Tensor, g: Tensor, box: Box) -> None:
        """The free variables at x, and the reduced gradient, which is g there and 0 elsewhere."""
        free_variables(x, g, box, out=self.free)
        torch.mul(g, self.free, out=self.reduced)

    def put_newest(self, g: Tensor, slot: Tensor) -> None:
        """Takes s, the last step, and y, by how much g has changed since, into a slot."""
        torch.sub(g, self.before, out=self.y).mul_(self.free)
        self.rows.put(slot, self.vectors[0])
        self.rows.put(slot + self.slots, self.vectors[1])

    def products(self) -> tuple[Tensor, Tensor, Tensor]:
        """(2, slots) each, float64: of S and Y with s, with y and with the reduced gradient."""
        s, y, g = self.rows.products(self.vectors).T.view(3, 2, self.slots)
        return s, y, g

    def reduced_square(self) -> Tensor:
        """The square of the reduced gradient's length, float64."""
        return torch.dot(self.vectors[2], self.vectors[2]).double()

    def move(self, x: Tensor, factors: Tensor, factor: Tensor, longest: float, box: Box) -> None:
        """step = factors (2 slots) [S; Y] + factor g on the free variables, not longer than
        `longest` on average;  x += step, at most up to its bounds;  step becomes x' - x."""
        self.rows.combine(factors, self.vectors[0])
        self.step.mul_(self.free).addcmul_(self.reduced, factor.to(self.step.dtype))
        if longest < math.inf:
            mean = torch.linalg.vector_norm(self.step, 1) / self.numbers
            self.step.mul_(longest / mean.clamp(min=longest))
        step_within(x, self.step, box, buffer=self.y)
