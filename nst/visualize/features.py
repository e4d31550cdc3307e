"""What a network responds to: features, Gram matrices, filters, reconstructions, favourites.

A reconstruction is a run of the style transfer with everything else turned off, from noise: one
layer's content alone shows what the layer still knows of a picture, one layer's style alone what
it knows of a texture.  A channel's favourite is found by gradient ascent on its mean activation.
The figures of all this are drawn in figures.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..api import Stylizer
from ..config.options import StyleConfig
from ..errors import ConfigError, LayerError
from ..losses.style import gram
from ..losses.variation import total_variation
from ..networks.network import Network
from ..networks.weights import Weights, expected_kind, obtain
from ..pictures.sizing import load_picture, parse_size, resize
from ..run.observer import Observer
from ..run.setup import Setup

Part = Literal["content", "style"]
Maps = dict[str, Tensor]  # layer -> (1, c, h, w)


@dataclass(frozen=True)
class FeatureReader:
    """A network with its weights, ready to read pictures at some layers."""

    network: Network
    weights: Weights
    setup: Setup
    layers: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.network.name

    def picture(self, source: Any) -> Tensor:
        """A picture (1, 3, h, w) at the config's size."""
        rgb = load_picture(source, parse_size(str(self.setup.config.size))).rgb
        return rgb.to(self.setup.device, self.setup.precision.picture)

    def features_of(self, rgb: Tensor) -> Maps:
        """The features of a tensor (n, 3, h, w) at every layer, differentiable."""
        found = self.network.features(rgb, *self.layers)
        return {layer: found[layer] for layer in self.layers}

    def features(self, source: Any) -> Maps:
        """The features of a picture at every layer, in the network's order."""
        with torch.no_grad():
            return self.features_of(self.picture(source))

    def grams(self, source: Any) -> Maps:
        """The Gram matrices (c, c) of a picture's features: what goes with what, and not where."""
        return {layer: gram(features) for layer, features in self.features(source).items()}


def feature_reader(
    layers: Sequence[str] = (), observer: Observer | None = None, **options: Any
) -> FeatureReader:
    """A network read at `layers`, or at its usual style and content layers.

    `options` are those of StyleConfig: network, weights, size, backend, device, ...
    """
    if any(not layer.strip() for layer in layers):
        raise LayerError("layer expects a name such as relu3_1, got none")
    config, observer = StyleConfig.of("quality", **options), observer or Observer()
    kind = expected_kind(config.network, config.weights)
    wanted = tuple(layers) or tuple(dict.fromkeys((*kind.style_layers, *kind.content_layers)))
    read = config.but(content_layers=wanted, style_layers=wanted[:1])
    setup = Setup.of(read, kind)  # a wrong layer shows before anything is fetched
    weights = obtain(config.network, config.weights, observer.downloading)
    network = setup.build(weights)
    ordered, _ = network.prepare(features=setup.layers.content)
    return FeatureReader(network, weights, setup, ordered)


def strongest(several: Sequence[Tensor], count: int) -> list[int]:
    """The channels with the strongest features over several pictures, strongest first."""
    strength = torch.stack([each.abs().mean((0, 2, 3)) for each in several]).sum(0)
    return strength.argsort(descending=True)[:count].tolist()


def first_filters(reader: FeatureReader) -> Tensor:
    """The kernels (c_out, 3, kh, kw) of the first convolution, whose input is colours."""
    first = next(m for m in reader.network.modules() if isinstance(m, nn.Conv2d))
    return first.weight.detach()


# ---------------------------------------------------------------- reconstructions


@dataclass(frozen=True)
class Reconstruction:
    """A picture with the same features (or moments) as the original at some layers."""

    part: Part
    layers: tuple[str, ...]
    rgb: Tensor  # (1, 3, h, w)
    original: Tensor  # the same for what it was made from
    first: float  # the loss of the noise
    last: float  # and of the result


def reconstruct(
    source: Any,
    layers: Sequence[str],
    part: Part = "content",
    observer: Observer | None = None,
    weights: Weights | None = None,
    **options: Any,
) -> Reconstruction:
    """An image optimised from noise to match the content or the style of `source` at `layers`.

    content: the features themselves, place by place.  style: their statistics (mean and
    covariance; `style_loss='gatys'` for the paper's Gram matrices), which makes a texture.
    `weights` are the network's where they have been read already.
    """
    if part not in ("content", "style"):
        raise ConfigError(f"part expects content or style, got {part!r}")
    if not layers:
        raise ConfigError("expected one layer or more to reconstruct from, got none")
    is_content = part == "content"
    fixed: dict[str, Any] = {
        "init": "random",
        f"{part}_layers": tuple(layers),
        f"{part}_weight": 1.0,
        f"{'style' if is_content else 'content'}_weight": 0.0,
        # The other part's layers are not read, but the network is cut at the deepest.
        f"{'style' if is_content else 'content'}_layers": (layers[0],),
    }
    # Coarse to fine: content is found sooner, textures come out larger than the noise's grain.  But
    # not below 128 pixels for style: where a deep layer has hardly more places than channels, its
    # moments determine the arrangement as well (at 45 pixels the sun was always in its old corner).
    # A little smoothing removes the noise that the layer does not respond to.
    scales = 4 if is_content else 0
    usual: dict[str, Any] = {"optimizer": "lbfgs", "scales": scales, "iterations": (100,)}
    usual |= {"tv_weight": 2e-3, "color_weight": 0.0}  # colours only as the layers see them
    paint = Stylizer(source, observer=observer, weights=weights, **{**usual, **options, **fixed})
    result = paint(source)
    if result.interrupted:
        raise KeyboardInterrupt
    first, last = result.losses[0][part], result.losses[-1][part]
    hw = (result.rgb.shape[2], result.rgb.shape[3])
    original = resize(load_picture(source).rgb, hw)
    return Reconstruction(part, tuple(layers), result.rgb, original, first, last)


def cumulative(layers: Sequence[str]) -> list[tuple[str, ...]]:
    """The paper's way of showing styles: the first layer, the first two, the first three, ..."""
    return [tuple(layers[: n + 1]) for n in range(len(layers))]


# ---------------------------------------------------------------- channels


def favourites(
    reader: FeatureReader,
    layer: str,
    channels: Sequence[int],
    side: int = 96,
    steps: int = 120,
    seed: int = 0,
) -> Tensor:
    """The pictures (n, 3, side, side) that channels of a layer respond to most.

        x <- x + rate dx,      dx = d/dx ( mean f_channel(x) / |mean f_channel(start)| - 20 tv(x) )

    Adam from grey noise; every step sees x shifted by some pixels, so that what is found does
    not hang on single pixels (which every network with strides is fond of).
    """
    if layer not in reader.layers:
        raise LayerError(f"the network is read at {', '.join(reader.layers)}, not at {layer}")
    _check_channels(reader, layer, channels)
    device, generator = reader.setup.device, torch.Generator().manual_seed(seed)
    start = 0.5 + 0.08 * torch.randn(len(channels), 3, side, side, generator=generator)
    x = start.to(device).requires_grad_()
    with torch.no_grad():
        before = _answers(reader, layer, channels, x)
    optimiser = torch.optim.Adam([x], lr=0.03)
    for _ in range(steps):
        down, right = torch.randint(-4, 5, (2,), generator=generator).tolist()
        answers = _answers(reader, layer, channels, torch.roll(x, (down, right), (2, 3)))
        loss = 20 * total_variation(x) - (answers / before.abs().clamp_min(1e-3)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    return x.detach().cpu()


def _check_channels(reader: FeatureReader, layer: str, channels: Sequence[int]) -> None:
    with torch.no_grad():
        small = torch.zeros(1, 3, 32, 32, device=reader.setup.device)
        width = reader.features_of(small)[layer].shape[1]
    if not channels or min(channels) < 0 or max(channels) >= width:
        raise ConfigError(f"{layer} has channels 0 to {width - 1}, got {list(channels)}")


def _answers(reader: FeatureReader, layer: str, channels: Sequence[int], x: Tensor) -> Tensor:
    """The mean activation of channel n of the layer for picture n: (n,)."""
    features = reader.features_of(x)[layer]
    return features[torch.arange(len(channels)), list(channels)].mean((1, 2))
