"""Style losses: how far the statistics of features are from the style's.

f is a feature map (1, c, h, w) seen as c signals of m = h w values.  A style loss knows of it
only the moments, mean and covariance, which the network computes without writing f.

A style loss is an object like `StyleLoss`: `statistics` turns moments into tensors that can be
averaged over several styles, `distance` compares them with the target's.  To add one, write it and
give it a row in table.py; a loss of the user's own needs no row (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastconv import Moments, conv2d, gram_distance, mean_square, moments_of
from fastconv.registry import has

Statistics = tuple[Tensor, ...]

COVARIANCE_EPS = 1e-4  # relative to the mean variance; keeps square roots differentiable
NEWTON_STEPS = 12


Features = Tensor | Moments


def mean_and_covariance(f: Features) -> Statistics:
    """mu[i] = mean of f[i], S[i,j] = mean of (f[i] - mu[i]) (f[j] - mu[j])."""
    mean, covariance = moments_of(f) if isinstance(f, Tensor) else f
    return mean.squeeze(0), covariance.squeeze(0)


def gram(f: Features) -> Tensor:
    """G[i,j] = sum_k f[i,k] f[j,k] / m = (S + mu mu^T)[i,j], shape (c, c)."""
    mean, covariance = mean_and_covariance(f)
    return _scaled_gram(mean, covariance, 1.0)


def _scaled_gram(mean: Tensor, covariance: Tensor, scale: float) -> Tensor:
    return torch.addr(covariance, mean, mean, beta=scale, alpha=scale)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b of two matrices, without a graph.

    On a CPU as a 1x1 convolution with a as the weights: (512, 256) by (256, 256) takes 0.16 ms
    on the native backend, 0.31 ms with torch.mm (1.2 and 2.5 ms at twice the
    size; 9d5cddc, 2026-11).
    """
    if a.device.type != "cpu" or not has("native"):
        return a @ b
    return conv2d(b[None, :, None], a[:, :, None, None], backend="native")[0, :, 0]


class _TraceOfRoot(torch.autograd.Function):
    """tr(A^1/2) of a symmetric positive matrix by coupled Newton-Schulz steps.

    Y -> A^1/2 and Z -> A^-1/2 come out together, and the gradient of tr(A^1/2) is Z / 2: no
    second iteration for the backward pass.  A fixed number of steps bounds Z where A is nearly
    singular (by 1.5^12 / |A|^1/2), which is what keeps the gradient finite there.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:  # type: ignore[override]
        largest = a.abs().amax().clamp(min=1e-30)
        norm = largest * (a / largest).norm().clamp(min=1)  # squares of tiny numbers would vanish
        y, z = a / norm, torch.eye(a.shape[0], dtype=a.dtype, device=a.device)
        for _ in range(NEWTON_STEPS):
            t = product(z, y).mul_(-0.5)
            t.diagonal().add_(1.5)
            # in this order: y t and z t, in one go, would let rounding grow from step to step
            y, z = product(y, t), product(t, z)
        ctx.save_for_backward(z / norm.sqrt())
        return y.trace() * norm.sqrt()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (z,) = ctx.saved_tensors
        return grad * 0.25 * (z + z.T)


def _root(s: Tensor) -> Tensor:
    """S^1/2 through the eigenvalues, for targets: no gradient is needed."""
    values, vectors = torch.linalg.eigh(s.double())
    return (vectors * values.clamp(min=0).sqrt() @ vectors.T).to(s.dtype)


def _regular(s: Tensor) -> Tensor:
    return s + COVARIANCE_EPS * s.diagonal().mean().clamp(min=1e-12) * torch.eye(
        s.shape[0], dtype=s.dtype, device=s.device
    )


class StyleLoss:
    """What a style loss can do.  Only `statistics` and `distance` have no default.

    Moments are those of one picture: mean (1, c), covariance (1, c, c).
    """

    def statistics(self, moments: Moments) -> Statistics:
        """Tensors that can be averaged over several styles."""
        raise NotImplementedError

    def distance(self, found: Statistics, target: Statistics) -> Tensor:
        """A number that is 0 where both agree, differentiable to `found`."""
        raise NotImplementedError

    def prepare(self, target: Statistics) -> Statistics:
        """What `distance` wants to have as its target, computed once."""
        return target

    def size(self, target: Statistics) -> Tensor:
        """The distance from nothing, by which `normalize` divides; `target` as it was averaged."""
        nothing = tuple(torch.zeros_like(each) for each in target)
        return self.distance(nothing, self.prepare(target))

    def value(self, moments: Moments, target: Statistics) -> Tensor:
        """`distance` of `statistics`, or the same by fewer steps."""
        return self.distance(self.statistics(moments), target)


def _power(target: Statistics) -> Tensor:
    """|mu|^2 + tr S, the mean square of the features."""
    return target[0].square().sum() + target[1].trace()


class Wasserstein(StyleLoss):
    """Squared 2-Wasserstein distance of two Gaussians.

    |mu - mu'|^2 + tr(S + S' - 2 (S'^1/2 S S'^1/2)^1/2), target (mu', S', S'^1/2).
    """

    def statistics(self, moments: Moments) -> Statistics:
        return mean_and_covariance(moments)

    def prepare(self, target: Statistics) -> Statistics:
        """The target's covariance, made regular, and its root."""
        mean, covariance = target
        covariance = _regular(covariance)
        return mean, covariance, _root(covariance)

    def distance(self, found: Statistics, target: Statistics) -> Tensor:
        mean, covariance = found[0], _regular(found[1])
        cross = target[2] @ covariance @ target[2]
        spread = covariance.trace() + target[1].trace() - 2 * _TraceOfRoot.apply(cross)
        return (mean - target[0]).square().sum() + spread.clamp(min=0)

    def size(self, target: Statistics) -> Tensor:
        return _power(target)


class Covariance(StyleLoss):
    """|mu - mu'|^2 + |S - S'|, both in the units of a variance."""

    def statistics(self, moments: Moments) -> Statistics:
        return mean_and_covariance(moments)

    def distance(self, found: Statistics, target: Statistics) -> Tensor:
        means = (found[0] - target[0]).square().sum()
        return means + (found[1] - target[1]).square().sum().add(1e-12).sqrt()

    def size(self, target: Statistics) -> Tensor:
        return _power(target)


class PaperGram(StyleLoss):
    """sum (G - A)^2 / (4 N^2), which is the paper's 1 / (4 N^2 M^2) with G summed over M."""

    factor = 0.25

    def scale(self, channels: int) -> float:
        """Of the Gram matrix."""
        return 1.0

    def statistics(self, moments: Moments) -> Statistics:
        mean, covariance = mean_and_covariance(moments)
        return (_scaled_gram(mean, covariance, self.scale(len(mean))),)

    def distance(self, found: Statistics, target: Statistics) -> Tensor:
        return mean_square(found[0], target[0]) * self.factor

    def size(self, target: Statistics) -> Tensor:
        return target[0].square().mean() * self.factor

    def value(self, moments: Moments, target: Statistics) -> Tensor:
        distance = gram_distance(moments, target[0], self.scale(moments.mean.shape[1]))
        return distance if self.factor == 1.0 else distance * self.factor


class Gram(PaperGram):
    """mean (G / c - A / c)^2: Gram matrices over c h w, as in most tutorials."""

    factor = 1.0

    def scale(self, channels: int) -> float:
        return 1 / channels


class StyleDistance:
    """A style loss with its target; of several pictures, the mean of theirs.

    With `normalize` it is divided by the loss of the target against nothing, so that a weight
    means the same at every size, for every network and every layer.
    """

    def __init__(self, loss: StyleLoss, target: Statistics, normalize: bool) -> None:
        self.loss, self.target = loss, loss.prepare(target)
        self.scale = 1.0 if not normalize else 1 / max(float(loss.size(target)), 1e-12)

    def __call__(self, moments: Moments) -> Tensor:
        # with few operators: after a kernel, Python's own data is no longer in the caches
        value = (
            self.loss.value(moments, self.target) if len(moments.mean) == 1 else self._mean(moments)
        )
        return value if self.scale == 1.0 else value * self.scale

    def _mean(self, moments: Moments) -> Tensor:
        each = (Moments(*pair) for pair in zip(moments.mean.split(1), moments.covariance.split(1)))
        return torch.stack([self.loss.value(one, self.target) for one in each]).mean()


def blend(loss: StyleLoss, moments: Sequence[Moments], weights: Sequence[float]) -> Statistics:
    """The weighted mean of several styles' statistics; for one style, simply its own."""
    total = sum(weights)
    each = [loss.statistics(one) for one in moments]
    return tuple(sum(w / total * s for w, s in zip(weights, column)) for column in zip(*each))  # type: ignore[misc]
