"""What is minimised at one scale: network, targets and weights made into one function of x.

    total = content_weight b content + style_weight (style + color_weight color)
            + tv_weight tv

content is the mean over the content layers, style the weighted sum over the style layers, color
the Wasserstein distance of the pixels' own colours, and b is 1 unless `--balance auto` moves it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastconv import moments_of

from ..config.options import StyleConfig
from ..networks.loss_scaling import GradientScale
from ..networks.table import Network
from .style import ContentLoss, StyleLoss, blend, total_variation

Values = dict[str, float]


class Evaluation:
    """The total, still differentiable, and every part of it, the total among them.

    Parts are numbers or, on a device, tensors.  Asking a device for a number waits for all that it
    has still to do: `stacked` and `read` ask once, for the parts and the gradient's sum together.
    `sums` are values that follow from the parts': sum_i weight[i] part[i].
    """

    def __init__(
        self,
        total: Tensor,
        parts: Mapping[str, Tensor | float],
        sums: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.total, self.sums = total, sums or {}
        self.parts = {n: p.detach() if isinstance(p, Tensor) else p for n, p in parts.items()}
        self.slope = 0.0  # the gradient's sum, which is not finite where any of it is not
        self._values: Values | None = None

    def stacked(self, slope: Tensor) -> Tensor:
        """The parts that are tensors, and `slope`."""
        return torch.stack([*(p for p in self.parts.values() if isinstance(p, Tensor)), slope])

    def read(self, stacked: Tensor) -> None:
        """Learn the numbers, in one transfer."""
        *found, self.slope = stacked.tolist()
        numbers = iter(found)
        parts = self.parts.items()
        values = {n: next(numbers) if isinstance(p, Tensor) else p for n, p in parts}
        for name, weights in self.sums.items():
            values[name] = sum(weight * values[n] for n, weight in weights.items())
        self._values = values

    @property
    def values(self) -> Values:
        """Every part as a number."""
        if self._values is None:
            self.read(self.stacked(self.total.new_zeros(())))
            assert self._values is not None
        return self._values

    @property
    def has_finite_total(self) -> bool:
        return math.isfinite(self.values["total"])

    @property
    def has_finite_gradient(self) -> bool:
        return math.isfinite(self.slope)


class Balance:
    """`--balance auto`: steer b until content and style (colours included) weigh the same.

    Every EVERY evaluations b is multiplied by the root of the two sides' ratio.  More b makes
    the content's loss smaller and the style's larger, so this comes to rest; keeping the
    losses' share of the total (b on the left as well) would not, since near its minimum a loss
    falls faster than its weight grows.  At each evaluation it would pull the ground from under
    L-BFGS.
    """

    EVERY = 10
    LIMIT = 100.0

    def __init__(self) -> None:
        self.factor, self.seen = 1.0, 0

    def watch(self, content: float, style: float) -> bool:
        """Take in an evaluation's weighted losses; True if the factor has moved."""
        self.seen += 1
        if self.seen % self.EVERY or content <= 0 or style <= 0:
            return False
        moved = self.factor * (content / style) ** 0.5
        self.factor = min(max(moved, 1 / self.LIMIT), self.LIMIT)
        return True


class Objective:
    """The function of x at one scale.

    content (1, 3, h, w); styles (1, 3, h', w') each; x and the mask have the content's size.
    Where the mask is 0, x is replaced by the content before anything looks at it.
    """

    def __init__(
        self,
        network: Network,
        config: StyleConfig,
        layers: LayerChoice,
        content: Tensor,
        styles: Sequence[Tensor],
        mask: Tensor | None = None,
    ) -> None:
        self.network, self.config, self.layers = network, config, layers
        self.content, self.mask = content, mask
        self.balance = Balance() if config.balance == "auto" else None
        self.color: StyleLoss | None = None
        # of content and style, as they are told
        self.sums = {
            "content": {f"content/{n}": 1 / len(layers.content) for n in self._used("content")},
            "style": {f"style/{n}": layers.weights[n] for n in self._used("style")},
        }
        with torch.no_grad():
            self._attach(content, styles)
            self.roughness = self._roughness(content, styles)
        weights = self._weights()
        self.terms = tuple(weights)
        # a tensor, so that a recorded evaluation reads it anew each time
        self.weights = content.new_tensor(list(weights.values()))

    def _weights(self) -> Values:
        """What each term of the total counts."""
        config, balance = self.config, self.balance.factor if self.balance else 1.0
        of_kind = {"content": config.content_weight * balance, "style": config.style_weight}
        weights = {
            part: of_kind[kind] * share
            for kind, shares in self.sums.items()
            for part, share in shares.items()
        }
        if self.color:
            weights["color"] = config.style_weight * config.color_weight
        if config.tv_weight:
            weights["tv"] = config.tv_weight
        return weights

    def _attach(self, content: Tensor, styles: Sequence[Tensor]) -> None:
        config, network = self.config, self.network
        network.detach_all()
        if config.content_weight > 0:
            features = network.features(content)
            for layer in self.layers.content:
                loss = ContentLoss(config.content_loss, features[layer], config.normalize)
                network.attach(layer, loss)
        if config.style_weight > 0:
            several = [network.read(style)[1] for style in styles]
            weights = self.style_weights(styles)
            for layer in self.layers.style:
                each = [moments[layer] for moments in several]
                target = blend(config.style_loss, each, weights)
                network.attach(layer, StyleLoss(config.style_loss, target, config.normalize))
            if config.color_weight > 0:
                colours = blend("wasserstein", [moments_of(style) for style in styles], weights)
                self.color = StyleLoss("wasserstein", colours, config.normalize)

    def _roughness(self, content: Tensor, styles: Sequence[Tensor]) -> float:
        """The mean total variation of content and style, so that its weight holds at any size."""
        if not self.config.normalize:
            return 1.0
        weights = self.style_weights(styles)
        own = sum(w * float(total_variation(style)) for w, style in zip(weights, styles))
        return max((float(total_variation(content)) + own / sum(weights)) / 2, 1e-6)

    def style_weights(self, styles: Sequence[Tensor]) -> tuple[float, ...]:
        """How much each style counts."""
        return self.config.style_weights or (1.0,) * len(styles)

    def seen(self, x: Tensor) -> Tensor:
        """x, or outside the mask the content."""
        return x if self.mask is None else self.content + self.mask * (x - self.content)

    def __call__(self, x: Tensor) -> Evaluation:
        seen = self.seen(x)
        terms: dict[str, Tensor] = {}
        for layer, loss, value in self.network(seen):
            terms[f"{loss.kind}/{layer}"] = value
        if self.color:
            terms["color"] = self.color(moments_of(seen))
        if self.config.tv_weight:
            terms["tv"] = total_variation(seen) / self.roughness
        # One operation: each costs 10 us, forward and back, where the network has left the caches.
        in_order = [terms[name] for name in self.terms]
        total = torch.dot(torch.stack(in_order), self.weights) if terms else x.new_zeros(())
        unused = {name: 0.0 for name in ("color", "tv") if name not in terms}
        return Evaluation(total, {"total": total, **terms, **unused}, self.sums)

    @property
    def told(self) -> Values:
        """What belongs to an evaluation besides its own values."""
        return {"balance": self.balance.factor} if self.balance else {}

    @property
    def scaling(self) -> GradientScale | None:
        """What keeps gradients in the range of the network's precision, where that is needed."""
        return self.network.scaling

    @property
    def against_recording(self) -> str:
        """Why an evaluation cannot be recorded into a CUDA graph, or nothing."""
        return self.network.against_recording

    def _used(self, kind: str) -> tuple[str, ...]:
        if kind == "content":
            return self.layers.content if self.config.content_weight > 0 else ()
        return self.layers.style if self.config.style_weight > 0 else ()

    def rebalance(self, values: Values) -> bool:
        """Let `--balance auto` see an evaluation; True if the weights have moved."""
        if self.balance is None:
            return False
        config = self.config
        style = config.style_weight * (values["style"] + config.color_weight * values["color"])
        has_moved = self.balance.watch(config.content_weight * values["content"], style)
        if has_moved:
            self._weigh()
        return has_moved

    def balance_as(self, factor: float, seen: int) -> None:
        """Go on with a balance that was found before."""
        if self.balance is not None:
            self.balance.factor, self.balance.seen = factor, seen
            self._weigh()

    def _weigh(self) -> None:
        weights = list(self._weights().values())
        self.weights.copy_(torch.tensor(weights, dtype=self.weights.dtype))


@dataclass(frozen=True)
class LayerChoice:
    """The layers that losses are attached to; the style's weights sum to 1."""

    content: tuple[str, ...]
    style: tuple[str, ...]
    weights: dict[str, float]

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.content, *self.style)
