"""What a backend is: a module with four functions and two constants, and what it may add to them.

A backend is given checked arguments only: 4-d tensors of one floating dtype listed in its
DTYPES, on one device listed in its DEVICES, that fit the ConvGeometry.  With s, d, p for
stride, dilation and padding, and sums over all indices that do not stand on the left:

    forward      y[n,o,i,j]  = b[o] + sum w[o,c,u,v] x[n,c,k,l]
    grad_input   dx[n,c,k,l] = sum w[o,c,u,v] dy[n,o,i,j]
    grad_weight  dw[o,c,u,v] = sum dy[n,o,i,j] x[n,c,k,l]
    grad_bias    db[o]       = sum dy[n,o,i,j]          where k = i s + u d - p, l = j s + v d - p

Everything else in `Backend` has a default, which `completed` adds to a module that leaves it out.

None of them needs to know about autograd: `functional.py` is differentiable on their behalf.
To add a backend, write such a module and give it a row in `table.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import UnsupportedError
from ..geometry import ConvGeometry

FLOATS = frozenset({torch.float32, torch.float64})
HALVES = frozenset({torch.float16, torch.bfloat16})


class Backend(Protocol):
    """The protocol that the modules in this folder follow."""

    DTYPES: frozenset[torch.dtype]  # what it computes in; halves may be left to functional.py
    DEVICES: frozenset[str]  # torch device types

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, g: ConvGeometry
    ) -> Tensor: ...

    def grad_input(self, dy: Tensor, weight: Tensor, g: ConvGeometry) -> Tensor: ...

    def grad_weight(self, dy: Tensor, x: Tensor, g: ConvGeometry) -> Tensor: ...

    def grad_bias(self, dy: Tensor, g: ConvGeometry) -> Tensor: ...

    # What may be left out:

    NAME: str  # its row in the registry
    DTYPES_ON: Mapping[str, frozenset[torch.dtype]]  # other DTYPES on a device type; none
    KEEPS_CHANNELS_LAST: bool  # whether channels_last comes out where it goes in; no
    FUSES_ON: frozenset[str]  # the device types on which frozen stacks run fused; none
    TILES: Mapping[str, int]  # Winograd's tile, by the names that `explain` gives; none
    algo: str | None  # what `using` has laid down; None
    precision: str | None

    def against(self, device: str) -> str:
        """Why it cannot run on 'cuda:0' and the like after all; empty where nothing is known."""

    def using(self, algo: str | None = None, precision: str | None = None) -> Backend:
        """The backend with both laid down, or what is in force for None: a gradient uses what
        its forward call used.  By default it has no choice of algorithms and refuses any."""

    def explain(
        self,
        operation: str,
        g: ConvGeometry,
        dtype: torch.dtype,
        channels_last: bool,
        algo: str | None = None,
    ) -> str:
        """The implementation that runs `operation`, one of the four; by default NAME."""


def completed(module: Any, name: str) -> Backend:
    """The module of the backend `name`, with the defaults for what it leaves out."""

    def using(algo: str | None = None, precision: str | None = None) -> Backend:
        if algo is not None:
            raise UnsupportedError(
                f"conv2d: algo={algo!r} is for the native backend; leave it out, or "
                "backend='native'"
            )
        return module  # type: ignore[no-any-return]

    defaults: dict[str, object] = {
        "NAME": name,
        "DTYPES_ON": {},
        "KEEPS_CHANNELS_LAST": False,
        "FUSES_ON": frozenset(),
        "TILES": {},
        "algo": None,
        "precision": None,
        "against": lambda device: "",
        "using": using,
        "explain": lambda *arguments: name,
    }
    for member, default in defaults.items():
        if not hasattr(module, member):
            setattr(module, member, default)
    return module  # type: ignore[no-any-return]
