"""Whether the native backend has CUDA kernels here, and why not; what torch.compile needs of them.

The kernels are in the module fastconv._cuda, which is built where nvcc and a CUDA torch are.  It
gives torch.ops.fastconv.forward, grad_input and grad_weight for CUDA tensors, and grad_bias.
"""

from __future__ import annotations

import importlib
from functools import cache

import torch
from torch import Tensor

from ..geometry import ConvGeometry

OLDEST_CARD = (7, 5)  # compute capability: Turing


def load() -> str:
    """Load the kernels; the reason if that cannot be, else nothing.  No card is asked for yet."""
    if torch.version.cuda is None:
        return "this torch is built without CUDA (pytorch.org tells how to get one with it)"
    try:
        importlib.import_module("fastconv._cuda")
    except ModuleNotFoundError:
        return (
            "this fastconv is built without CUDA kernels; with nvcc of CUDA "
            f"{torch.version.cuda.split('.')[0]} there, "
            "`FASTCONV_CUDA=1 pip install --no-build-isolation .` in its folder builds them"
        )
    except ImportError as error:
        return f"its compiled module _cuda cannot be loaded ({error})"
    register_fakes()
    return ""


@cache
def against_card(device: str) -> str:
    """Why the kernels cannot run on the card 'cuda:N', or nothing."""
    index = torch.device(device)
    capability = torch.cuda.get_device_capability(index)
    if capability >= OLDEST_CARD:
        return ""
    name, (major, minor) = torch.cuda.get_device_name(index), capability
    oldest = "{}.{}".format(*OLDEST_CARD)
    return f"its kernels need compute capability {oldest} or newer, {name} has {major}.{minor}"


@cache
def register_fakes() -> None:
    @torch.library.register_fake("fastconv::grad_bias")
    def _(dy: Tensor, geometry: list[int]) -> Tensor:
        return dy.new_empty(ConvGeometry.from_flat(geometry).c_out)
