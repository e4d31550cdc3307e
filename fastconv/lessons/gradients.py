"""For learning: a gradient by differences, and a check of another gradient against it.

    df/dx_i  ~  (f(x + eps e_i) - f(x - eps e_i)) / (2 eps)

The central difference is wrong by eps^2 f'''/6, as the even terms of the series cancel, and by
rounding of about 1e-16 |f| / eps.  In double precision both are small near eps = 1e-5, where
ten digits agree; in float32 four or five do at the best, each time with another eps.  Hence
everything here is double.

At a kink (ReLU at 0, MaxPool where two are equal) there is no derivative, and nothing to compare:

    (f(x + eps e_i) - 2 f(x) + f(x - eps e_i)) / eps

is the difference of the slopes to both sides.  On a curve it falls with eps; at a kink it stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError, DtypeError
from .layer import Array, Layer

ScalarFunction = Callable[[Tensor], Tensor | float]
_STEEP = 1e-3  # a difference of slopes, beside the steepest, that is examined more closely
_CLOSER = 8  # by so much


def numerical_gradient(f: ScalarFunction, x: Tensor, eps: float = 1e-5) -> Tensor:
    """The gradient of the scalar f(x) by central differences: two calls of f per element of x."""
    return _differences(f, x, eps)[0]


def _differences(f: ScalarFunction, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The gradient by central differences, and whether each element is at a kink."""
    if not isinstance(x, Tensor) or x.dtype != torch.float64:
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise DtypeError(f"numerical_gradient: x expects a tensor of torch.float64, got {got}")
    if not 0 < eps < 1:
        raise ArgumentError(f"numerical_gradient: eps expects a number between 0 and 1, got {eps}")
    point = x.detach().clone(memory_format=torch.contiguous_format)
    elements = point.view(-1)
    gradient, apart = torch.empty_like(elements), torch.empty_like(elements)

    def around(i: int, step: float) -> tuple[float, float]:
        """The slope at element i, and how far the slopes to both sides are apart."""
        value = float(elements[i])
        elements[i] = value + step
        above = _number(f(point))
        elements[i] = value - step
        below = _number(f(point))
        elements[i] = value
        return (above - below) / (2 * step), abs(above - 2 * here + below) / step

    with torch.no_grad():
        here = _number(f(point))
        for i in range(len(elements)):
            gradient[i], apart[i] = around(i, eps)
        kinks = apart > _STEEP * gradient.abs().max() if len(elements) else apart > 0
        for i in kinks.nonzero()[:, 0].tolist():
            closer = around(i, eps / _CLOSER)[1]
            kinks[i] = not 0.5 * apart[i] < closer * _CLOSER < 2 * apart[i]  # a curve's
    return gradient.view(x.shape), kinks.view(x.shape)


def _number(value: Tensor | float) -> float:
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ArgumentError(f"f expects to return one number, got shape {tuple(value.shape)}")
        if value.dtype != torch.float64:
            raise DtypeError(
                f"f expects to compute in torch.float64, got a result of {value.dtype}: "
                "too few digits to compare"
            )
    return float(value)


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradient` found, at the element where the two gradients differ most.

    Elements at kinks do not count.
    """

    passed: bool
    relative_error: float
    allowed: float
    worst: tuple[int, ...]  # the index of that element
    claimed: float
    by_differences: float
    gradient: Tensor = field(repr=False, compare=False)  # all of what is claimed
    numeric: Tensor = field(repr=False, compare=False)  # all of what differences give
    kinks: Tensor = field(repr=False, compare=False)  # where there is no derivative

    def __str__(self) -> str:
        if self.kinks.all():
            return "the gradients cannot be compared: every element is at a kink"
        verdict = "agree" if self.passed else "differ"
        return (
            f"the gradients {verdict}: at element {self.worst}, where they are farthest apart, "
            f"{self.claimed:.9g} is claimed and differences give {self.by_differences:.9g}; "
            f"relative error {self.relative_error:.1e}, allowed {self.allowed:.1e}{self.left_out}"
        )

    @property
    def left_out(self) -> str:
        """How many elements are at kinks, in words; none in none."""
        count = int(self.kinks.sum())
        return f"; {count} of {self.kinks.numel()} at kinks, left out" if count else ""


def check_gradient(
    f: ScalarFunction, x: Tensor, gradient: Tensor, eps: float = 1e-5, allowed: float = 1e-7
) -> GradientReport:
    """Compare `gradient`, claimed to be that of the scalar f at x, with central differences.

        relative error = max |claimed - by differences| / max |by differences|

    The denominator is the largest element's and not each element's own: differences know every
    element to the same absolute precision, so that an element near zero has no digits to compare.
    """
    if not isinstance(gradient, Tensor):
        raise DtypeError(
            f"check_gradient: gradient expects a tensor, got {type(gradient).__name__}"
        )
    if gradient.shape != x.shape:
        raise ArgumentError(
            f"check_gradient: gradient expects x's shape {tuple(x.shape)}, "
            f"got {tuple(gradient.shape)}"
        )
    if x.numel() == 0:
        raise ArgumentError(f"check_gradient: x expects elements, got shape {tuple(x.shape)}")
    numeric, kinks = _differences(f, x, eps)
    apart = (gradient.detach().double() - numeric).abs().masked_fill(kinks, 0.0)
    at = int(apart.argmax())  # NaN counts as the largest
    error = float(apart.view(-1)[at] / numeric.abs().max().clamp_min(1e-12))
    return GradientReport(
        passed=error <= allowed,  # false for NaN
        relative_error=error,
        allowed=allowed,
        worst=tuple(int(i) for i in torch.unravel_index(torch.tensor(at), x.shape)),
        claimed=float(gradient.reshape(-1)[at]),
        by_differences=float(numeric.view(-1)[at]),
        gradient=gradient.detach(),
        numeric=numeric,
        kinks=kinks,
    )


@dataclass(frozen=True)
class LayerReport:
    """What `check_layer` found: one GradientReport per parameter, and one for the input."""

    layer: str
    reports: dict[str, GradientReport]

    @property
    def passed(self) -> bool:
        return all(report.passed for report in self.reports.values())

    @property
    def relative_error(self) -> float:
        """The largest of them all."""
        return max(report.relative_error for report in self.reports.values())

    def __str__(self) -> str:
        head = f"{'gradient to':<13}{'elements':>9}{'relative error':>16}   worst element"
        lines = [f"{self.layer}: backward {'is right' if self.passed else 'is WRONG'}", head]
        for name, report in self.reports.items():
            place = f"[{', '.join(map(str, report.worst))}]"
            lines.append(
                f"{name:<13}{report.numeric.numel():>9}{report.relative_error:>16.1e}   "
                f"{place}: {report.claimed:.9g}, by differences {report.by_differences:.9g}"
                f"{'' if report.passed else f'  (allowed: {report.allowed:.0e})'}{report.left_out}"
            )
        return "\n".join(lines)


def check_layer(
    layer: Layer, x: Array, eps: float = 1e-5, allowed: float = 1e-6, seed: int = 0
) -> LayerReport:
    """Check a layer's backward pass against central differences of its forward pass.

    A gradient belongs to a scalar, so the layer's output is made one with random numbers r,

        f = sum_i r_i y_i        whose gradient to y is r:  backward(r) gives those of f,

    and random because with equal weights the mistakes of two elements could cancel.
    """
    if not isinstance(layer, Layer):
        raise ArgumentError(
            f"check_layer expects a Layer, got {type(layer).__name__}; `check_gradient` takes any "
            "function that gives one number"
        )
    x = np.array(x, dtype=np.float64)  # a copy, as are the others: differences move the elements
    r = np.random.default_rng(seed).normal(size=layer.forward(x).shape)
    to_input = layer.backward(r)
    claimed = {"input": to_input, **layer.gradients}
    claimed = {name: values.copy() for name, values in claimed.items()}
    missing = layer.parameters.keys() - layer.gradients.keys()
    if missing:
        raise ArgumentError(
            f"check_layer: backward of {layer.name} expects to leave a gradient for each of its "
            f"parameters, got none for {', '.join(sorted(missing))}"
        )
    reports = {}
    for name, values in {"input": x, **layer.parameters}.items():

        def f(moved: Tensor, values: Array = values) -> float:
            kept = values.copy()
            values[...] = moved.numpy()  # into the layer's own array
            result = float(np.sum(r * layer.forward(x)))
            values[...] = kept
            return result

        point, gradient = torch.from_numpy(values.copy()), torch.from_numpy(claimed[name])
        reports[name] = check_gradient(f, point, gradient, eps, allowed)
    return LayerReport(layer.name, reports)
