"""The exceptions of fastconv.

    FastconvError
     |- ArgumentError             (ValueError, RuntimeError)   a value that cannot work
     |   `- UnknownBackendError                                 a backend name that does not exist
     |- DtypeError                (TypeError, RuntimeError)    an argument of the wrong type
     |- BackendUnavailableError   (RuntimeError)               a backend that cannot run here
     |- OutOfMemoryError          (MemoryError, RuntimeError)  an allocation that did not fit
     `- UnsupportedError          (NotImplementedError)        nothing wrong, but not offered

Where `torch.nn.functional.conv2d` raises a RuntimeError, ours is one as well, so that code
written around torch's errors keeps working after the swap.  (NotImplementedError is a
RuntimeError in Python itself.)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FastconvError(Exception):
    """The base of every error that fastconv raises on purpose."""


class ArgumentError(FastconvError, ValueError, RuntimeError):
    """A value that cannot work: a shape, a stride, a padding word."""


class UnknownBackendError(ArgumentError):
    """A backend name that does not exist."""


class DtypeError(FastconvError, TypeError, RuntimeError):
    """An argument of the wrong type: an integer tensor, a float stride, mixed dtypes."""


class BackendUnavailableError(FastconvError, RuntimeError):
    """A backend that exists but cannot run here; the message says why and how to get it."""


class OutOfMemoryError(FastconvError, MemoryError, RuntimeError):
    """An allocation that did not fit."""


class UnsupportedError(FastconvError, NotImplementedError):
    """A request that is well-formed but that this backend does not offer."""


def ran_out_of_memory(error: Exception) -> bool:
    """Whether torch, the extension or NumPy could not allocate.

    torch's allocator on the CPU has no exception class of its own.  Where the extension asks torch
    for a tensor, the stable interface tells no reason: all that can fail there is memory.
    """
    named = type(error).__name__ == "OutOfMemoryError"  # torch's: this module does without torch
    told = "alloc" in str(error) or 'torch_call_dispatcher( "aten::empty' in str(error)
    return named or told or isinstance(error, MemoryError)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint for a mistyped `word`: the nearest choice if one is near, then all of them.

    >>> did_you_mean("nubma", ["naive", "numba"])
    "did you mean 'numba'? choices: naive, numba"
    """
    known = list(choices)
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"{hint}choices: {', '.join(known)}"
