"""The losses: content, style by statistics of features, total variation.

f is a feature map (1, c, h, w) seen as c signals of m = h w values.  A style loss knows of it
only the moments, which the network hands out without f itself.  With `normalize`, each
loss is divided by the same loss of its target against nothing (all zeros for style, the
channels' means for content), so that a weight means the same at every size, for every network
and every layer.

A style loss is a row of STYLE_LOSSES: `statistics` turns features into tensors that can be
averaged over several styles, `distance` compares them with the target's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fastconv import Moments, conv2d, gram_distance, mean_square, moments_of
from fastconv.memory import Recycler
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


def _gram_over_c(f: Features) -> Statistics:
    mean, covariance = mean_and_covariance(f)
    return (_scaled_gram(mean, covariance, 1 / len(mean)),)


def _gram_alone(f: Features) -> Statistics:
    return (gram(f),)


def _paper(a: Statistics, b: Statistics) -> Tensor:
    """sum (G - A)^2 / (4 N^2), which is the paper's 1 / (4 N^2 M^2) with G summed over M."""
    return mean_square(a[0], b[0]) / 4


def _mean_square(a: Statistics, b: Statistics) -> Tensor:
    return mean_square(a[0], b[0])


def _sum_square(a: Statistics, b: Statistics) -> Tensor:
    """|mu - mu'|^2 + |S - S'|, both in the units of a variance."""
    means = (a[0] - b[0]).square().sum()
    return means + (a[1] - b[1]).square().sum().add(1e-12).sqrt()


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b of two matrices, without a graph.

    On a CPU as a 1x1 convolution with a as the weights: (512, 256) by (256, 256) takes 0.16 ms
    on the native backend, 0.31 ms with torch.mm (1.2 and 2.5 ms at twice the size).
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


def _prepare_wasserstein(target: Statistics) -> Statistics:
    """The target's covariance, made regular, and its root, computed once."""
    mean, covariance = target
    covariance = _regular(covariance)
    return mean, covariance, _root(covariance)


def _wasserstein(a: Statistics, b: Statistics) -> Tensor:
    """Squared 2-Wasserstein distance of two Gaussians.

    |mu - mu'|^2 + tr(S + S' - 2 (S'^1/2 S S'^1/2)^1/2), with b = (mu', S', S'^1/2).
    """
    mean, covariance = a[0], _regular(a[1])
    cross = b[2] @ covariance @ b[2]
    spread = covariance.trace() + b[1].trace() - 2 * _TraceOfRoot.apply(cross)
    return (mean - b[0]).square().sum() + spread.clamp(min=0)


def _grams_apart(f: Features, target: Statistics, by_channels: bool = True) -> Tensor:
    moments = moments_of(f) if isinstance(f, Tensor) else f
    return gram_distance(moments, target[0], 1 / moments.mean.shape[1] if by_channels else 1.0)


@dataclass(frozen=True)
class StyleRow:
    """A row of STYLE_LOSSES; `straight` is `distance` of `statistics` where less will do for it."""

    about: str
    statistics: Callable[[Features], Statistics]
    distance: Callable[[Statistics, Statistics], Tensor]
    size: Callable[[Statistics], Tensor]  # the distance from nothing, for `normalize`
    prepare: Callable[[Statistics], Statistics] = lambda target: target
    straight: Callable[[Features, Statistics], Tensor] | None = None


def _power(target: Statistics) -> Tensor:
    """|mu|^2 + tr S, the mean square of the features."""
    return target[0].square().sum() + target[1].trace()


STYLE_LOSSES: dict[str, StyleRow] = {
    "wasserstein": StyleRow(
        "2-Wasserstein distance between Gaussians of the features",
        mean_and_covariance,
        _wasserstein,
        _power,
        _prepare_wasserstein,
    ),
    "covariance": StyleRow(
        "means and covariances of the features", mean_and_covariance, _sum_square, _power
    ),
    "gram": StyleRow(
        "mean square of Gram matrices over c h w, as in most tutorials",
        _gram_over_c,
        _mean_square,
        lambda target: target[0].square().mean(),
        straight=_grams_apart,
    ),
    "gatys": StyleRow(
        "the paper's 1/(4 N^2 M^2) sum of squares of Gram matrices",
        _gram_alone,
        _paper,
        lambda target: target[0].square().mean() / 4,
        straight=lambda f, target: _grams_apart(f, target, by_channels=False) / 4,
    ),
}

CONTENT_LOSSES: dict[str, Callable[[Tensor, Tensor, Recycler | None], Tensor]] = {
    "mse": mean_square,
    "gatys": lambda f, p, memory: mean_square(f, p, memory) * (f.numel() / 2),
}


def _scaled(loss: Tensor, scale: float) -> Tensor:
    """Between two kernels nothing of Python is in the caches, and a product with 1 is felt."""
    return loss if scale == 1.0 else loss * scale


class StyleLoss(nn.Module):
    """A loss layer: how far the features' statistics are from those of the style(s)."""

    kind = "style"
    reads = "moments"

    def __init__(self, name: str, target: Statistics, normalize: bool) -> None:
        super().__init__()
        self.row = STYLE_LOSSES[name]
        self.target = self.row.prepare(target)
        self.scale = 1.0 if not normalize else 1 / max(float(self.row.size(target)), 1e-12)

    def forward(self, f: Features) -> Tensor:
        if self.row.straight:
            return _scaled(self.row.straight(f, self.target), self.scale)
        return _scaled(self.row.distance(self.row.statistics(f), self.target), self.scale)


class ContentLoss(nn.Module):
    """A loss layer: how far the features are from the content's, place by place."""

    kind = "content"
    reads = "features"

    def __init__(self, name: str, target: Tensor, normalize: bool) -> None:
        super().__init__()
        self.compare, self.target = CONTENT_LOSSES[name], target
        self.memory = Recycler.like(target)
        nothing = target.mean((2, 3), keepdim=True).expand_as(target)
        size = float(self.compare(nothing, target, self.memory)) if normalize else 1.0
        self.scale = 1 / max(size, 1e-12)

    def forward(self, f: Tensor) -> Tensor:
        return _scaled(self.compare(f, self.target, self.memory), self.scale)


def blend(name: str, features: Sequence[Features], weights: Sequence[float]) -> Statistics:
    """The weighted mean of several styles' statistics; for one style, simply its own."""
    total = sum(weights)
    each = [STYLE_LOSSES[name].statistics(f) for f in features]
    return tuple(sum(w / total * s for w, s in zip(weights, column)) for column in zip(*each))  # type: ignore[misc]


# Neighbours of a pixel: which part of the padded picture is compared with which, and how much.
NEIGHBOURS = (
    ((slice(None), slice(1, None)), (slice(None), slice(None, -1)), 1.0),  # right
    ((slice(1, None), slice(None)), (slice(None, -1), slice(None)), 1.0),  # down
    ((slice(1, None), slice(1, None)), (slice(None, -1), slice(None, -1)), 0.5),  # falling
    ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None)), 0.5),  # rising
)


class _TotalVariation(torch.autograd.Function):
    """Value and gradient in one go: half the passes of autograd's, and no graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        gradient = torch.zeros_like(padded) if ctx.needs_input_grad[0] else None
        total = x.new_zeros(())
        for (y1, x1), (y0, x0), weight in NEIGHBOURS:
            difference = padded[..., y1, x1] - padded[..., y0, x0]
            flat = difference.view(-1)
            total += torch.dot(flat, flat) * (weight / flat.numel())
            if gradient is not None:
                difference *= 2 * weight / flat.numel()
                gradient[..., y1, x1] += difference
                gradient[..., y0, x0] -= difference
        if gradient is not None:
            ctx.save_for_backward(_folded(gradient))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * grad


def _folded(padded: Tensor) -> Tensor:
    """What arrives at the replicated border belongs to the pixels that were replicated."""
    padded[..., 1, :] += padded[..., 0, :]
    padded[..., -2, :] += padded[..., -1, :]
    padded[..., 1] += padded[..., 0]
    padded[..., -2] += padded[..., -1]
    return padded[..., 1:-1, 1:-1].contiguous()


def total_variation(x: Tensor) -> Tensor:
    """Mean of squared differences between neighbours, diagonals included at half weight.

    The border is replicated first: otherwise the outermost pixels have fewer neighbours, and
    the frame of the picture is left rough.
    """
    return _TotalVariation.apply(x)  # type: ignore[no-any-return]
