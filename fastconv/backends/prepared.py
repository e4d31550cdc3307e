"""Weights that stay transformed: Winograd's U of every weight tensor in use, both directions.

Transforming the weights costs as much as a tenth of a convolution, and most weights are used many
times between changes.  U is kept beside the tensor object that it was made from, and given back
with it.  A change is noticed from the contents: a hash of the shape and all bytes, which costs one
pass over the weights, 1 % of the convolution.  The version counter that autograd keeps would be
cheaper, but misses `weight.data.mul_(2)` and writes through NumPy, and a stale result shows
nowhere.

U takes 4 (F(4x4)) or 7 times (F(6x6)) the weights' memory for each direction.  All that is kept is
at most FASTCONV_KEEP_MB, apart from as much for results (csrc/results.h); beyond that, weights
are transformed at every call.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass, field

import torch
from torch import Tensor

Kind = tuple[int, bool]  # tile, rotated


@dataclass
class _Entry:
    owner: weakref.ref[Tensor]
    contents: int
    used: dict[Kind, int] = field(default_factory=dict)  # the call that used it last
    transformed: dict[Kind, Tensor] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(u.nbytes for u in self.transformed.values())


# By id, for tensors compare element by element; an entry goes when its owner does.
_entries: dict[int, _Entry] = {}
_lock = threading.RLock()  # an owner may die, and its entry go, while this thread holds it
_calls = 0
most_kept: int | None = None  # bytes; None: as FASTCONV_KEEP_MB says


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # another thread may hold it that the child has not
    os.register_at_fork(after_in_child=_renew_lock)


def prepared(weight: Tensor, tile: int, rotated: bool) -> Tensor | None:
    """U of F(tile x tile, 3x3) for `weight` (c_out, c_in, 3, 3); `rotated` for grad_input.

    None where there is no memory to keep it: the operators then transform the weights themselves.
    """
    global _calls
    _calls += 1
    kind, contents = (tile, rotated), torch.ops.fastconv.fingerprint(weight)
    entry = _entry(weight, contents)
    before, entry.used[kind] = entry.used.get(kind, 0), _calls
    u = entry.transformed.get(kind)
    if u is None and _has_room(weight, kind, before):
        u = _made(weight, kind)
    return u


def _entry(weight: Tensor, contents: int) -> _Entry:
    """Of these contents; what belonged to others is dropped."""
    key = id(weight)
    entry = _entries.get(key)
    if entry is None or entry.owner() is not weight:
        owner = weakref.ref(weight, lambda dead: _forget(key, dead))
        entry = _entries[key] = _Entry(owner, contents)
    elif entry.contents != contents:
        entry = _entries[key] = _Entry(entry.owner, contents, entry.used)
    return entry


def _forget(key: int, owner: weakref.ref[Tensor]) -> None:
    entry = _entries.get(key)
    if entry is not None and entry.owner is owner:
        del _entries[key]


def _has_room(weight: Tensor, kind: Kind, before: int) -> bool:
    """Makes room for a new U, as far as others have not been used since call `before`, its last.

    Weights that are used in turns and do not fit together would else put each other out, and none
    would ever be found.
    """
    most = torch.ops.fastconv.keep_limit() if most_kept is None else most_kept
    most -= 4 * torch.ops.fastconv.prepared_floats(*weight.shape[:2], *kind)
    with _lock:
        entries = list(_entries.values())
        kept = sum(entry.bytes for entry in entries)
        for entry in sorted(entries, key=lambda entry: max(entry.used.values(), default=0)):
            if kept <= most or max(entry.used.values(), default=0) >= before:
                break
            kept -= entry.bytes
            entry.transformed = {}
    return kept <= most


def _made(weight: Tensor, kind: Kind) -> Tensor:
    """It is made of a copy that no other thread writes to: what is kept must belong to the hash
    beside it, whatever happens to the weights meanwhile."""
    snapshot = weight.detach().clone(memory_format=torch.contiguous_format)
    u: Tensor = torch.ops.fastconv.prepare(snapshot, *kind)
    with _lock:
        _entry(weight, torch.ops.fastconv.fingerprint(snapshot)).transformed[kind] = u
    return u


def kept_bytes() -> int:
    """What all transformed weights take."""
    return sum(entry.bytes for entry in list(_entries.values()))


def clear() -> None:
    """Forget everything: gives the memory back at once."""
    _entries.clear()
