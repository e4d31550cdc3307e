"""Buffers that are reused from call to call.

Freshly mapped memory costs a page fault every 4 KB: filling 8 MB takes 15 ms, and 0.4 ms in memory
that has been filled before (7098c64, 2026-11).  What is called hundreds of times with the same
sizes has buffers of its own.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64, torch.int16: np.int16}


def _array(dtype: torch.dtype, size: int) -> np.ndarray:
    """Memory that begins with a cache line, or the kernels could not write around the caches.

    It is NumPy's, which asks Linux for pages of 2 MB: VGG19's run at 512 px took 351 ms, and with
    pages of 4 KB 378 (6e79b97, 2026-11).
    """
    line = 64 // dtype.itemsize
    whole = np.empty(size + line - 1, _NUMPY[dtype])
    start = -(whole.ctypes.data // whole.itemsize) % line
    return whole[start : start + size]


def empty(dtype: torch.dtype, size: int) -> Tensor:
    """A vector in such memory, not yet written to."""
    return torch.from_numpy(_array(dtype, size))


class Recycler:
    """Tensors of one shape on a CPU whose memory comes back when the last view on it is gone."""

    def __init__(self, dtype: torch.dtype, shape: Sequence[int]) -> None:
        self._dtype, self._shape = dtype, tuple(shape)
        self._free: list[np.ndarray] = []

    @classmethod
    def like(cls, x: Tensor) -> Recycler | None:
        """For tensors like x; none where torch's allocator keeps memory by itself, as for CUDA."""
        known = x.device.type == "cpu" and x.dtype in _NUMPY
        return cls(x.dtype, x.shape) if known else None

    def take(self) -> Tensor:
        """One of them, not yet written to."""
        try:
            base = self._free.pop()
        except IndexError:
            base = _array(self._dtype, math.prod(self._shape))
        lent = base[:]  # the tensor's storage holds on to this array, and it to `base`
        weakref.finalize(lent, self._free.append, base)
        return torch.from_numpy(lent).view(self._shape)
