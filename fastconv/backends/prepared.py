"""Weights that stay transformed: Winograd's U of every weight tensor in use, both directions.

Transforming the weights costs as much as a tenth of a convolution, and most weights are used many
times between changes.  U is kept beside the tensor object that it was made from, and given back
with it.  A change is noticed from the contents: a hash of all bytes, which costs one pass over
the weights, 1 % of the convolution.  The version counter that autograd keeps would be cheaper,
but misses `weight.data.mul_(2)` and writes through NumPy, and a stale result shows nowhere.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class _Entry:
    owner: weakref.ref[Tensor]
    contents: int
    transformed: dict[tuple[int, bool], Tensor] = field(default_factory=dict)


# By id, for tensors compare element by element; an entry goes when its owner does.
_entries: dict[int, _Entry] = {}


def prepared(weight: Tensor, tile: int, rotated: bool) -> Tensor:
    """U of F(tile x tile, 3x3) for `weight` (c_out, c_in, 3, 3); `rotated` for grad_input."""
    entry = _entry(weight, torch.ops.fastconv.fingerprint(weight))
    u = entry.transformed.get((tile, rotated))
    if u is None:
        u = torch.ops.fastconv.prepare(weight, tile, rotated)
        entry.transformed[tile, rotated] = u
    return u


def _entry(weight: Tensor, contents: int) -> _Entry:
    key = id(weight)
    entry = _entries.get(key)
    if entry is None or entry.owner() is not weight:
        owner = weakref.ref(weight, lambda _: _entries.pop(key, None))
        entry = _entries[key] = _Entry(owner, contents)
    elif entry.contents != contents:
        entry = _entries[key] = _Entry(entry.owner, contents)
    return entry


def clear() -> None:
    """Forget everything: gives the memory back at once."""
    _entries.clear()
