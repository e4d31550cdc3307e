"""What a backend is: a module with four functions and two constants.

A backend is given checked arguments only: 4-d tensors of one floating dtype listed in its
DTYPES, on one device listed in its DEVICES, that fit the ConvGeometry.  With s, d, p for
stride, dilation and padding, and sums over all indices that do not stand on the left:

    forward      y[n,o,i,j]  = b[o] + sum w[o,c,u,v] x[n,c,k,l]
    grad_input   dx[n,c,k,l] = sum w[o,c,u,v] dy[n,o,i,j]
    grad_weight  dw[o,c,u,v] = sum dy[n,o,i,j] x[n,c,k,l]
    grad_bias    db[o]       = sum dy[n,o,i,j]          where k = i s + u d - p, l = j s + v d - p

A module may also have DTYPES_ON, other dtypes on a device type, and against(place), which says why
it cannot run on one device after all ('cuda:0' and the like).

None of them needs to know about autograd: `functional.py` is differentiable on their behalf.
To add a backend, write such a module and give it a row in `fastconv/registry.py`.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

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
