"""Which algorithm computes 3x3 convolutions on the native backend, and which one is in force.

    auto    a measured table chooses; where two are nearly as fast, the more accurate one
    direct  every product of the definition
    f4      Winograd F(4x4,3x3): 4 times fewer multiplications; rounds about 5 times as coarsely
    f6      Winograd F(6x6,3x3): 5 times fewer; rounds about 15 times as coarsely

Winograd's algorithms exist for float32, stride 1, dilation 1 and one group.  Other convolutions
are computed directly, whatever is in force.
"""

from __future__ import annotations

import os
from types import TracebackType

from .errors import ArgumentError, did_you_mean

CHOICES = ("auto", "direct", "f4", "f6")
ENVIRONMENT_VARIABLE = "FASTCONV_ALGO"

_in_force: str | None = None  # set by use_algorithm
_from_environment = os.environ.get(ENVIRONMENT_VARIABLE) or "auto"  # read once: 0.4 us a time


def checked(name: str) -> str:
    """`name` itself, if it is an algorithm."""
    if name not in CHOICES:
        raise ArgumentError(f"algorithm {name!r} does not exist; {did_you_mean(name, CHOICES)}")
    return name


def current_algorithm() -> str:
    """The name in force: use_algorithm's, FASTCONV_ALGO's, or 'auto'."""
    return checked(_in_force or _from_environment)


class use_algorithm:
    """Choose the algorithm for all calls that name none, as `use_backend` chooses the backend.

    As a statement it holds until the next one; in a `with` block it ends with the block.  The
    choice is one for the whole process.  A gradient uses what was in force at its forward call.
    """

    def __init__(self, name: str | None) -> None:
        global _in_force
        if name is not None:
            checked(name)
        self._before, _in_force = _in_force, name

    def __enter__(self) -> use_algorithm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _in_force
        _in_force = self._before
