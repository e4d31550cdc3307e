"""How much memory a run needs at its peak, known before it begins.

    peak = an interpreter with torch and this package + twice the weights as they are read
         + the network there and back + the content's features, four times + pictures

The network is asked of the frozen stack where the native backend fuses all of it (its arena, one
bit per element, transformed weights).  Elsewhere it is what autograd keeps until the backward pass:
the outputs of ReLUs and pools, the indices of max pooling, the centred features of moments, and one
tensor as large as the largest on the move.  docs/memory.md has both beside measured peaks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .network import Network
from .precision import Precision
from .stacks import cut_stack
from .survey import survey
from .table import Kind

BASE_BYTES = 260 * 2**20  # measured on Linux, Python 3.11 and torch 2.13, in November 2026
# Pictures that the losses take while the arena is there; with autograd they come after its peak.
BESIDE_THE_ARENA = 24
LIBRARY_BYTES = 100 * 2**20  # what torch's convolutions keep for themselves, measured alike
MOVING = 1.0  # tensors as large as the largest, while the first layers go backward


@dataclass(frozen=True)
class Readings:
    """What a run reads of which network, and how."""

    kind: Kind
    features: Sequence[str]
    moments: Sequence[str]
    backend: str
    device: str
    precision: Precision
    pooling: str = "max"
    padding: str = "zero"

    @property
    def layers(self) -> list[str]:
        return [*self.features, *self.moments]


def run_bytes(read: Readings, hw: tuple[int, int], picture_bytes: int) -> int:
    """Bytes at the peak of a run at hw whose pictures, optimiser and all, take `picture_bytes`."""
    rows = survey(read.kind, hw, read.layers, read.pooling)
    value_bytes = read.precision.picture.itemsize
    weights = 2 * 4 * sum(row.parameters for row in rows)
    tapped = 4 * value_bytes * sum(row.values for row in rows if row.name in read.features)
    network = _fused_bytes(read, hw) or _autograd_bytes(read, hw)
    return BASE_BYTES + weights + tapped + network + picture_bytes


def _fused_bytes(read: Readings, hw: tuple[int, int]) -> int:
    """What the frozen stack keeps; 0 where it does not run all of the network in one go."""
    if read.backend != "native" or read.device != "cpu" or read.precision.computed != torch.float32:
        return 0
    stack = cut_stack(read.kind, read.layers, read.pooling)
    if not read.kind.trained:  # memory that is asked for and never written takes none
        for _, module in stack:
            module.to_empty(device="cpu").requires_grad_(False)
    network = Network(read.kind, stack, read.backend, read.padding, read.precision)
    kept = network.fused_bytes(read.features, read.moments, hw)
    return kept and kept + BESIDE_THE_ARENA * 3 * hw[0] * hw[1] * 4


def _autograd_bytes(read: Readings, hw: tuple[int, int]) -> int:
    """What autograd keeps, and what moves besides."""
    rows = survey(read.kind, hw, read.layers, read.pooling)
    value_bytes = read.precision.computed.itemsize
    kept = sum(row.values for row in rows if row.what != "Conv2d")
    centred = sum(row.values for row in rows if row.name in read.moments)
    indices = 8 * sum(row.values for row in rows if row.what == "MaxPool2d")
    moving = MOVING * max(row.values for row in rows)
    own = int((kept + moving) * value_bytes + centred * max(4, value_bytes) + indices)
    return own + LIBRARY_BYTES


def largest_size(needed: Callable[[tuple[int, int]], int], hw: tuple[int, int], limit: int) -> int:
    """The longest side, of pictures shaped like hw, for which `needed` is at most `limit`; or 0."""
    low, high = 0, max(hw)
    while low < high:
        middle = (low + high + 1) // 2
        smaller = max(1, hw[0] * middle // max(hw)), max(1, hw[1] * middle // max(hw))
        try:
            fits = needed(smaller) <= limit
        except (RuntimeError, ValueError):  # too small for the pools
            fits = True
        low, high = (middle, high) if fits else (low, middle - 1)
    return low
