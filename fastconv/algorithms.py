"""Which algorithm computes 3x3 convolutions on the native backend, and which one is in force.

    auto    a measured table chooses; where two are nearly as fast, the more accurate one
    direct  every product of the definition
    f4      Winograd F(4x4,3x3): 4 times fewer multiplications; rounds about 5 times as coarsely
    f6      Winograd F(6x6,3x3): 5 times fewer; rounds about 15 times as coarsely

Winograd's algorithms exist for float32, stride 1, dilation 1 and one group.  Other convolutions
are computed directly, whatever is in force.
"""

from __future__ import annotations

from .choices import Choice, Choosing
from .errors import ArgumentError, did_you_mean

# In the order of csrc/cpu/implementations.h, which knows them by their places.
CHOICES = ("auto", "direct", "f4", "f6")
ENVIRONMENT_VARIABLE = "FASTCONV_ALGO"


def checked(name: str) -> str:
    """`name` itself, if it is an algorithm."""
    if name not in CHOICES:
        raise ArgumentError(f"algorithm {name!r} does not exist; {did_you_mean(name, CHOICES)}")
    return name


CHOICE = Choice(ENVIRONMENT_VARIABLE, "auto", checked)


def current_algorithm() -> str:
    """The name in force: use_algorithm's, FASTCONV_ALGO's, or 'auto'."""
    return checked(CHOICE.name)


class use_algorithm(Choosing):
    """Choose the algorithm for all calls that name none, as `use_backend` chooses the backend.

    As a statement it holds until the next one; in a `with` block it ends with the block.  The
    choice is one for the whole process.  A gradient uses what was in force at its forward call.
    """

    choice = CHOICE
