"""A run: pictures prepared, network built, and the loop over scales and iterations.

`Run.steps()` is the only loop.  Everything that watches it (progress, frames, checkpoints) sees
the `Step`s it yields, and `Run.state()` between two steps holds all that the rest of the run
depends on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config.options import PRESETS, StyleConfig
from ..errors import ConfigError, LayerError, PictureError, UserError, did_you_mean
from ..losses.objective import LayerChoice, Objective
from ..networks import weights as weights_module
from ..networks.hardware import choose_backend, choose_device, choose_graph
from ..networks.precision import PRECISIONS
from ..networks.table import (
    Network,
    check_layers,
    cut_stack,
    kind_of,
    load_stack,
    use_pooling_scale,
)
from ..observers.progress import Observer
from ..optimizers.base import OPTIMIZERS, Optimizer
from ..pictures.colour import keep_luminance_only, match_colour
from ..pictures.sizing import Picture, fit_style, load_picture, parse_size, resize
from .pyramid import Level, levels


@dataclass(frozen=True)
class Step:
    """One iteration, as observers see it; `row` is a line of the history."""

    iteration: int
    iterations: int
    scale: int
    scales: int
    level: Level
    row: dict[str, float]
    run: Run

    @property
    def picture(self) -> Tensor:
        """The picture after this step, (1, 3, h, w) in [0, 1], at this scale's size."""
        return self.run.picture()


@dataclass
class Inputs:
    """The pictures of a run at its final size: all that a checkpoint needs of them."""

    content: Picture
    styles: list[Picture]
    init: Tensor | None = None  # only where a file was named
    mask: Tensor | None = None


STARTS = ("content", "style", "random", "gray")


def load_inputs(config: StyleConfig, content: Any, styles: Sequence[Any]) -> Inputs:
    """Read the pictures and bring them to the size of the result."""
    picture = load_picture(content, parse_size(str(config.size)))
    if not styles:
        raise ConfigError("expected at least one style picture, got none")
    if config.style_weights and len(config.style_weights) != len(styles):
        raise ConfigError(
            f"style_weights expects one number per style, {len(styles)}, "
            f"got {len(config.style_weights)}"
        )
    fitted = [
        fit_style(load_picture(style), picture.hw, config.style_fit, config.style_scale)
        for style in styles
    ]
    if config.preserve_color == "match":
        fitted = [
            Picture(match_colour(style.rgb, picture.rgb), name=style.name) for style in fitted
        ]
    init, mask = None, None
    if config.init not in STARTS:
        if not Path(config.init).exists():
            raise PictureError(
                f"init {config.init}: expected a file that is there, or a word: "
                f"{did_you_mean(config.init, STARTS)}"
            )
        init = resize(load_picture(config.init).rgb, picture.hw)
    if config.mask is not None:
        mask = resize(load_picture(config.mask).rgb, picture.hw).mean(1, keepdim=True)
    return Inputs(picture, fitted, init, mask)


def choose_layers(config: StyleConfig, network: str) -> LayerChoice:
    """The layers of the config, or else the network's usual ones; they must exist."""
    kind = kind_of(network)
    content = config.content_layers or kind.content_layers
    style = config.style_layers or kind.style_layers
    check_layers(network, (*content, *style))
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


def build_network(
    config: StyleConfig, found: weights_module.Weights, layers: LayerChoice
) -> Network:
    """The network up to the deepest layer in use, with its weights, on its device."""
    usual = kind_of(found.network).pooling
    pooling = usual if config.pooling == "auto" else config.pooling
    stack = cut_stack(found.network, layers.all, pooling)
    load_stack(stack, found.state)
    use_pooling_scale(stack, pooling)
    network = Network(
        found.network,
        stack,
        layers.content,
        choose_backend(config),
        config.padding,
        layers.style if config.style_weight > 0 else (),
        PRECISIONS[config.precision],
    )
    return network.to(choose_device(config.device), PRECISIONS[config.precision].picture)


@dataclass
class Run:
    """Everything that a run works with."""

    config: StyleConfig
    inputs: Inputs
    network: Network
    source: str  # where the weights come from
    layers: LayerChoice
    levels: list[Level]
    observer: Observer = field(default_factory=Observer)
    optimizer: Optimizer | None = None
    scale: int = 0  # the level in work
    done: int = 0  # iterations done in it
    history: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of computing, also before a resumption
    balance: tuple[float, int] = (1.0, 0)

    @classmethod
    def prepare(
        cls, config: StyleConfig, inputs: Inputs, observer: Observer, network: str | None = None
    ) -> Run:
        """Get the weights, build the network, plan the scales; `network` for a resumed run."""
        choose_backend(config)  # before anything is fetched
        choose_graph(config)
        name = network or config.network
        if name != "auto":
            choose_layers(config, name)
        found = weights_module.obtain(name, config.weights, observer.downloading)
        layers = choose_layers(config, found.network)
        built = build_network(config, found, layers)
        plan = levels(inputs.content.hw, config.scales, config.iterations, built.shortest_side)
        return cls(config, inputs, built, found.source, layers, plan, observer)

    @property
    def computed(self) -> str:
        """What computes the network, in words."""
        config = self.config
        return f"{choose_backend(config)} on {choose_device(config.device)}, {config.precision}"

    def note(self, text: str) -> None:
        """Keep a remark and tell it."""
        self.notes.append(text)
        self.observer.note(text)

    @property
    def finished(self) -> bool:
        """Whether the last iteration is done, whoever has asked for the one after it or not."""
        ends = [(len(self.levels), 0), (len(self.levels) - 1, self.levels[-1].iterations)]
        return (self.scale, self.done) in ends

    def steps(self) -> Iterator[Step]:
        """The run, from wherever it stands to its end."""
        total = sum(level.iterations for level in self.levels)
        while not self.finished:
            level = self.levels[self.scale]
            objective = self._objective(level)
            optimizer = self._optimizer(level)
            while self.done < level.iterations:
                began = time.perf_counter()
                evaluation = optimizer.step(objective)
                values = evaluation.values | objective.told
                if objective.rebalance(values):
                    optimizer.forget_last()
                if objective.balance:
                    self.balance = objective.balance.factor, objective.balance.seen
                self.done += 1
                self.seconds += time.perf_counter() - began
                yield self._step(level, total, values)
            self.scale, self.done = self.scale + 1, 0

    def _step(self, level: Level, total: int, values: dict[str, float]) -> Step:
        iteration = len(self.history) + 1
        row = {"iteration": iteration, "scale": max(level.hw), "seconds": self.seconds, **values}
        self.history.append(row)
        return Step(iteration, total, self.scale + 1, len(self.levels), level, row, self)

    def _objective(self, level: Level) -> Objective:
        config, inputs = self.config, self.inputs
        content = self._to_device(resize(inputs.content.rgb, level.hw))
        styles = [
            self._to_device(fit_style(style, level.hw, config.style_fit, config.style_scale).rgb)
            for style in inputs.styles
        ]
        for picture, style in zip(inputs.styles, styles, strict=True):
            if min(style.shape[2:]) < self.network.shortest_side:
                raise PictureError(
                    f"style {picture.name}: at the first size it would be {style.shape[3]}x"
                    f"{style.shape[2]} pixels, and the network needs sides of "
                    f"{self.network.shortest_side}; choose a larger --size or --style-scale"
                )
        mask = None if inputs.mask is None else self._to_device(resize(inputs.mask, level.hw))
        objective = Objective(self.network, self._weighed(), self.layers, content, styles, mask)
        objective.balance_as(*self.balance)
        return objective

    def _weighed(self) -> StyleConfig:
        """The settings with the content's weight as this network takes it."""
        config = self.config
        if config.normalize or config.content_layers:
            return config
        factor = kind_of(self.network.name).raw_content
        return config.but(content_weight=factor * config.content_weight)

    def _optimizer(self, level: Level) -> Optimizer:
        if self.optimizer is None:
            start = self._to_device(self._start(level.hw))
            self.optimizer = OPTIMIZERS[self.config.optimizer](start, self.config, self.note)
        elif self.done == 0:
            self.optimizer.enlarge(level.hw)
        return self.optimizer

    def _start(self, hw: tuple[int, int]) -> Tensor:
        inputs, word = self.inputs, self.config.init
        if inputs.init is not None:
            return resize(inputs.init, hw)
        if word == "style":
            return fit_style(inputs.styles[0], hw, "crop").rgb
        if word == "gray":
            return torch.full((1, 3, *hw), 0.5)
        if word == "random":  # the only random thing in a run, so no generator's state is kept
            generator = torch.Generator().manual_seed(self.config.seed)
            return torch.rand(1, 3, *hw, generator=generator)
        return resize(inputs.content.rgb, hw)

    def _to_device(self, picture: Tensor) -> Tensor:
        return picture.to(
            choose_device(self.config.device), PRECISIONS[self.config.precision].picture
        )

    def picture(self) -> Tensor:
        """The picture so far at the size of the scale in work, (1, 3, h, w) on the CPU."""
        if self.optimizer is None:
            return self._start(self.inputs.content.hw)
        x = self.optimizer.picture.float().cpu()
        content = resize(self.inputs.content.rgb, (x.shape[2], x.shape[3]))
        if self.inputs.mask is not None:
            mask = resize(self.inputs.mask, (x.shape[2], x.shape[3]))
            x = content + mask * (x - content)
        if self.config.preserve_color == "luminance":
            x = keep_luminance_only(x, content)
        return x

    def final_picture(self) -> Tensor:
        """The same at the size of the result, enlarged if the run is not there yet."""
        return resize(self.picture(), self.inputs.content.hw)

    def state(self) -> dict[str, Any]:
        """All that the rest of the run depends on, for a checkpoint."""
        if self.optimizer is None:
            raise UserError("nothing has been computed yet: there is no state to keep")
        return {
            "scale": self.scale,
            "done": self.done,
            "history": self.history,
            "notes": self.notes,
            "seconds": self.seconds,
            "balance": self.balance,
            "scaling": self.network.scaling.state() if self.network.scaling else None,
            "optimizer": self.optimizer.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Stand where `state` was taken; the next of `steps()` is the one after it."""
        self.scale, self.done = state["scale"], state["done"]
        self.history, self.notes = list(state["history"]), list(state["notes"])
        self.seconds, self.balance = state["seconds"], tuple(state["balance"])
        if self.network.scaling:
            self.network.scaling.load(state["scaling"])
        self.optimizer = OPTIMIZERS[self.config.optimizer](
            self._to_device(state["optimizer"]["x"]), self.config, self.note
        )
        self.optimizer.load_state(state["optimizer"])


def features_of(picture: Any, layer: str, observer: Observer, **options: Any) -> tuple[str, Tensor]:
    """The network's name, and its features (1, c, h, w) of a picture at `layer`."""
    if not layer.strip():
        raise LayerError("layer expects a name such as relu3_1, got none")
    config = StyleConfig.of("quality", content_layers=(layer,), style_layers=(layer,), **options)
    rgb = load_picture(picture, parse_size(str(config.size))).rgb
    if config.network != "auto":
        choose_layers(config, config.network)
    found = weights_module.obtain(config.network, config.weights, observer.downloading)
    network = build_network(config, found, choose_layers(config, found.network))
    with torch.no_grad():
        return found.network, network.features(
            rgb.to(choose_device(config.device), PRECISIONS[config.precision].picture)
        )[layer]
