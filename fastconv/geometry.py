"""ConvGeometry: all shape arithmetic and argument checks of a 2-d convolution.

    y[n, o, i, j] = b[o] + sum_{c, u, v}  w[o, c, u, v] * x[n, c', i*s_h + u*d_h - p_top,
                                                                  j*s_w + v*d_w - p_left]

with c' = c plus the first channel of o's group, and x = 0 outside the picture.  Shapes:

    x  (n, c_in, h, w)        w  (c_out, c_in/groups, kh, kw)
    b  (c_out,)               y  (n, c_out, out_h, out_w)

Every backend receives one ConvGeometry and does no shape arithmetic of its own;
`csrc/geometry.h` mirrors the fields.  Padding is kept per side because `padding='same'` with
an even kernel pads one more row at the bottom and one more column at the right.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch

from .errors import ArgumentError, DtypeError, OutOfMemoryError

IntOrPair = int | Sequence[int]
PADDING_WORDS = ("valid", "same")


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """The sizes of one convolution, already checked."""

    n: int
    c_in: int
    h: int
    w: int
    c_out: int
    kh: int
    kw: int
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, bottom, left, right
    dilation: tuple[int, int]
    groups: int
    out_h: int
    out_w: int
    # All fields above as one tuple of integers, in the order of `csrc/geometry.h`.
    flat: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sizes = (self.n, self.c_in, self.h, self.w, self.c_out, self.kh, self.kw)
        steps = (*self.stride, *self.padding, *self.dilation)
        flat = (*sizes, *steps, self.groups, self.out_h, self.out_w)
        object.__setattr__(self, "flat", flat)  # made once: every call of an operator takes it

    def __hash__(self) -> int:  # the generated one makes a tuple of all fields first: 0.2 us
        return hash(self.flat)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c_in, self.h, self.w)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return (self.c_out, self.c_in // self.groups, self.kh, self.kw)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c_out, self.out_h, self.out_w)

    @property
    def padded_shape(self) -> tuple[int, int, int, int]:
        top, bottom, left, right = self.padding
        return (self.n, self.c_in, top + self.h + bottom, left + self.w + right)

    @property
    def is_symmetric(self) -> bool:
        """Whether both sides are padded alike, as torch's own `padding=(h, w)` can say."""
        top, bottom, left, right = self.padding
        return top == bottom and left == right

    @classmethod
    def from_flat(cls, flat: Sequence[int]) -> ConvGeometry:
        """The inverse of `flat`."""
        n, c_in, h, w, c_out, kh, kw, s_h, s_w, top, bottom, left, right, d_h, d_w, *rest = flat
        pads = (top, bottom, left, right)
        return cls(n, c_in, h, w, c_out, kh, kw, (s_h, s_w), pads, (d_h, d_w), *rest)

    @property
    def reduction(self) -> int:
        """How many products are added up in one output element."""
        return (self.c_in // self.groups) * self.kh * self.kw

    @property
    def flops(self) -> int:
        """Multiplications and additions of the direct convolution, forward."""
        return 2 * self.n * self.c_out * self.out_h * self.out_w * self.reduction


def as_pair(value: IntOrPair, name: str, least: int) -> tuple[int, int]:
    """`value` as (vertical, horizontal), each an integer >= `least`."""
    if type(value) is int:  # the common cases first: this runs at every call
        first = last = value
    elif type(value) is tuple and len(value) == 2 and type(value[0]) is type(value[1]) is int:
        first, last = value
    else:
        items = value if isinstance(value, (list, tuple)) else (value,)
        if len(items) not in (1, 2):
            raise ArgumentError(f"conv2d: {name} expects an int or a pair, got {value!r}")
        numbers = [_as_int(item, name, value) for item in items]
        first, last = numbers[0], numbers[-1]
    if first < least or last < least:
        kind = "non-negative" if least == 0 else "positive"
        raise ArgumentError(f"conv2d: {name} expects {kind} integers, got {value!r}")
    return (first, last)


def as_count(groups: int) -> int:
    """The number of groups, checked."""
    number = _as_int(groups, "groups", groups, "an int")
    if number < 1:
        raise ArgumentError(f"conv2d: groups expects a positive integer, got {groups!r}")
    return number


def _as_int(
    item: object, name: str, value: object, expected: str = "an int or a pair of ints"
) -> int:
    if not isinstance(item, bool):
        try:
            return operator.index(item)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise DtypeError(f"conv2d: {name} expects {expected}, got {value!r} ({type(item).__name__})")


def geometry_of(
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> ConvGeometry:
    """Check the arguments of a batched conv2d and work out its geometry."""
    strides = as_pair(stride, "stride", 1)
    dilations = as_pair(dilation, "dilation", 1)
    group_count = as_count(groups)
    pads = padding if isinstance(padding, str) else as_pair(padding, "padding", 0)
    return _checked_before(input_shape, weight_shape, strides, pads, dilations, group_count)


def traced_geometry(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] | None,
    dilation: Sequence[int],
    groups: int,
) -> ConvGeometry:
    """The same for sizes that may be symbols: of each comparison torch makes a condition.

    `padding` is given per side, as top, bottom, left, right; None means 'same'.
    """
    pads = "same" if padding is None else tuple(padding)
    if len(pads) != 4:
        raise ArgumentError(
            f"conv2d: padding expects top, bottom, left, right or None, got {padding}"
        )
    strides = as_pair(tuple(stride), "stride", 1)
    dilations = as_pair(tuple(dilation), "dilation", 1)
    sizes = (tuple(input_shape), tuple(weight_shape))
    return _checked(*sizes, strides, pads, dilations, as_count(groups))


def sides(padding: IntOrPair | str) -> tuple[int, int, int, int] | None:
    """As `traced_geometry` wants it."""
    if padding == "same":
        return None
    pads = padding if isinstance(padding, str) else as_pair(padding, "padding", 0)
    return _padding_per_side(pads, (1, 1), (1, 1), (1, 1))


def _checked(
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, int],
    groups: int,
) -> ConvGeometry:
    n, c_in, h, w, c_out, kh, kw = _checked_sizes(tuple(input_shape), tuple(weight_shape), groups)
    # One tap has no neighbours to be apart from.  Said as 1, it finds the fast 1x1 paths, and torch
    # 2.13's, which reads out of bounds for a dilated 1x1 with stride 3, padding 1, channels_last.
    dilation = (1 if kh == 1 else dilation[0], 1 if kw == 1 else dilation[1])
    top, bottom, left, right = _padding_per_side(padding, (kh, kw), stride, dilation)
    out_h = _output_size("height", h, kh, top + bottom, stride[0], dilation[0])
    out_w = _output_size("width", w, kw, left + right, stride[1], dilation[1])
    pads = (top, bottom, left, right)
    _check_countable((n, c_in, h + top + bottom, w + left + right), (n, c_out, out_h, out_w))
    return ConvGeometry(n, c_in, h, w, c_out, kh, kw, stride, pads, dilation, groups, out_h, out_w)


_checked_before = lru_cache(maxsize=1024)(_checked)


def _checked_sizes(
    input_shape: tuple[int, ...], weight_shape: tuple[int, ...], groups: int
) -> tuple[int, int, int, int, int, int, int]:
    if len(weight_shape) != 4:
        raise ArgumentError(
            "conv2d: weight expects 4 dimensions (C_out, C_in/groups, kH, kW), "
            f"got shape {weight_shape}"
        )
    if len(input_shape) != 4:
        raise ArgumentError(
            "conv2d: input expects 4 dimensions (N, C_in, H, W) or 3 unbatched, "
            f"got shape {input_shape}"
        )
    n, c_in, h, w = input_shape
    c_out, c_in_per_group, kh, kw = weight_shape
    if c_out < 1 or kh < 1 or kw < 1:  # min() would order symbols among each other
        raise ArgumentError(f"conv2d: weight expects C_out, kH, kW >= 1, got shape {weight_shape}")
    if h < 1 or w < 1:
        raise ArgumentError(f"conv2d: input expects H and W >= 1, got shape {input_shape}")
    if c_out % groups:
        raise ArgumentError(
            f"conv2d: groups must divide weight's C_out, got groups={groups}, C_out={c_out}"
        )
    if c_in != c_in_per_group * groups:
        raise ArgumentError(
            f"conv2d: weight of shape {weight_shape} expects C_in/groups = {c_in_per_group} "
            f"channels, input of shape {input_shape} gives {c_in}/{groups}"
        )
    return n, c_in, h, w, c_out, kh, kw


def _padding_per_side(
    padding: tuple[int, ...] | str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int, int, int]:
    if isinstance(padding, tuple):
        if len(padding) == 2:
            return (padding[0], padding[0], padding[1], padding[1])
        top, bottom, left, right = padding
        return (top, bottom, left, right)
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding != "same":
        raise ArgumentError(
            "conv2d: padding expects an int, a pair or one of "
            f"{', '.join(map(repr, PADDING_WORDS))}, got {padding!r}"
        )
    if stride != (1, 1):
        raise ArgumentError(f"conv2d: padding='same' expects stride 1, got stride={stride}")
    total_h, total_w = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    return (total_h // 2, total_h - total_h // 2, total_w // 2, total_w - total_w // 2)


def _output_size(axis: str, size: int, kernel: int, pad: int, stride: int, dilation: int) -> int:
    reach = dilation * (kernel - 1) + 1
    if reach > size + pad:
        raise ArgumentError(
            f"conv2d: kernel's {axis} ({kernel}, dilation {dilation}: reach {reach}) is larger "
            f"than the padded input's ({size} + {pad} padding)"
        )
    return (size + pad - reach) // stride + 1


def _check_countable(*shapes: tuple[int, ...]) -> None:
    """Every backend counts bytes in 64 bits, and no element has more than 8 of them."""
    for shape in shapes:
        if any(isinstance(size, torch.SymInt) for size in shape):
            continue  # counted when the sizes are known
        if math.prod(shape) >= 2**60:
            raise OutOfMemoryError(
                f"conv2d: a picture of shape {shape} is larger than any memory; "
                "expected smaller input or padding"
            )
