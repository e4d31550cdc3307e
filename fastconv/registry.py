"""Which backend is in force, and why one is missing.

A backend of the table (backends/table.py) is imported when it is first asked for.  One that the
user names (by argument, `use_backend` or FASTCONV_BACKEND) is never replaced by another: if it
cannot run, the error says why and how to get it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache

import torch

from .backends.base import FLOATS, HALVES, Backend, completed
from .backends.table import AUTO, CHOICES, ROWS, TABLE, Row
from .choices import Choice, Choosing
from .errors import BackendUnavailableError, DtypeError, UnknownBackendError, did_you_mean

ENVIRONMENT_VARIABLE = "FASTCONV_BACKEND"


@dataclass(frozen=True)
class BackendInfo:
    """A line of `fastconv.backends()`."""

    name: str
    about: str
    available: bool
    reason: str  # why it is missing; empty when it is there
    devices: tuple[str, ...] = ()
    dtypes: tuple[torch.dtype, ...] = ()


def backends() -> dict[str, BackendInfo]:
    """Every backend by name, in the order of `auto`, with the reason where one is missing."""
    return {row.name: _info(row) for row in ROWS}


def _info(row: Row) -> BackendInfo:
    try:
        module = load(row.name)
    except BackendUnavailableError as error:
        return BackendInfo(row.name, row.about, False, str(error))
    devices, dtypes = sorted(module.DEVICES), sorted(module.DTYPES, key=str)
    return BackendInfo(row.name, row.about, True, "", tuple(devices), tuple(dtypes))


_loaded: dict[str, Backend] = {}


def load(name: str) -> Backend:
    """The module of a backend, or BackendUnavailableError with the reason and the remedy."""
    if name in _loaded:
        return _loaded[name]
    row = TABLE[known(name)]
    try:
        module = importlib.import_module(row.module)
    except ImportError as error:
        raise BackendUnavailableError(
            f"backend '{name}' is not available: {error}; to get it: {row.remedy}"
        ) from error
    _loaded[name] = completed(module, name)
    return _loaded[name]


@cache
def has(name: str) -> bool:
    """Asked of this one alone: backends() imports them all, numba for a quarter second."""
    try:
        load(name)
    except BackendUnavailableError:
        return False
    return True


def known(name: str) -> str:
    """`name` if it is a backend or 'auto', else UnknownBackendError with a hint."""
    if name not in CHOICES:
        raise UnknownBackendError(f"unknown backend {name!r}: {did_you_mean(str(name), CHOICES)}")
    return name


def _at_hand(name: str) -> str:
    if known(name) != AUTO:
        load(name)  # a missing backend is told here, not at the first convolution
    return name


CHOICE = Choice(ENVIRONMENT_VARIABLE, AUTO, _at_hand)


def current_backend() -> str:
    """The name in force where a call names none: use_backend's, FASTCONV_BACKEND's, or 'auto'."""
    return CHOICE.name


class use_backend(Choosing):
    """Choose the backend for all calls that name none.

    As a statement, `use_backend("numba")` holds until the next one; in a `with` block it ends
    with the block.  The choice is one for the whole process, as torch.set_num_threads is.
    `use_backend(None)` returns to FASTCONV_BACKEND, or `auto`.
    """

    choice = CHOICE


def place_of(tensor: torch.Tensor) -> str:
    """Where a tensor is, as `resolve` wants it: a device type; of CUDA cards, which one."""
    device = tensor.device
    return f"cuda:{device.index}" if device.type == "cuda" else device.type


def resolve(name: str, place: str, dtype: torch.dtype) -> tuple[Backend, torch.dtype]:
    """The backend that runs a call, and the dtype in which it computes.

    A named backend is taken or refused; 'auto' takes the first row that can.  Halves that a
    backend has no kernels for are computed in float32.
    """
    chosen, compute = _choose(name, place, dtype)
    return _loaded[chosen], compute


def chosen_backend(name: str, place: str, dtype: torch.dtype) -> Backend:
    """The same backend, for a tracer, which need not know what it computes in."""
    return resolve(name, place, dtype)[0]


def _choose(name: str, place: str, dtype: torch.dtype) -> tuple[str, torch.dtype]:
    return _cached_choice(name, place, dtype)


# torch.compile must not look into the imports.  This is torch.compiler.assume_constant_result,
# without the seconds that its import of torch._dynamo takes.
_choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


@cache
def _cached_choice(name: str, place: str, dtype: torch.dtype) -> tuple[str, torch.dtype]:
    if known(name) != AUTO:
        return _fitting(name, place, dtype)
    if place == "meta":
        return _fitting("torch", place, dtype)
    for row in ROWS:
        try:
            return _fitting(row.name, place, dtype)
        except (BackendUnavailableError, DtypeError):
            continue
    raise DtypeError(
        f"conv2d: no backend computes input of {_word(dtype)} on device '{place}'; "
        f"expected one of {', '.join(sorted(map(_word, FLOATS | HALVES)))}"
    )


def _fitting(name: str, place: str, dtype: torch.dtype) -> tuple[str, torch.dtype]:
    backend = load(name)
    device_type = place.partition(":")[0]
    computed = backend.DTYPES_ON.get(device_type, backend.DTYPES)
    if dtype not in computed | HALVES:
        offered = ", ".join(sorted(map(_word, computed | HALVES)))
        raise DtypeError(f"conv2d: backend '{name}' expects input of {offered}, got {_word(dtype)}")
    reason = backend.against(place)
    if device_type == "meta":  # nothing is computed there: any backend may stand for its result
        return name, dtype
    if device_type not in backend.DEVICES or reason:
        raise BackendUnavailableError(
            f"conv2d: backend '{name}' runs on {', '.join(sorted(backend.DEVICES))}, input is on "
            f"'{place}'{': ' if reason else ''}{reason}; move it, or use backend='torch'"
        )
    return name, dtype if dtype in computed else torch.float32


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
