"""StyleConfig: the only home of nst's options, their defaults and their help.

The command line's flags, the TOML file, the settings kept in a result's metadata and the
keywords of `nst.stylize` all follow from the fields below; the text under a field is its help.
To add an option, add a field, and a check in `__post_init__` if its type does not say it all.

The sections exist for the help page: to everything else, StyleConfig is one flat dataclass.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from tyro.conf import arg

from fastconv.backends.table import CHOICES as BACKENDS

from ..errors import ConfigError, did_you_mean
from ..tables import check_word, load, metavar, word_of
from .presets import PRESETS

Names = tuple[str, ...]
LARGEST_PIXELS = 178_956_970  # where Pillow itself refuses; 2.1 GB as float32
STARTS = ("content", "style", "random", "gray")
# What can be named, by option: a row of such a table is all that adds a choice, also to the help.
# The tables lie beside what they name, above this folder, so they are found by name.
TABLES = {
    "network": ("nst.networks.table:NETWORKS", ("auto",)),
    "style_loss": ("nst.losses.table:STYLE_LOSSES", ()),
    "content_loss": ("nst.losses.table:CONTENT_LOSSES", ()),
    "optimizer": ("nst.optimizers.table:OPTIMIZERS", ()),
}


def flag(**shown: Any) -> Any:
    """How the help page shows an option; a default that is nothing at all is not shown."""
    return arg(help_behavior_hint=_default_in_words, **shown)


def switch(**shown: Any) -> Any:
    """The same of what is off unless it is asked for: there is no --no- form (FlagCreatePairsOff).

    Options that a preset or a file may turn on keep both forms.
    """
    return arg(help_behavior_hint="", **shown)


def _default_in_words(label: str) -> str:
    return "" if label in ("", "''", "None") else f"(default: {label})"


def choices_of(option: str) -> tuple[str, ...]:
    """The words for an option: the rows of its table, and what stands for none of them."""
    where, more = TABLES[option]
    return (*more, *load(option, where))


def named(option: str) -> Any:
    """How the help page shows an option whose choices are the rows of a table."""
    return flag(metavar=metavar(choices_of(option)))


NetworkName = Annotated[str, named("network")]
StyleLossName = Annotated[str, named("style_loss")]
BackendName = Annotated[str, flag(metavar="|".join(BACKENDS))]
PresetName = Annotated[str, flag(metavar="|".join(PRESETS))]


@dataclass(frozen=True)
class PictureOptions:
    """What goes in, and how large it comes out."""

    size: Annotated[int | str, flag(aliases=["-s"], metavar="N|WxH")] = 512
    """Longest side of the result in pixels, or WIDTHxHEIGHT, to which the middle is cut."""
    init: Annotated[str, flag(metavar="WORD|PATH")] = "content"
    """Picture to start from: content, style, random, gray, or a file."""
    style_fit: Literal["keep", "crop", "stretch"] = "keep"
    """How the style meets the result's shape: keep its own, be cropped, or be stretched."""
    style_scale: float = 1.0
    """Size of the style picture relative to the result; smaller gives finer strokes."""
    style_weights: Annotated[tuple[float, ...], flag(metavar="W W ...")] = ()
    """How much each of several styles counts; alike if not given."""
    mask: Annotated[Path | None, flag(metavar="PATH")] = None
    """Picture that is white where the style goes and black where the content stays as it is."""
    preserve_color: Literal["off", "luminance", "match"] = "off"
    """luminance puts the content's colours back at the end; match recolours the style first."""
    seed: int = 0
    """Seed of everything random; the same seed gives the same picture on one machine."""


@dataclass(frozen=True)
class NetworkOptions:
    """Which network reads the pictures, and how it is computed."""

    network: NetworkName = "auto"
    """auto is vgg19, with its authors' own weights; builtin is smaller and fast; the others are
    torchvision's, fetched once (vgg19-torchvision: 548 MB)."""
    weights: Annotated[Path | None, flag(metavar="PATH")] = None
    """Weights from a file of your own (.pth or .safetensors, torchvision's names)."""
    pooling: Literal["auto", "max", "avg", "l2"] = "auto"
    """Pooling between blocks (auto: the network's usual); avg and l2 keep the scale of max."""
    padding: Literal["replicate", "zero"] = "replicate"
    """Padding of the first convolution: the border repeated, or zeros."""
    content_layers: Annotated[Names, flag(metavar="LAYER ...")] = ()
    """Layers that hold the content, by commas or spaces; the network's usual if not given."""
    style_layers: Annotated[Names, flag(metavar="LAYER ...")] = ()
    """Layers that hold the style, by commas or spaces; the network's usual if not given."""
    style_layer_weights: Annotated[tuple[float, ...], flag(metavar="W W ...")] = ()
    """How much each style layer counts (normalised to sum to 1)."""
    backend: BackendName = "auto"
    """What computes the convolutions (`fastconv info` lists those available)."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where it is computed; auto takes a GPU if there is one."""
    precision: Literal["float32", "tf32", "bfloat16", "float16", "float64"] = "float32"
    """Of the network; losses are never below float32.  tf32 is for the native backend on cuda;
    halves take the torch backend elsewhere."""
    graph: Literal["auto", "on", "off"] = "auto"
    """Record a step once as a CUDA graph and replay it: faster at small sizes; on a GPU only."""
    max_memory: Annotated[str, flag(metavar="4G")] = ""
    """Refuse a run whose estimated memory is more than this (for example 900M or 4G)."""


@dataclass(frozen=True)
class LossOptions:
    """What the result should share with the content and with the style."""

    style_loss: StyleLossName = "wasserstein"
    """How the statistics of style features are compared."""
    content_loss: Annotated[str, named("content_loss")] = "mse"
    """How content features are compared: mean of squares, or the paper's half sum."""
    normalize: bool = True
    """Divide each loss by its target's own scale, so that weights hold for every size."""
    content_weight: Annotated[float, flag(aliases=["-cw"])] = 0.02
    """Weight of the content."""
    style_weight: Annotated[float, flag(aliases=["-sw"])] = 1.0
    """Weight of the style."""
    color_weight: float = 1.0
    """Weight, within the style, of the colours as such: their means and covariances, pixel by
    pixel.  The features of a network alone hardly fix them."""
    tv_weight: Annotated[float, flag(aliases=["-tw"])] = 0.005
    """Weight of the total variation: more is smoother."""
    balance: Literal["fixed", "auto"] = "fixed"
    """auto steers the content's weight until content_weight * content = style_weight * style."""


@dataclass(frozen=True)
class OptimizerOptions:
    """How the picture is optimised."""

    optimizer: Annotated[str, named("optimizer")] = "adam"
    """adam (averaged) keeps structure, lbfgs is sharp; adamw is plain, slowed on a plateau."""
    iterations: Annotated[tuple[int, ...], flag(aliases=["-i"], metavar="N ...")] = (200,)
    """Loss evaluations at the first scale (later ones get fewer), or one number per scale."""
    scales: int = 0
    """Coarse to fine in so many steps of sqrt(2); 0 starts near 128 pixels, 1 turns it off."""
    learning_rate: Annotated[float | None, flag(aliases=["-lr"], metavar="X")] = None
    """Step size; if not given, the optimiser's usual one."""
    history: int = 20
    """Curvature pairs that L-BFGS remembers."""
    ema: float = 0.99
    """Decay of Adam's running average of the pictures, which is the result; 0 turns it off."""


@dataclass(frozen=True)
class OutputOptions:
    """What is written."""

    output: Annotated[Path | None, flag(aliases=["-o"], metavar="PATH")] = None
    """The result: .png, .jpg, .webp, .tif."""
    quality: int = 95
    """Quality of JPEG and WebP, 1 to 100."""
    bits: Literal[8, 16] = 8
    """Bits per channel; 16 is for PNG and TIFF."""
    save_every: Annotated[int, flag(metavar="N")] = 0
    """Save a frame every N iterations, into a folder beside the result."""
    plot: Annotated[Path | None, flag(metavar="PATH")] = None
    """Draw the losses over the iterations."""
    csv: Annotated[Path | None, flag(metavar="PATH")] = None
    """Write the losses as a table."""
    animate: Annotated[Path | None, flag(metavar="PATH")] = None
    """Make a .gif or .mp4 of the frames."""
    fps: float = 12.0
    """Frames per second of the animation."""
    checkpoint: Annotated[Path | None, flag(metavar="PATH")] = None
    """Where an unfinished run is kept (usually the result's name with .ckpt)."""
    checkpoint_minutes: float = 3.0
    """Minutes between checkpoints."""
    keep_paths: bool = False
    """Keep the paths of pictures and weights in the result, not only their names and SHA-256."""


# Under these names the help page shows them.
SECTIONS: dict[str, type] = {
    "picture": PictureOptions,
    "network": NetworkOptions,
    "loss": LossOptions,
    "optimizer": OptimizerOptions,
    "output": OutputOptions,
}


@dataclass(frozen=True)
class StyleConfig(OutputOptions, OptimizerOptions, LossOptions, NetworkOptions, PictureOptions):
    """All settings of one run.

    `StyleConfig.of(preset, **options)` starts from a preset; the constructor from `quality`.
    """

    preset: PresetName = "quality"
    """Where the defaults come from: quality, gatys (the paper) or seed (the tutorials)."""

    def __post_init__(self) -> None:
        self._tidy()
        self._check_choices()
        self._check_numbers()

    @classmethod
    def of(cls, preset: str = "quality", /, **options: Any) -> StyleConfig:
        """The preset with `options` on top; an unknown name is a ConfigError."""
        if preset not in PRESETS:
            raise ConfigError(f"unknown preset {preset!r}: {did_you_mean(preset, PRESETS)}")
        check_names(options)
        return cls(**{**PRESETS[preset], **options, "preset": preset})

    def but(self, **options: Any) -> StyleConfig:
        """A copy with `options` changed."""
        check_names(options)
        return replace(self, **options)

    def plain(self) -> dict[str, Any]:
        """The settings as numbers, words and lists, for metadata, TOML and checkpoints."""
        plain = {name: _plain(getattr(self, name)) for name in OPTION_NAMES}
        return plain | {name: word_of(getattr(self, name)) for name in TABLES}

    def _tidy(self) -> None:
        for name in ("content_layers", "style_layers"):
            self._set(name, tuple(_word(name, layer) for layer in _split(getattr(self, name))))
        for name in ("style_weights", "style_layer_weights"):
            self._set(name, tuple(_number(name, w) for w in _split(getattr(self, name))))
        counts = self.iterations
        self._set("iterations", tuple(_count("iterations", n) for n in _split(counts)))
        for name in ("weights", "output", "plot", "csv", "animate", "checkpoint"):
            self._set(name, _path(name, getattr(self, name)))
        for name in ("init", "mask"):  # in Python they may also be pictures, arrays or tensors
            given = getattr(self, name)
            if isinstance(given, str | os.PathLike):
                is_word = name == "init" and given in STARTS
                self._set(name, str(given) if is_word else _path(name, given))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_choices(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                hint = did_you_mean(str(value), map(str, choices))
                raise ConfigError(f"{name} has no choice {value!r}: {hint}")
        for name in TABLES:
            check_word(name, getattr(self, name), choices_of(name))

    def _check_numbers(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            for one in value if isinstance(value, tuple) else (value,):
                if one is not None or name != "learning_rate":
                    _check_range(name, one, low, high)
        for name in WHOLE:
            self._set(name, _count(name, getattr(self, name)))
        for name in ("normalize", "keep_paths"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} expects true or false, got {getattr(self, name)!r}")
        if not self.iterations:
            raise ConfigError("iterations expects one number, or one per scale, got none")
        for name in ("content_layers", "style_layers"):
            layers = getattr(self, name)
            if twice := [layer for layer in dict.fromkeys(layers) if layers.count(layer) > 1]:
                raise ConfigError(f"{name} expects each layer once, got {', '.join(twice)} again")
        for name in ("style_weights", "style_layer_weights"):
            given = getattr(self, name)
            if given and not sum(given) > 0:
                raise ConfigError(f"{name} expects at least one weight above 0, got {given}")
        if self.content_weight == 0 and self.style_weight == 0:
            raise ConfigError("content_weight and style_weight are both 0: nothing to do")
        parse_memory(self.max_memory)


def _choices() -> dict[str, tuple[Any, ...]]:
    hints = get_type_hints(StyleConfig)
    choices = {n: get_args(hint) for n, hint in hints.items() if get_origin(hint) is Literal}
    return {**choices, "backend": BACKENDS, "preset": tuple(PRESETS)}


CHOICES = _choices()
RANGES: dict[str, tuple[float, float]] = {
    "style_scale": (0.05, 8.0),
    "style_weights": (0.0, math.inf),
    "style_layer_weights": (0.0, math.inf),
    "content_weight": (0.0, math.inf),
    "style_weight": (0.0, math.inf),
    "color_weight": (0.0, math.inf),
    "tv_weight": (0.0, math.inf),
    "iterations": (1, 1_000_000),
    "scales": (0, 16),
    "learning_rate": (1e-9, 1e3),
    "history": (1, 1000),
    "ema": (0.0, 0.9999),
    "quality": (1, 100),
    "save_every": (0, math.inf),
    "fps": (0.1, 120.0),
    "checkpoint_minutes": (0.0, math.inf),
    "seed": (0, 2**63 - 1),
}
WHOLE = ("scales", "history", "quality", "save_every", "seed")
OPTION_NAMES = tuple(field.name for field in fields(StyleConfig))
# What may differ between a run and its resumption: it does not touch the picture.
OUTPUT_NAMES = frozenset(field.name for field in fields(OutputOptions))
OUTPUT_PATHS = frozenset({"output", "plot", "csv", "animate", "checkpoint"})


def check_names(options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in OPTION_NAMES:
            raise ConfigError(f"unknown option {name!r}: {did_you_mean(name, OPTION_NAMES)}")


def _check_range(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name} expects a number, got {value!r}")
    if not low <= value <= high or value == math.inf:  # NaN fails the comparison as well
        upto = f"at least {low:g}" if high == math.inf else f"{_figure(low)} to {_figure(high)}"
        upto = "a finite number" if value == math.inf else upto
        raise ConfigError(f"{name} expects {upto}, got {_figure(value)}")


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _split(value: Any) -> tuple[Any, ...]:
    """One value, or several, or words with commas in them: always a tuple."""
    several = value if isinstance(value, tuple | list) else (value,)
    parts: list[Any] = []
    for one in several:
        parts += one.replace(",", " ").split() if isinstance(one, str) else [one]
    return tuple(parts)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} expects numbers, got {value!r}") from None


def _count(name: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value  # through a float it would lose digits beyond 2^53
    number = _number(name, value)
    if number != int(number if math.isfinite(number) else 0):
        raise ConfigError(f"{name} expects whole numbers, got {value!r}")
    return int(number)


def _word(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{name} expects layer names such as relu4_2, got {value!r}")
    return value


def _path(name: str, value: Any) -> Path | None:
    if value is None or (isinstance(value, str) and not value):
        return None
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"{name} expects a path, got {value!r}")
    return Path(value)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return str(value) if isinstance(value, Path) else f"<{type(value).__name__}>"


def parse_memory(text: str) -> int | None:
    """Bytes from words like 900M or 4G; None for the empty word.

    >>> parse_memory("1.5G")
    1610612736
    """
    if not isinstance(text, str):
        raise ConfigError(f"max_memory expects a size such as 900M or 4G, got {text!r}")
    if not text:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(?:i?[bB])?\s*", text)
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"max_memory expects a size such as 900M or 4G, got {text!r}")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))
