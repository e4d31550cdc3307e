"""Is a backend right?  Random cases of every argument against torch in float64.

`check_backend` is what `fastconv check` prints; the tests use the same comparison and the same
table of tolerances on their own, hand-written cases.

The measure.  A convolution's output and its gradients are sums of products.  The error of such
a sum is in proportion not to its value, which may cancel to nearly nothing, but to the sum of
the absolute values of its products.  That sum is itself a convolution, of |x| with |w|, so that

    error = max |result - result in float64|  /  max (the same operation on absolute values)

is a plain number, whatever the scale of the data.  The maximum in the denominator is over the
whole result because Winograd's transforms carry rounding from an element to its neighbours in
the tile.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..functional import conv2d
from ..geometry import ConvGeometry, IntOrPair, geometry_of
from ..precision import set_precision

KINDS = ("forward", "grad_input", "grad_weight", "grad_bias")
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
LAYOUTS = ("contiguous", "channels_last", "sliced", "transposed")
GROWTH = {"direct": 4.0, "f4": 16.0, "f6": 64.0}

Convolution = Callable[..., Tensor]


def tolerance(dtype: torch.dtype, reduction: int, algorithm: str = "direct") -> float:
    """The largest error, in the measure above, that rounding explains.

        tolerance = GROWTH[algorithm] * eps(computed in) * sqrt(reduction)  [+ 2 eps(stored in)]

    `reduction` is the number of products in one sum.  Each of its K additions rounds the partial
    sum, by eps/2 of it at most.  The guaranteed bound is K eps / 2; the roundings are independent
    of each other and grow as sqrt(K).  A plain float32 loop over positive data, the worst kind,
    stays under 0.5 eps sqrt(K); 4 allows any order of summation.  Winograd's transforms
    multiply by numbers whose effects cancel: over 200 random tiles F(4x4) reached 2.5 and
    F(6x6) 13.4, both at one input channel (more channels average out).  The same factor of about
    five above those figures is left.

    Halves are computed in float32 and rounded once, when stored: by half an eps of theirs.  Two
    whole ones are allowed, because torch's float16 gradient adds up a window's taps in float16
    (0.96 eps over 5,000 random cases).

    A sum that has forgotten one of its K products is off by about 1/K, so in float32 the table
    distinguishes a mistake from rounding up to K = 16,000.
    """
    computed_in = torch.float32 if dtype.itemsize < 4 else dtype
    rounding = GROWTH[algorithm] * torch.finfo(computed_in).eps * math.sqrt(max(reduction, 1))
    return rounding if computed_in == dtype else rounding + 2 * torch.finfo(dtype).eps


def reductions(g: ConvGeometry) -> dict[str, int]:
    """How many products are added up in one element of each operation's result."""
    outputs = g.n * g.out_h * g.out_w
    return {
        "forward": g.reduction + 1,  # and the bias
        "grad_input": g.c_out // g.groups * g.kh * g.kw,
        "grad_weight": outputs,
        "grad_bias": outputs,
    }


@dataclass(frozen=True)
class Case:
    """The arguments of one convolution: shapes in place of tensors, and how those lie in memory."""

    about: str
    input: tuple[int, ...]
    weight: tuple[int, int, int, int]
    stride: IntOrPair = 1
    padding: IntOrPair | str = 0
    dilation: IntOrPair = 1
    groups: int = 1
    bias: bool = True
    layout: str = "contiguous"
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        bias = "bias" if self.bias else "no bias"
        return (
            f"input {self.input}, weight {self.weight}, {bias}, stride {self.stride}, "
            f"padding {self.padding!r}, dilation {self.dilation}, groups {self.groups}, "
            f"{self.layout}, {str(self.dtype).removeprefix('torch.')}"
        )

    @property
    def geometry(self) -> ConvGeometry:
        batched = self.input if len(self.input) == 4 else (1, *self.input)
        return geometry_of(
            batched, self.weight, self.stride, self.padding, self.dilation, self.groups
        )

    def tensors(self, device: str = "cpu", seed: int = 0) -> Operands:
        """x, w, b and dy of normally distributed numbers, x, w and dy in the case's layout."""
        generator = torch.Generator().manual_seed(seed)

        def draw(shape: tuple[int, ...], layout: str) -> Tensor:
            values = torch.randn(shape, generator=generator, dtype=torch.float64)
            return arranged(values.to(device, self.dtype), layout)

        batched = self.geometry.output_shape
        output = batched if len(self.input) == 4 else batched[1:]
        x, w = draw(self.input, self.layout), draw(self.weight, self.layout)
        b = draw(self.weight[:1], "contiguous") if self.bias else None
        return Operands(x, w, b, draw(output, self.layout))


def arranged(values: Tensor, layout: str) -> Tensor:
    """The same numbers in another order in memory; what lies between them is NaN."""
    if layout == "channels_last":
        batched = values if values.dim() == 4 else values[None]
        return batched.contiguous(memory_format=torch.channels_last).view_as(values)
    if layout == "sliced":
        wide = values.new_full((*values.shape[:-1], 2 * values.shape[-1] + 1), math.nan)
        wide[..., 1::2] = values
        return wide[..., 1::2]
    if layout == "transposed":
        return values.transpose(-1, -2).contiguous().transpose(-1, -2)
    return values.contiguous()


@dataclass(frozen=True)
class Operands:
    """What a convolution and its gradients are computed from."""

    x: Tensor
    w: Tensor
    b: Tensor | None
    dy: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> Operands:
        b = None if self.b is None else function(self.b)
        return Operands(function(self.x), function(self.w), b, function(self.dy))


def results(convolution: Convolution, operands: Operands, case: Case) -> dict[str, Tensor]:
    """The forward result and the gradients of <y, dy>, by kind."""
    leaves = operands.map(lambda tensor: tensor.detach().requires_grad_())
    x, w, b = leaves.x, leaves.w, leaves.b
    y = convolution(x, w, b, case.stride, case.padding, case.dilation, case.groups)
    wanted = (x, w) if b is None else (x, w, b)
    gradients = torch.autograd.grad(y, wanted, operands.dy)
    return dict(zip(KINDS, (y.detach(), *gradients)))


@dataclass(frozen=True)
class Finding:
    """One kind of result of one case, or the worst of many cases."""

    kind: str
    case: Case
    error: float  # in the measure above; infinite where shape, dtype or NaNs are wrong
    tolerance: float
    problem: str = ""
    cases: int = 1

    @property
    def dtype(self) -> torch.dtype:
        return self.case.dtype

    @property
    def ratio(self) -> float:
        """The error in units of the tolerance: 1 and less is right."""
        return self.error / self.tolerance

    @property
    def passed(self) -> bool:
        return self.ratio <= 1.0


def compare(convolution: Convolution, case: Case, device: str = "cpu") -> list[Finding]:
    """Each kind of result of `convolution` against F.conv2d on the same numbers in float64."""
    operands = case.tensors(device)
    exact = operands.map(lambda tensor: tensor.detach().cpu().double().contiguous())
    with _quietly():
        expected = results(F.conv2d, exact, case)
        magnitudes = results(F.conv2d, exact.map(torch.abs), case)
    lengths = reductions(case.geometry)
    try:
        got = results(convolution, operands, case)
    except Exception as error:  # whatever it is, it belongs in the table beside its case
        problem = f"{type(error).__name__}: {error}"
        return [Finding(kind, case, math.inf, 1.0, problem) for kind in expected]
    return [
        _finding(kind, case, got[kind], wanted, magnitudes[kind], lengths[kind])
        for kind, wanted in expected.items()
    ]


def _finding(
    kind: str, case: Case, got: Tensor, expected: Tensor, magnitude: Tensor, reduction: int
) -> Finding:
    allowed = tolerance(case.dtype, reduction)
    if got.shape != expected.shape or got.dtype != case.dtype:
        problem = (
            f"expected {tuple(expected.shape)} {case.dtype}, got {tuple(got.shape)} {got.dtype}"
        )
        return Finding(kind, case, math.inf, allowed, problem)
    return Finding(kind, case, relative_error(got, expected, magnitude), allowed)


def relative_error(got: Tensor, expected: Tensor, magnitude: Tensor) -> float:
    """max |got - expected| / max magnitude; infinite where `got` is not finite."""
    if expected.numel() == 0:
        return 0.0
    error = (got.detach().cpu().double() - expected).abs().max().item()
    if error == 0.0:
        return 0.0
    scale = magnitude.max().item()
    return error / scale if math.isfinite(error) and scale > 0 else math.inf


@contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's advice that padding='same' copies the input when the kernel is even."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same'", UserWarning)
        yield


def check_backend(name: str, device: str = "cpu", count: int = 300, seed: int = 0) -> list[Finding]:
    """The worst of `count` random cases for each kind of result and each dtype.

    TF32, which rounds float32 input to 10 bits, is off meanwhile, cuDNN's and ours: it is not what
    is asked about.
    """

    def convolution(*arguments: object) -> Tensor:
        return conv2d(*arguments, backend=name)  # type: ignore[arg-type]

    found: list[Finding] = []
    with _quietly(), set_precision("fp32"), torch.backends.cudnn.flags(allow_tf32=False):
        for case in random_cases(count, seed):
            found += compare(convolution, case, device)
    return list(_worst(found))


def _worst(found: list[Finding]) -> Iterator[Finding]:
    for kind in KINDS:
        for dtype in DTYPES:
            alike = [f for f in found if (f.kind, f.dtype) == (kind, dtype)]
            if alike:
                yield replace(max(alike, key=lambda f: f.ratio), cases=len(alike))


def random_cases(count: int, seed: int = 0) -> Iterator[Case]:
    """`count` cases over every argument of conv2d, small enough for the naive backend."""
    generator = random.Random(seed)
    for number in range(count):
        yield _random_case(generator, f"random case {number} of seed {seed}")


def _random_case(generator: random.Random, about: str) -> Case:
    pick = generator.choice
    groups, c_in, c_out = _random_channels(generator)
    kernel = (pick((1, 1, 2, 3, 3, 4, 5, 7)), pick((1, 1, 2, 3, 3, 4, 5)))
    dilation = pick((1, 1, 1, 2, 3, (1, 2), (3, 1)))
    padding = pick((0, 0, 1, 1, 2, 3, (0, 2), (2, 1), (4, 6), "same", "valid"))
    stride = 1 if padding == "same" else pick((1, 1, 1, 2, 3, (1, 2), (2, 1), (4, 3)))
    reach_h, reach_w = _reaches(kernel, dilation)
    pad_h, pad_w = _pads(padding, reach_h, reach_w)
    h = max(1, reach_h - pad_h) + pick((0, 1, 2, 3, 5, 8))
    w = max(1, reach_w - pad_w) + pick((0, 1, 2, 3, 6, 7, 14, 15, 16))
    shape = (c_in, h, w) if pick((True, *[False] * 5)) else (pick((0, 1, 1, 1, 2, 3)), c_in, h, w)
    return Case(
        about,
        shape,
        (c_out, c_in // groups, *kernel),
        stride,
        padding,
        dilation,
        groups,
        bias=pick((True, True, False)),
        layout=pick(("contiguous", *LAYOUTS)),
        dtype=pick((*[torch.float32] * 5, torch.float64, torch.bfloat16, torch.float16)),
    )


def _random_channels(generator: random.Random) -> tuple[int, int, int]:
    """groups, c_in, c_out: plain, grouped, or depthwise with one or two filters a channel."""
    pick = generator.choice
    kind = pick(("plain", "plain", "plain", "grouped", "depthwise"))
    if kind == "plain":
        return 1, pick((1, 2, 3, 4, 7, 16, 17)), pick((1, 2, 3, 4, 5, 8))
    if kind == "grouped":
        groups = pick((2, 3))
        return groups, groups * pick((1, 2, 4)), groups * pick((1, 2, 3))
    channels = pick((2, 3, 5, 8))
    return channels, channels, channels * pick((1, 1, 2))


def _reaches(kernel: tuple[int, int], dilation: int | tuple[int, int]) -> tuple[int, int]:
    d_h, d_w = dilation if isinstance(dilation, tuple) else (dilation, dilation)
    return (kernel[0] - 1) * d_h + 1, (kernel[1] - 1) * d_w + 1


def _pads(padding: int | tuple[int, int] | str, reach_h: int, reach_w: int) -> tuple[int, int]:
    """The padding's both sides together, vertically and horizontally."""
    if isinstance(padding, str):
        return (reach_h - 1, reach_w - 1) if padding == "same" else (0, 0)
    p_h, p_w = padding if isinstance(padding, tuple) else (padding, padding)
    return 2 * p_h, 2 * p_w
