"""What runs share, prepared once: the network with its weights, and the styles' targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ..errors import PictureError
from ..files import sha256_of
from ..losses.terms import StyleTargets, take_style_targets
from ..networks.network import Network
from ..networks.weights import Weights, obtain
from ..pictures.sizing import Picture, fit_style
from .observer import Observer
from .setup import Setup


@dataclass
class Engine:
    """A network ready to compute; runs of the same styles and size share the styles' targets."""

    setup: Setup
    network: Network
    source: str  # where the weights come from
    weights_sha256: str = ""  # of the file, if it was the user's own
    _styles: Sequence[Picture] = ()
    _targets: dict[tuple[int, int], StyleTargets] = field(default_factory=dict)

    @classmethod
    def prepare(cls, setup: Setup, observer: Observer, weights: Weights | None = None) -> Engine:
        """Get the weights, if they are not at hand already, and build the network."""
        config = setup.config
        if weights is None:
            name = config.network if isinstance(config.network, str) else setup.kind
            named = setup.kind.name if name == "auto" and config.weights is None else name
            weights = obtain(named, config.weights, observer.downloading)
        network = setup.build(weights)
        network.prepare(setup.features, setup.moments)
        file = config.weights
        return cls(setup, network, weights.source, sha256_of(file) if file else "")

    def targets(self, styles: Sequence[Picture], hw: tuple[int, int]) -> StyleTargets:
        """The styles' targets for a picture of size hw; computed once."""
        if styles is not self._styles:
            self._styles, self._targets = styles, {}
        if hw not in self._targets:
            config = self.setup.weighed
            rgbs = [self._at_level(style, hw) for style in styles]
            self._targets[hw] = take_style_targets(self.network, config, self.setup.layers, rgbs)
        return self._targets[hw]

    def _at_level(self, style: Picture, hw: tuple[int, int]) -> Tensor:
        config, shortest = self.setup.config, self.setup.shortest_side
        rgb = fit_style(style, hw, config.style_fit, config.style_scale).rgb
        if min(rgb.shape[2:]) < shortest:
            raise PictureError(
                f"style {style.name}: at the first size it would be {rgb.shape[3]}x"
                f"{rgb.shape[2]} pixels, and the network needs sides of {shortest}; choose a "
                "larger --size or --style-scale"
            )
        return self.to_device(rgb)

    def to_device(self, picture: Tensor) -> Tensor:
        """A picture where, and as exactly as, the run is computed."""
        return picture.to(self.setup.device, self.setup.precision.picture)
