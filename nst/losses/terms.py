"""The terms of a style transfer: content, style, colours, total variation.

    total = sum over content layers   content_weight / layers * content[layer]
          + sum over style layers     style_weight * layer_weight * style[layer]
          + style_weight * color_weight * color  +  tv_weight * tv

color is the Wasserstein distance of the pixels' own colours.  The style's targets depend on the
styles and their size alone, so `take_style_targets` takes them once for any number of contents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastconv import moments_of

from ..config.options import StyleConfig
from ..tables import found, made
from .content import ContentDistance
from .objective import Readable
from .style import StyleDistance, Wasserstein, blend
from .table import CONTENT_LOSSES, STYLE_LOSSES
from .term import Term
from .variation import total_variation


@dataclass(frozen=True)
class LayerChoice:
    """The layers that losses read; the style's weights sum to 1."""

    content: tuple[str, ...]
    style: tuple[str, ...]
    weights: dict[str, float]

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.content, *self.style)


@dataclass(frozen=True)
class StyleTargets:
    """What the styles ask for at one size."""

    layers: dict[str, StyleDistance]
    colours: StyleDistance | None
    variation: float  # the styles' mean total variation


def take_style_targets(
    network: Readable, config: StyleConfig, layers: LayerChoice, styles: Sequence[Tensor]
) -> StyleTargets:
    """Read the styles (1, 3, h, w) once; several are averaged by `style_weights`."""
    weights = config.style_weights or (1.0,) * len(styles)
    own = sum(w * float(total_variation(style)) for w, style in zip(weights, styles))
    variation = own / sum(weights)
    if config.style_weight == 0:
        return StyleTargets({}, None, variation)
    loss = made("style_loss", config.style_loss, STYLE_LOSSES)
    with torch.no_grad():
        several = [network.read(style, moments=layers.style)[1] for style in styles]
        distances = {
            layer: StyleDistance(
                loss, blend(loss, [each[layer] for each in several], weights), config.normalize
            )
            for layer in layers.style
        }
        colours: StyleDistance | None = None
        if config.color_weight > 0:
            target = blend(Wasserstein(), [moments_of(style) for style in styles], weights)
            colours = StyleDistance(Wasserstein(), target, config.normalize)
    return StyleTargets(distances, colours, variation)


def build_terms(
    network: Readable,
    config: StyleConfig,
    layers: LayerChoice,
    targets: StyleTargets,
    content: Tensor,
) -> list[Term]:
    """All terms of a run at one size; content (1, 3, h, w)."""
    terms: list[Term] = []
    if config.content_weight > 0:
        terms += _content_terms(network, config, layers, content)
    for layer, distance in targets.layers.items():
        share = layers.weights[layer]
        terms.append(_style_term(layer, config.style_weight * share, share, distance))
    if (colours := targets.colours) is not None:
        weight = config.style_weight * config.color_weight
        terms.append(Term("color", weight, lambda reading: colours(moments_of(reading.picture))))
    if config.tv_weight > 0:
        terms.append(_variation_term(config, targets, content))
    return terms


def _content_terms(
    network: Readable, config: StyleConfig, layers: LayerChoice, content: Tensor
) -> list[Term]:
    with torch.no_grad():
        features = network.read(content, features=layers.content)[0]
    code: Any = found("content_loss", config.content_loss, CONTENT_LOSSES)
    terms = []
    for layer in layers.content:
        loss = code() if isinstance(code, type) else code
        distance = ContentDistance(loss, features[layer], config.normalize)
        terms.append(_content_term(layer, config.content_weight, len(layers.content), distance))
    return terms


def _content_term(layer: str, weight: float, layers: int, distance: ContentDistance) -> Term:
    return Term(
        f"content/{layer}",
        weight / layers,
        lambda reading: distance(reading.features[layer]),
        share=1 / layers,
        features=(layer,),
    )


def _style_term(layer: str, weight: float, share: float, distance: StyleDistance) -> Term:
    return Term(
        f"style/{layer}",
        weight,
        lambda reading: distance(reading.moments[layer]),
        share=share,
        moments=(layer,),
    )


def _variation_term(config: StyleConfig, targets: StyleTargets, content: Tensor) -> Term:
    """Relative to the mean of content's and style's own, so that its weight holds at any size."""
    own = 1.0
    if config.normalize:
        own = max((float(total_variation(content)) + targets.variation) / 2, 1e-6)
    return Term("tv", config.tv_weight, lambda reading: total_variation(reading.picture) / own)
