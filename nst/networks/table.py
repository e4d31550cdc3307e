"""The networks that can be named, with the layers that they are usually read at.

To add one, write a function that returns its stack of layers and give it a row in NETWORKS.  A
network of the user's own is a `Kind` too, given as `network=` or `module:name`, whose stack
holds its weights already (`trained=True`): docs/extending.md has an example.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ConfigError, did_you_mean
from ..tables import load

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _no_layout() -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Kind:
    """A row of the table: how a network is built, and the layers it is usually read at."""

    name: str
    about: str
    # the pooling -> [(name, module), ...], run in order
    stack: Callable[[str], list[tuple[str, Any]]]
    content_layers: tuple[str, ...]
    style_layers: tuple[str, ...]
    style_layer_weights: tuple[float, ...]
    layout: Callable[[], dict[str, str]] = _no_layout  # torchvision's name for each of our layers
    pooling: str = "max"  # what the network was trained with, or what looks best
    # By this the content's weight is multiplied where losses are not normalised and the usual
    # layers are read: presets are made for relu4_2 of VGG19, an earlier layer holds far firmer.
    raw_content: float = 1.0
    mean: tuple[float, ...] = IMAGENET_MEAN  # of the pictures that it was trained on
    std: tuple[float, ...] = IMAGENET_STD
    trained: bool = False  # whether the stack comes with its weights


def vgg_names(blocks: Sequence[int]) -> list[str]:
    """The layers of a VGG in order, which is torchvision's order in `features`."""
    names: list[str] = []
    for block, convs in enumerate(blocks, start=1):
        for i in range(1, convs + 1):
            names += [f"conv{block}_{i}", f"relu{block}_{i}"]
        names.append(f"pool{block}")
    return names


def _vgg_layout(blocks: Sequence[int]) -> Callable[[], dict[str, str]]:
    return lambda: {name: f"features.{i}" for i, name in enumerate(vgg_names(blocks))}


RESNET50_BLOCKS = (3, 4, 6, 3)


def _resnet50_layout() -> dict[str, str]:
    blocks = {
        f"block{stage}_{i}": f"layer{stage}.{i - 1}"
        for stage, count in enumerate(RESNET50_BLOCKS, start=1)
        for i in range(1, count + 1)
    }
    return {"conv1": "conv1", "bn1": "bn1"} | blocks


def _resnet50(pooling: str) -> list[tuple[str, Any]]:
    from .resnet import resnet50_stack

    return resnet50_stack(RESNET50_BLOCKS, pooling)


VGG19_BLOCKS, VGG16_BLOCKS = (2, 2, 4, 4, 4), (2, 2, 3, 3, 3)
# The built-in network ends at the last style layer: later weights would never be used.
BUILTIN_BLOCKS = (2, 2, 4, 4, 1)
VGG_STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
# Early layers first: they hold colour and stroke, and the late ones alone look like noise.
EARLY_FIRST = (256.0, 64.0, 16.0, 4.0, 1.0)


def _vgg_kind(
    name: str, about: str, blocks: Sequence[int], width: int = 64, pooling: str = "max"
) -> Kind:
    def stack(pooling: str) -> list[tuple[str, Any]]:
        from .vgg import vgg_stack  # torch, which a list of names need not wait for

        return vgg_stack(vgg_names(blocks), width, pooling)

    layout = _vgg_layout(blocks)
    return Kind(name, about, stack, ("relu4_2",), VGG_STYLE, EARLY_FIRST, layout, pooling)


_ROWS = (
    _vgg_kind("vgg19", "VGG19, Simonyan and Zisserman's own weights", VGG19_BLOCKS),
    _vgg_kind("vgg19-torchvision", "VGG19, trained anew by torchvision", VGG19_BLOCKS),
    _vgg_kind("vgg16", "VGG16, trained anew by torchvision", VGG16_BLOCKS),
    Kind(
        "resnet50",
        "ResNet-50, trained by torchvision",
        _resnet50,
        ("block2_4",),
        ("relu1", "block1_2", "block2_2", "block3_2"),
        (64.0, 16.0, 4.0, 1.0),
        _resnet50_layout,
    ),
    # Its deeper layers hold too little of where things are (docs/builtin.md)
    replace(
        _vgg_kind(
            "builtin",
            "VGG19's layout at half width, one convolution in block 5",
            BUILTIN_BLOCKS,
            32,
            "avg",
        ),
        content_layers=("relu1_2",),
        raw_content=0.02,  # by eye, of 0.05, 0.02 and 0.01 with the gatys preset
    ),
)
NETWORKS: dict[str, Kind] = {kind.name: kind for kind in _ROWS}


def kind_of(network: str | Kind) -> Kind:
    """The row of a network, or ConfigError with a hint.

    A network that `nst train` made at another width has no row: vgg19x0.25 is the built-in
    layout at a quarter of VGG19's channels.  `module:name` is a Kind of the user's own.
    """
    if isinstance(network, Kind):
        return network
    if ":" in network:
        own = load("network", network)
        if not isinstance(own, Kind):
            raise ConfigError(
                f"network {network}: expected an nst.networks.table.Kind, got {own!r}"
            )
        return own
    trained = re.fullmatch(r"vgg19x([0-9.]+)", network.lower())
    if trained:
        about = f"VGG19's layout at {trained[1]} times the width, one convolution in block 5"
        return _vgg_kind(network.lower(), about, BUILTIN_BLOCKS, round(64 * float(trained[1])))
    if network.lower() not in NETWORKS:
        raise ConfigError(f"unknown network {network!r}: {did_you_mean(network.lower(), NETWORKS)}")
    return NETWORKS[network.lower()]


def shortest_side(names: Iterable[str]) -> int:
    """The smallest side of a picture that still has features at the last of these layers: each
    pooling halves, rounding down."""
    return 2 ** sum(name.startswith("pool") for name in names)
