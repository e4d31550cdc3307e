"""For learning: a gradient by differences, and how to tell whether another gradient is right.

    df/dx_i  ~  (f(x + eps e_i) - f(x - eps e_i)) / (2 eps)

The central difference is wrong by eps^2 f'''/6, as the even terms of the series cancel, and by
rounding of about 1e-16 |f| / eps.  In double precision both are small near eps = 1e-5, where
9 or 10 digits agree; in float32 no eps leaves more than three.  Hence everything here is double.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError, DtypeError
from .layer import Array, Layer

ScalarFunction = Callable[[Tensor], Tensor]


def numerical_gradient(f: ScalarFunction, x: Tensor, eps: float = 1e-5) -> Tensor:
    """The gradient of the scalar f(x) by central differences: two calls of f per element of x."""
    if x.dtype != torch.float64:
        raise DtypeError(f"numerical_gradient: x expects torch.float64, got {x.dtype}")
    point = x.detach().clone(memory_format=torch.contiguous_format)
    elements, gradient = point.view(-1), torch.empty(point.numel(), dtype=point.dtype)
    with torch.no_grad():
        for i, value in enumerate(elements.tolist()):
            elements[i] = value + eps
            above = float(f(point))
            elements[i] = value - eps
            below = float(f(point))
            elements[i] = value
            gradient[i] = (above - below) / (2 * eps)
    return gradient.view(x.shape)


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradient` found, at the element where the two gradients differ most."""

    passed: bool
    relative_error: float
    allowed: float
    worst: tuple[int, ...]  # the index of that element
    claimed: float
    by_differences: float
    gradient: Tensor = field(repr=False, compare=False)  # all of what is claimed
    numeric: Tensor = field(repr=False, compare=False)  # all of what differences give

    def __str__(self) -> str:
        verdict = "agree" if self.passed else "differ"
        return (
            f"the gradients {verdict}: at element {self.worst}, where they are farthest apart, "
            f"{self.claimed:.9g} is claimed and differences give {self.by_differences:.9g}; "
            f"relative error {self.relative_error:.1e}, allowed {self.allowed:.1e}"
        )


def check_gradient(
    f: ScalarFunction, x: Tensor, gradient: Tensor, eps: float = 1e-5, allowed: float = 1e-7
) -> GradientReport:
    """Compare `gradient`, claimed to be that of the scalar f at x, with central differences.

        relative error = max |claimed - by differences| / max |by differences|

    The denominator is the largest element's and not each element's own: differences know every
    element to the same absolute precision, so that an element near zero has no digits to compare.
    """
    if gradient.shape != x.shape:
        raise ArgumentError(
            f"check_gradient: gradient expects x's shape {tuple(x.shape)}, "
            f"got {tuple(gradient.shape)}"
        )
    if x.numel() == 0:
        raise ArgumentError(f"check_gradient: x expects elements, got shape {tuple(x.shape)}")
    numeric = numerical_gradient(f, x, eps)
    apart = (gradient.detach().double() - numeric).abs()
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
                f"{'' if report.passed else f'  (allowed: {report.allowed:.0e})'}"
            )
        return "\n".join(lines)


def check_layer(
    layer: Layer, x: Array, eps: float = 1e-5, allowed: float = 1e-6, seed: int = 0
) -> LayerReport:
    """Check a layer's backward pass against central differences of its forward pass.

    A gradient belongs to a scalar, so the layer's output is made one with random numbers r,

        f = sum_i r_i y_i        whose gradient to y is r:  backward(r) gives those of f,

    and random because with equal weights the mistakes of two elements could cancel.  The places
    where a function has a kink (ReLU at 0, MaxPool where two are equal) have no derivative: let
    no element of x lie within eps of one.
    """
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

        def f(moved: Tensor, values: Array = values) -> Tensor:
            kept = values.copy()
            values[...] = moved.numpy()  # into the layer's own array
            result = np.sum(r * layer.forward(x))
            values[...] = kept
            return torch.as_tensor(result)

        point, gradient = torch.from_numpy(values.copy()), torch.from_numpy(claimed[name])
        reports[name] = check_gradient(f, point, gradient, eps, allowed)
    return LayerReport(layer.name, reports)
