"""The stages of a frozen stack: which layers are fused; stack.py draws the picture."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ArgumentError, OutOfMemoryError, ran_out_of_memory
from ..geometry import ConvGeometry, geometry_of
from ..modules import Conv2d, Normalize

POOLS = ("", "max", "average")  # its index is the kernels' number for it


class Moments(NamedTuple):
    """mean[n,i] of f[n,i], and covariance[n,i,j], the mean of (f - mean)[n,i] (f - mean)[n,j]."""

    mean: Tensor  # (n, c)
    covariance: Tensor  # (n, c, c)


def moments_of(f: Tensor) -> Moments:
    """The means (n, c) and covariances (n, c, c) of f (n, c, h, w), never below float32."""
    with torch.autocast(f.device.type, enabled=False):  # half precision would overflow
        flat = (f if f.dtype == torch.float64 else f.float()).flatten(2)
        mean = flat.mean(2)
        centred = flat - mean[..., None]
        return Moments(mean, centred @ centred.mT / flat.shape[2])


@dataclass(frozen=True)
class Readings:
    """The layers that a stack is read at: for their outputs, and for their moments."""

    taps: frozenset[int]
    moments: frozenset[int]

    def __contains__(self, layer: int) -> bool:
        return layer in self.taps or layer in self.moments

    def words(self, layer: int) -> str:
        return ", tap" * (layer in self.taps) + ", moments" * (layer in self.moments)


@dataclass
class Outputs:
    """What a run gives, by layer index."""

    taps: dict[int, Tensor]
    moments: dict[int, Moments]


@dataclass
class Stage:
    """A convolution with what is fused to it: the layers first ... last of the stack."""

    first: int
    last: int
    conv: nn.Conv2d
    relu: bool
    pool: int  # index into POOLS
    begins: bool  # a run, with a picture
    normalize: Normalize | None = None  # what is done to that picture first
    kept: dict[Hashable, Tensor] = field(default_factory=dict)

    def geometry(self, n: int, h: int, w: int) -> ConvGeometry:
        """For an input that is `padded` already, unless its padding is zeros."""
        conv = self.conv
        padding = 0 if any(self.border) else conv.padding
        rest: Any = (conv.stride, padding, conv.dilation, conv.groups)
        return geometry_of((n, conv.in_channels, h, w), conv.weight.shape, *rest)

    @cached_property
    def border(self) -> list[int]:
        """What F.pad adds before the convolution: left, right, top, bottom; none for zeros."""
        plain = self.conv.padding_mode == "zeros"
        return [0] * 4 if plain else self.conv._reversed_padding_repeated_twice

    def padded(self, x: Tensor) -> Tensor:
        check_padding(self.conv, self.first, x)
        return F.pad(x, self.border, self.conv.padding_mode) if any(self.border) else x

    def padded_size(self, h: int, w: int) -> tuple[int, int]:
        left, right, top, bottom = self.border
        return h + top + bottom, w + left + right

    def output_size(self, g: ConvGeometry) -> tuple[int, int]:
        """Height and width after the pool."""
        if not self.pool:
            return g.out_h, g.out_w
        if min(g.out_h, g.out_w) < 2:
            raise ArgumentError(
                f"frozen stack: layer {self.last} pools 2x2, but only {g.out_h} x {g.out_w} pixels "
                "reach it; use a larger picture"
            )
        return g.out_h // 2, g.out_w // 2

    def once(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """Weights as some kernel wants them, made when they are first needed."""
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def keep_only(self, keys: Sequence[Hashable]) -> None:
        """Forget all other weights of the kind that `once` made."""
        self.kept = {key: made for key, made in self.kept.items() if key in keys}

    @cached_property
    def weight(self) -> Tensor:
        """With `normalize` folded in: W / std."""
        weight = self.conv.weight.detach()
        return weight if self.normalize is None else weight / self.normalize.std

    @cached_property
    def bias(self) -> Tensor | None:
        """With `normalize` folded in: b - sum W mean / std."""
        bias = None if self.conv.bias is None else self.conv.bias.detach().contiguous()
        if self.normalize is None:
            return bias
        shift = (self.weight.double() * self.normalize.mean).sum((1, 2, 3))
        return ((0 if bias is None else bias) - shift).to(self.weight.dtype)

    @cached_property
    def outside(self) -> Tensor:
        """By channel, what to pad with for zeros after the normalisation; or empty, for zeros."""
        if self.normalize is None or any(self.border):
            return self.weight.new_empty(0)
        return self.normalize.mean.flatten().to(self.weight)

    def describe(self, g: ConvGeometry, kernels: tuple[str, str], read: Readings) -> str:
        parts = ["Normalize"] * bool(self.normalize)
        parts += [f"Conv2d {g.kh}x{g.kw} {g.c_in} -> {g.c_out}"]
        parts += ["ReLU"] * self.relu + [f"{POOLS[self.pool]} pool"] * bool(self.pool)
        return (
            f"{self.first:3d}..{self.last:<3d} {' + '.join(parts)} at {g.h} x {g.w}: "
            f"{kernels[0]}, back {kernels[1]}{read.words(self.last)}"
        )


def stage_from(
    layers: Sequence[nn.Module],
    index: int,
    read: Readings,
    begins: bool,
    fits: Callable[[nn.Conv2d], bool],
    folds: Callable[[nn.Conv2d], bool] | None,
) -> Stage | None:
    """The stage that begins at `index`, or None if that layer cannot be fused.

    A stage ends where it is read: what is read must exist.  Padding other than zeros and a
    normalisation are for the stage that `begins` a run: torch pads its input.
    """
    first, last = layers[index], index
    normalize = first if isinstance(first, Normalize) and begins and index not in read else None
    if normalize:
        last = index + 1
    conv = layers[last] if last < len(layers) else None
    if type(conv) not in (nn.Conv2d, Conv2d):
        return None
    assert isinstance(conv, nn.Conv2d)
    if not (begins or conv.padding_mode == "zeros") or not fits(conv):
        return None
    relu, pool = False, 0

    def following() -> nn.Module | None:
        return None if last in read or last + 1 >= len(layers) else layers[last + 1]

    if type(following()) is nn.ReLU:
        last, relu = last + 1, True
    if found := pool_of(following()):
        last, pool = last + 1, found
    if normalize and (pool or folds is None or not folds(conv)):
        return None
    return Stage(index, last, conv, relu, pool, begins, normalize)


def pool_of(layer: nn.Module | None) -> int:
    """The number of a pool that can be fused: 2x2, side by side, without padding."""
    if type(layer) is nn.MaxPool2d:
        plain = not layer.return_indices and _pair(layer.dilation) == (1, 1)
        number = POOLS.index("max")
    elif type(layer) is nn.AvgPool2d:
        plain, number = layer.divisor_override in (None, 4), POOLS.index("average")
    else:
        return 0
    two = _pair(layer.kernel_size) == _pair(layer.stride) == (2, 2)
    return number if plain and two and _pair(layer.padding) == (0, 0) and not layer.ceil_mode else 0


def _pair(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def check_padding(conv: nn.Conv2d, layer: int, x: Tensor) -> None:
    """Reflection has as many pixels to give as there are beside the edge, a circle as there are."""
    spare = {"reflect": 1, "circular": 0}.get(conv.padding_mode)
    if spare is None:
        return
    left, right, top, bottom = conv._reversed_padding_repeated_twice
    h, w = x.shape[2:]
    if max(top, bottom) > h - spare or max(left, right) > w - spare:
        raise ArgumentError(
            f"frozen stack: layer {layer} pads in mode '{conv.padding_mode}' by "
            f"{max(top, bottom)} x {max(left, right)}, but only {h} x {w} pixels reach it; "
            "use a larger picture"
        )


@contextmanager
def memory_reported(shape: Sequence[int], where: str = "") -> Iterator[None]:
    """An allocation that fails within is an OutOfMemoryError that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error) or isinstance(error, OutOfMemoryError):
            raise
        raise OutOfMemoryError(
            f"frozen stack: not enough memory{where} for pictures of shape {tuple(shape)}; "
            "memory() tells how much they need"
        ) from error


ONCE = (
    "frozen stack: its fused layers have first derivatives alone; "
    "freeze(..., backend='torch') has second ones as well"
)


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """torch's decorator of this name, with an error that says what to do."""

    @wraps(backward)
    def wrapper(ctx: Any, *gradients: Tensor | None) -> Any:
        with torch.no_grad():
            dx, *rest = backward(ctx, *gradients)
        asked = any(d is not None and d.requires_grad for d in gradients)
        if dx is None or not torch.is_grad_enabled() or not asked:
            return (dx, *rest)
        # A node whose own backward is the error, as torch has it.
        refuse = torch._C._functions.DelayedError(ONCE.encode(), 1)
        return (refuse(dx.detach().requires_grad_()), *rest)

    return wrapper


def check_channels(stage: Stage, x: Tensor) -> None:
    wanted = stage.conv.in_channels
    if x.shape[1] != wanted:
        raise ArgumentError(
            f"frozen stack: layer {stage.first} expects {wanted} channels, got {x.shape[1]}"
        )
