"""What a run is computed with, decided once from the config and passed on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..config.options import StyleConfig, parse_memory
from ..config.presets import PRESETS
from ..errors import ConfigError
from ..losses.terms import LayerChoice
from ..networks.build import build_network
from ..networks.hardware import choose_backend, choose_device, choose_graph
from ..networks.memory import Readings, largest_size, run_bytes
from ..networks.network import Network
from ..networks.precision import PRECISIONS, Precision
from ..networks.stacks import check_layers, cut_stack
from ..networks.table import Kind, kind_of, shortest_side
from ..networks.weights import Weights, expected_kind
from ..optimizers.curvature_pairs import pair_bytes
from .pyramid import Level, levels

PICTURES = 16  # of a run's size: content, styles, x, its gradient, moments, copies on the way


@dataclass(frozen=True)
class Setup:
    """Device, backend, precision, network and layers of a run: made once, never asked again."""

    config: StyleConfig
    kind: Kind
    device: torch.device
    backend: str
    precision: Precision
    layers: LayerChoice
    shortest_side: int  # of a picture that the layers in use can take

    @classmethod
    def of(cls, config: StyleConfig, kind: Kind) -> Setup:
        """Decide, or say what of the config cannot be had here."""
        choose_graph(config)
        layers = choose_layers(config, kind)
        names = [name for name, _ in cut_stack(kind, layers.all)]
        return cls(
            config,
            kind,
            choose_device(config.device),
            choose_backend(config),
            PRECISIONS[config.precision],
            layers,
            shortest_side(names),
        )

    @classmethod
    def expected(cls, config: StyleConfig, network: str | None = None) -> Setup:
        """The same of a config alone; `network` is that of a run which is resumed."""
        kind = kind_of(network) if network else expected_kind(config.network, config.weights)
        return cls.of(config, kind)

    @property
    def computed(self) -> str:
        """What computes the network, in words."""
        return f"{self.backend} on {self.device}, {self.config.precision}"

    @property
    def weighed(self) -> StyleConfig:
        """The settings with the content's weight as this network takes it."""
        config = self.config
        if config.normalize or config.content_layers:
            return config
        return config.but(content_weight=self.kind.raw_content * config.content_weight)

    @property
    def moments(self) -> tuple[str, ...]:
        """The layers whose moments are read."""
        return self.layers.style if self.config.style_weight > 0 else ()

    @property
    def features(self) -> tuple[str, ...]:
        """The layers whose features are read."""
        return self.layers.content if self.config.content_weight > 0 else ()

    def build(self, weights: Weights) -> Network:
        """The network with these weights, as the setup has it."""
        return build_network(
            weights,
            self.layers.all,
            backend=self.backend,
            device=self.device,
            pooling=self.config.pooling,
            padding=self.config.padding,
            precision=self.precision,
        )

    def levels(self, hw: tuple[int, int]) -> list[Level]:
        """The scales of a run, or ConfigError if the picture is too small for the network."""
        return levels(hw, self.config.scales, self.config.iterations, self.shortest_side)

    def memory(self, hw: tuple[int, int]) -> int:
        """Bytes at the peak of a run, within 15 % of what is measured (docs/memory.md)."""
        value_bytes = self.precision.picture.itemsize
        pictures: float = PICTURES
        if self.config.optimizer == "lbfgs":
            kept = pair_bytes(self.device, self.precision.picture)
            pictures += 2 * self.config.history * kept / value_bytes
        reads = Readings(
            self.kind,
            self.features,
            self.moments,
            self.backend,
            self.device.type,
            self.precision,
            self.kind.pooling if self.config.pooling == "auto" else self.config.pooling,
            self.config.padding,
        )
        return run_bytes(reads, hw, int(pictures * 3 * hw[0] * hw[1] * value_bytes))

    def check_memory(self, hw: tuple[int, int]) -> None:
        """ConfigError, with the largest size that fits, if a run would need more than it may."""
        limit = parse_memory(self.config.max_memory)
        if limit is None:  # the estimate runs the network on the meta device: half a second
            return
        needed = self.memory(hw)
        if needed <= limit:
            return
        fits = largest_size(self.memory, hw, limit)
        advice = f"--size {fits} fits" if fits >= 64 else "no useful size fits"
        raise ConfigError(
            f"max_memory is {self.config.max_memory}, and {max(hw)} pixels need about "
            f"{needed / 2**30:.2f}G: {advice}"
        )


def choose_layers(config: StyleConfig, kind: Kind) -> LayerChoice:
    """The layers of the config, or else the network's usual ones; they must exist."""
    content = config.content_layers or kind.content_layers
    style = config.style_layers or kind.style_layers
    check_layers(kind, (*content, *style))
    given = config.style_layer_weights
    if len(given) != len(style) and given == PRESETS[config.preset].get("style_layer_weights"):
        given = ()  # the preset's weights were for the preset's layers
    if not given:
        own = dict(zip(kind.style_layers, kind.style_layer_weights))
        # the usual weights where all layers are the usual ones, else all alike
        given = tuple(own[name] if set(style) <= set(own) else 1.0 for name in style)
    if len(given) != len(style):
        raise ConfigError(
            f"style_layer_weights expects one number per style layer ({', '.join(style)}), "
            f"got {len(given)}"
        )
    total = sum(given)
    return LayerChoice(content, style, {n: w / total for n, w in zip(style, given)})
