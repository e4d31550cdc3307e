"""Conv2d, a torch.nn.Conv2d that computes with fastconv; swap_convs, which puts it in place; and
Normalize, what most networks do to a picture first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .backends.table import AUTO
from .functional import conv2d
from .registry import known, load

Model = TypeVar("Model", bound=nn.Module)


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` on a backend of your choice: same arguments, same state_dict.

    `backend` may be given to the constructor or set later; None leaves it to `use_backend`.
    """

    backend = None  # type: str | None  # (an annotation would be read by TorchScript)
    __constants__ = [  # noqa: RUF012  (torch declares it so)
        *nn.Conv2d.__constants__,
        "backend",
    ]

    def __init__(self, *arguments: Any, backend: str | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.backend = _available(backend)

    # TorchScript compiles this: it knows Optional, and of an `if` on a constant one branch alone.
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:  # noqa: UP045
        if self.padding_mode != "zeros":  # written out first, as torch does
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            left, right, top, bottom = self._reversed_padding_repeated_twice
            sides = [top, bottom, left, right] if self.padding_mode == "zeros" else [0, 0, 0, 0]
            x = input.unsqueeze(0) if input.dim() == 3 else input
            y = torch.ops.fastconv.conv2d(
                x,
                weight,
                bias,
                self.stride,
                sides,
                self.dilation,
                self.groups,
                self.backend,
                None,
                None,
            )
            return y.squeeze(0) if input.dim() == 3 else y
        return conv2d(
            input,
            weight,
            bias,
            self.stride,
            self.padding if self.padding_mode == "zeros" else 0,
            self.dilation,
            self.groups,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        backend = "" if self.backend is None else f", backend={self.backend!r}"
        return super().extra_repr() + backend


class _LazyConv2d(nn.LazyConv2d):
    """nn.LazyConv2d, which at its first call becomes what this says and keeps its backend."""

    cls_to_become = Conv2d  # type: ignore[assignment]
    backend = None  # type: str | None


# A row for each class whose computation is known; others may have a forward of their own.
SWAPPED: dict[type, type[nn.Module]] = {
    nn.Conv2d: Conv2d,
    Conv2d: Conv2d,
    nn.LazyConv2d: _LazyConv2d,
    _LazyConv2d: _LazyConv2d,
}


class Normalize(nn.Module):
    """(x - mean) / std, channel by channel; x (n, c, h, w), mean and std of c numbers each.

    In front of a convolution of up to 3 channels, `freeze` folds it into that one's weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


def swap_convs(model: Model, backend: str | None = None) -> Model:
    """Let every Conv2d in `model` compute on `backend`; returns the same model.

    The modules stay the objects they are, so parameters, hooks, optimisers and state_dicts are
    untouched.  Subclasses with a forward of their own are left alone.  `backend='torch'` brings
    the original computation back.
    """
    _available(backend)
    for module in model.modules():
        if type(module) in SWAPPED:
            # keeps the object: whoever holds it, holds the swapped one
            module.__class__ = SWAPPED[type(module)]
            module.backend = backend  # type: ignore[assignment]
    return model


def _available(backend: str | None) -> str | None:
    if backend is not None and known(backend) != AUTO:
        load(backend)
    return backend
