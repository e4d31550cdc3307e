"""How exactly the native backend multiplies float32 tensors on CUDA, and what is in force.

    fp32    as exactly as float32 is: relative errors around 1e-7
    tf32    factors may be rounded to 10 bits, which tensor cores multiply much faster: 1e-4
    bf16    factors may be rounded to 7 bits, faster still: 1e-3

Sums are float32 always.  `tf32` and `bf16` are leave, not an order: kernels that gain nothing by
them (other dtypes, the CPU, cards without tensor cores) stay exact.  `fp32` is never softened,
whatever torch.backends says; that switches torch's own convolutions.  float16 and bfloat16 tensors,
and with them torch.autocast, are multiplied as they are and summed in float32.
"""

from __future__ import annotations

from .choices import Choice, Choosing
from .errors import ArgumentError, did_you_mean

# In the order of csrc/cuda/table.h, which knows them by their places.
CHOICES = ("fp32", "tf32", "bf16")
ENVIRONMENT_VARIABLE = "FASTCONV_PRECISION"


def checked(name: str) -> str:
    """`name` itself, if it is a precision."""
    if name not in CHOICES:
        hint = did_you_mean(str(name), CHOICES)
        raise ArgumentError(f"precision {name!r} does not exist; {hint}")
    return name


CHOICE = Choice(ENVIRONMENT_VARIABLE, "fp32", checked)


def current_precision() -> str:
    """The name in force: set_precision's, FASTCONV_PRECISION's, or 'fp32'."""
    return checked(CHOICE.name)


class set_precision(Choosing):
    """Choose the precision of float32 convolutions on CUDA: 'fp32', 'tf32' or 'bf16'.

    As a statement it holds until the next one; in a `with` block it ends with the block.  The
    choice is one for the whole process.  A gradient uses what was in force at its forward call.
    `set_precision(None)` returns to FASTCONV_PRECISION, or 'fp32'.
    """

    choice = CHOICE
