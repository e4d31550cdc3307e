"""A matrix of float32 rows in half of its memory, for what is limited by reading memory.

    products   [row_i . vector_k]        combine   sum_i factors_i row_i

Rows are kept as 16-bit integers; each BLOCK of a row has a power of two that its integers are
multiples of.  A number is off by 1/32767 of the largest one in its block at the most (where that
is above 2e-34), which is 7 bits more than bfloat16 keeps of that one, and the operators of csrc/
read rows as they are: torch's would first convert them to float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .registry import load

BLOCK = 2048  # numbers of a row that have a scale in common (csrc/ops_packed_rows.cpp)
Packed = tuple[Tensor, Tensor]  # integers in the shape of the numbers, and the scales of the blocks


def unpacked(packed: Packed) -> Tensor:
    """The float32 numbers that integers and scales stand for; it needs no native backend."""
    integers, scales = packed
    each = scales.repeat_interleave(BLOCK)[: integers.numel()]
    return integers * each.view(integers.shape)


class PackedRows:
    """A matrix (rows, columns) on the CPU, zero at first, that is read much and written by rows.

    Results are the same bits on any number of threads.  A row that is read as numbers and put
    back stays the same bit for bit.  A block with an infinity or a NaN becomes NaN as a whole.
    """

    LINE = 32  # integers of 16 bits in a cache line of 64 bytes

    def __init__(self, rows: int, columns: int) -> None:
        load("native")  # or it says why there is none
        # An odd number of lines: else the same block of all rows would share a set of the caches.
        length = (-(-columns // self.LINE) | 1) * self.LINE
        self.rows, self.columns = rows, columns
        self.integers = torch.zeros(rows, length, dtype=torch.int16)
        self.scales = torch.zeros(rows, -(-columns // BLOCK))

    def put(self, row: int | Tensor, vector: Tensor) -> None:
        """Row `row`, an integer or one int64 in a tensor, becomes `vector` (columns), rounded."""
        place = row if isinstance(row, Tensor) else torch.tensor([row])
        put = torch.ops.fastconv.packed_rows_put.default
        put(vector, place, self.integers, self.scales)

    def packed(self, row: int) -> Packed:
        """A row as it is kept: views of (columns) integers and of its scales."""
        return self.integers[row, : self.columns], self.scales[row]

    def row(self, row: int) -> Tensor:
        """A row as numbers, (columns)."""
        return unpacked(self.packed(row))

    def products(self, vectors: Tensor) -> Tensor:
        """(rows, count), float64: of each row with each of the vectors (count, columns).

        Sums are float32 within a block; the matrix is read once for three vectors.
        """
        found = torch.empty(self.rows, len(vectors), dtype=torch.float64)
        products = torch.ops.fastconv.packed_rows_products.default
        products(self.integers, self.scales, vectors, found)
        return found

    def combine(self, factors: Tensor, out: Tensor | None = None) -> Tensor:
        """sum_i factors_i row_i, (columns), of factors (rows) in float64.

        Rows whose factor is 0 are not read: what they hold, a NaN even, is not in the result.
        """
        out = torch.empty(self.columns) if out is None else out
        combine = torch.ops.fastconv.packed_rows_combine.default
        combine(self.integers, self.scales, factors, out)
        return out
