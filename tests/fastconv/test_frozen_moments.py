"""Moments of a frozen stack's features, against double precision."""

from __future__ import annotations

import copy

import pytest
import torch
from frozen_cases import BACKWARD, FORWARD, native_only, network, outputs_of
from torch import Tensor, nn

from fastconv import moments_of
from fastconv.frozen import freeze


def moments_apart(
    module: nn.Sequential, x: Tensor, backend: str, channels_last: bool = False
) -> tuple[float, float]:
    """The largest relative distance of moments, and that of a gradient of all of them."""
    layers, results = [1, 6, 11], []
    weights: list[Tensor] = []
    for double in (False, True):
        own = copy.deepcopy(module)
        given = (x.double() if double else x.clone()).requires_grad_()
        if double:
            tapped = outputs_of(own.double(), [4, *layers], given)
            found = [tapped[0], *(t for f in tapped[1:] for t in moments_of(f))]
        else:
            tap, *pairs = freeze(own, [4], backend, layers)(given)
            found = [tap, *(t for pair in pairs for t in pair)]
            weights = [torch.rand(t.shape) for t in found]
        sum((w.to(t) * t).sum() for w, t in zip(weights, found, strict=True)).backward()  # type: ignore[union-attr]
        results.append((found, given.grad))
    (found, gradient), (expected, true) = results
    apart = [
        float((a - b).detach().norm() / b.detach().norm())
        for a, b in zip(found, expected, strict=True)
    ]
    return max(apart), float((gradient - true).norm() / true.norm())


@pytest.mark.parametrize("channels", [16, 20, 48, 65])
@pytest.mark.parametrize("n", [1, 2])
def test_moments_are_those_of_the_features(channels: int, n: int) -> None:
    forward, backward = moments_apart(network(channels=channels), torch.rand(n, 3, 37, 45), "auto")
    assert forward < FORWARD
    assert backward < 10 * BACKWARD  # a covariance's gradient is large where a ReLU may flip


@native_only
@pytest.mark.parametrize("channels", [16, 48, 64, 65, 128, 200])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("size", [(37, 45), (3, 3)])
def test_moments_are_exact_and_the_covariance_symmetric(
    channels: int, n: int, size: tuple[int, int]
) -> None:
    """64 channels alone are mirrored on the matrix unit."""
    module = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU())
    x = torch.randn(n, 3, *size)
    features, found = freeze(module, [1], "native", [1])(x)
    expected = moments_of(features.detach().double())
    for mine, known in zip(found, expected, strict=True):
        assert float((mine - known).norm() / known.norm()) < 1e-5
    assert torch.equal(found.covariance, found.covariance.mT)


@native_only
@pytest.mark.parametrize("bits", [0x7FFFFFFF, -1, 0x7FC00000])
@pytest.mark.parametrize("channels", [16, 64, 128, 256])
def test_a_nan_of_any_bits_stays_one(channels: int, bits: int) -> None:
    module = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU())
    x = torch.randn(1, 3, 20, 22, requires_grad=True)
    (found,) = freeze(module, [], "native", [1])(x)
    strange = torch.full((channels, channels), bits, dtype=torch.int32).view(torch.float32)
    (gradient,) = torch.autograd.grad(found.covariance, x, strange[None])
    assert gradient.isnan().all()


@pytest.mark.parametrize("channels", [48, 64, 128, 200, 257])
@pytest.mark.parametrize("taps", [[3], [1, 3], [1], []])
def test_gradients_of_moments_taps_and_later_layers_add_up(channels: int, taps: list[int]) -> None:
    """With 128 channels and more, the matrix unit multiplies where there is one."""
    module = nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 5, 3), nn.ReLU()
    )
    x, weight = torch.rand(1, 3, 19, 23), torch.rand(channels, channels)
    gradients = []
    for double in (False, True):
        own, given = copy.deepcopy(module), x.clone().requires_grad_()
        if double:
            outputs = outputs_of(own.double(), [*taps, 1], given.double())
            outputs[-1:] = moments_of(outputs[-1])
        else:
            *outputs, pair = freeze(own, taps, "auto", [1])(given)
            outputs += pair
        total = sum(t.square().sum() for t in outputs[:-1])
        (total + (weight.to(outputs[-1]) * outputs[-1]).sum()).backward()
        gradients.append(given.grad)
    single, true = gradients
    assert float((single - true).norm() / true.norm()) < 10 * BACKWARD


def test_every_backend_gives_moments(backend: str) -> None:
    forward, backward = moments_apart(network(channels=2), torch.rand(1, 3, 14, 15), backend)
    assert forward < FORWARD
    assert backward < BACKWARD


@native_only
def test_features_of_one_value_have_no_covariance() -> None:
    module = nn.Sequential(nn.Conv2d(3, 48, 3, padding=1, padding_mode="replicate"), nn.ReLU())
    ((mean, covariance),) = freeze(module, [], "native", [1])(torch.full((1, 3, 70, 61), 0.7))
    assert float(covariance.abs().max()) < 1e-6 * float(mean.square().max())


@native_only
@pytest.mark.parametrize("channels", [16, 200])
def test_moments_alone_can_be_differentiated_one_by_one(channels: int) -> None:
    module, x = network(channels=channels), torch.rand(1, 3, 24, 24)
    frozen = freeze(module, [], "native", [1, 11])
    exact = freeze(copy.deepcopy(module).double(), [], "torch", [1, 11])
    for part in (0, 1):
        for reading in (0, 1):
            gradients = []
            for run, leaf in ((frozen, x.clone()), (exact, x.double())):
                leaf.requires_grad_()
                run(leaf)[reading][part].square().sum().backward()
                gradients.append(leaf.grad)
            single, true = gradients
            assert float((single - true).norm() / true.norm()) < 10 * BACKWARD


@native_only
def test_moments_do_not_depend_on_which_thread_was_faster() -> None:
    frozen, x = freeze(network(channels=48), [], "native", [1, 6]), torch.rand(1, 3, 150, 130)
    first = frozen(x)
    for _ in range(5):
        for a, b in zip(first, frozen(x), strict=True):
            assert torch.equal(a.covariance, b.covariance)
            assert torch.equal(a.mean, b.mean)
