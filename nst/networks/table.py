"""The networks that look at the pictures, cut at the deepest layer in use.

A network is a named stack: [(name, module), ...] run in order, for VGG

    conv1_1 relu1_1 conv1_2 relu1_2 pool1 conv2_1 ... relu5_4 pool5

and for ResNet-50 conv1 bn1 relu1 pool1 block1_1 ... block4_3.  `Network` runs the stack, hands
out features by layer name, and carries loss layers attached at such names.

To add a network, write a function that returns its stack and give it a row in NETWORKS.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from fastconv import (
    Frozen,
    Moments,
    Normalize,
    current_precision,
    freeze,
    set_precision,
    swap_convs,
)

from ..errors import ConfigError, LayerError, did_you_mean
from .loss_scaling import GradientScale
from .precision import PRECISIONS, Precision
from .resnet import Bottleneck

Stack = list[tuple[str, nn.Module]]
State = dict[str, Tensor]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# What keeps the activations' size when max pooling is exchanged: the average and the root mean
# square of four positive, correlated numbers are that much smaller than their maximum.
POOL_SCALE = {"max": 1.0, "avg": 2.0, "l2": 0.78}


@dataclass(frozen=True)
class Kind:
    """A row of the table: how a network is built, and the layers it is usually read at."""

    about: str
    stack: Callable[[str], Stack]  # takes the pooling
    layout: Callable[[], dict[str, str]]  # torchvision's module name for each of ours
    content_layers: tuple[str, ...]
    style_layers: tuple[str, ...]
    style_layer_weights: tuple[float, ...]
    pooling: str = "max"  # what the network was trained with, or what looks best
    # By this the content's weight is multiplied where losses are not normalised and the usual
    # layers are read: presets are made for relu4_2 of VGG19, an earlier layer holds far firmer.
    raw_content: float = 1.0


def vgg_names(blocks: Sequence[int]) -> list[str]:
    """The layers of a VGG in order, which is torchvision's order in `features`."""
    names: list[str] = []
    for block, convs in enumerate(blocks, start=1):
        for i in range(1, convs + 1):
            names += [f"conv{block}_{i}", f"relu{block}_{i}"]
        names.append(f"pool{block}")
    return names


def _vgg(blocks: Sequence[int], width: int) -> Callable[[str], Stack]:
    def stack(pooling: str) -> Stack:
        layers: Stack = []
        channels = 3
        for name in vgg_names(blocks):
            if name.startswith("conv"):
                out = width * min(2 ** (int(name[4]) - 1), 8)
                layers.append((name, nn.Conv2d(channels, out, 3, padding=1)))
                channels = out
            else:
                # in place would overwrite a convolution's output that a loss is attached to
                layers.append((name, _pool(pooling) if name.startswith("pool") else nn.ReLU()))
        return layers

    return stack


def _pool(pooling: str, window: int = 2, padding: int = 0) -> nn.Module:
    if pooling == "max":
        return nn.MaxPool2d(window, 2, padding)
    if pooling == "avg":
        return nn.AvgPool2d(window, 2, padding)
    return _L2Pool(nn.ZeroPad2d(padding), nn.LPPool2d(2, window, 2))


class _L2Pool(nn.Sequential):
    """Never below float32: the square of 256 is more than float16 holds."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            wide = x if x.dtype == torch.float64 else x.float()
            return super().forward(wide).to(x.dtype)


def _vgg_layout(blocks: Sequence[int]) -> Callable[[], dict[str, str]]:
    return lambda: {name: f"features.{i}" for i, name in enumerate(vgg_names(blocks))}


RESNET50_BLOCKS = (3, 4, 6, 3)


def _resnet50(pooling: str) -> Stack:
    layers: Stack = [
        ("conv1", nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)),
        ("bn1", nn.BatchNorm2d(64)),
        ("relu1", nn.ReLU()),
        ("pool1", _pool(pooling, 3, 1)),
    ]
    channels = 64
    for stage, count in enumerate(RESNET50_BLOCKS, start=1):
        for i in range(1, count + 1):
            width, stride = 64 * 2 ** (stage - 1), 2 if i == 1 and stage > 1 else 1
            layers.append((f"block{stage}_{i}", Bottleneck(channels, width, stride)))
            channels = 4 * width
    return layers


def _resnet50_layout() -> dict[str, str]:
    blocks = {
        f"block{stage}_{i}": f"layer{stage}.{i - 1}"
        for stage, count in enumerate(RESNET50_BLOCKS, start=1)
        for i in range(1, count + 1)
    }
    return {"conv1": "conv1", "bn1": "bn1"} | blocks


VGG19_BLOCKS, VGG16_BLOCKS = (2, 2, 4, 4, 4), (2, 2, 3, 3, 3)
# The built-in network ends where style is last read: beyond, weights would only take up room.
BUILTIN_BLOCKS = (2, 2, 4, 4, 1)
VGG_STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
# Early layers first: they hold colour and stroke, and the late ones alone look like noise.
EARLY_FIRST = (256.0, 64.0, 16.0, 4.0, 1.0)


def _vgg_kind(about: str, blocks: Sequence[int], width: int = 64, pooling: str = "max") -> Kind:
    stack, layout = _vgg(blocks, width), _vgg_layout(blocks)
    return Kind(about, stack, layout, ("relu4_2",), VGG_STYLE, EARLY_FIRST, pooling)


NETWORKS: dict[str, Kind] = {
    "vgg19": _vgg_kind("VGG19, Simonyan and Zisserman's own weights", VGG19_BLOCKS),
    "vgg19-torchvision": _vgg_kind("VGG19, trained anew by torchvision", VGG19_BLOCKS),
    "vgg16": _vgg_kind("VGG16, trained anew by torchvision", VGG16_BLOCKS),
    "resnet50": Kind(
        "ResNet-50, trained by torchvision",
        _resnet50,
        _resnet50_layout,
        ("block2_4",),
        ("relu1", "block1_2", "block2_2", "block3_2"),
        (64.0, 16.0, 4.0, 1.0),
    ),
    # Its deeper layers hold too little of where things are (docs/builtin.md)
    "builtin": replace(
        _vgg_kind(
            "VGG19's layout at half width, one convolution in block 5", BUILTIN_BLOCKS, 32, "avg"
        ),
        content_layers=("relu1_2",),
        raw_content=0.02,  # by eye, of 0.05, 0.02 and 0.01 with the gatys preset
    ),
}


def state_digest(state: State) -> str:
    """SHA-256 of the names and numbers of all tensors, to tell a damaged file."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].contiguous().numpy().tobytes())
    return digest.hexdigest()


def kind_of(name: str) -> Kind:
    """The row of a network, or ConfigError with a hint.

    A network that `nst train` made at another width has no row: vgg19x0.25 is the built-in
    layout at a quarter of VGG19's channels.
    """
    trained = re.fullmatch(r"vgg19x([0-9.]+)", name.lower())
    if trained:
        about = f"VGG19's layout at {trained[1]} times the width, one convolution in block 5"
        return _vgg_kind(about, BUILTIN_BLOCKS, round(64 * float(trained[1])))
    if name.lower() not in NETWORKS:
        raise ConfigError(f"unknown network {name!r}: {did_you_mean(name.lower(), NETWORKS)}")
    return NETWORKS[name.lower()]


def layer_names(name: str) -> list[str]:
    """The layers of a network in order."""
    with torch.device("meta"):
        return [layer for layer, _ in kind_of(name).stack("max")]


def check_layers(name: str, layers: Sequence[str]) -> None:
    """LayerError with the nearest names if the network lacks one of `layers`."""
    known = layer_names(name)
    for layer in layers:
        if layer not in known:
            hint = did_you_mean(layer, known)
            raise LayerError(f"network {name} has no layer {layer!r}: {hint}")


def cut_stack(name: str, layers: Sequence[str], pooling: str = "max") -> Stack:
    """The stack up to the deepest of `layers`, with no weights yet (on the meta device)."""
    check_layers(name, layers)
    with torch.device("meta"):
        stack = kind_of(name).stack(pooling)
    deepest = max(i for i, (layer, _) in enumerate(stack) if layer in layers)
    return stack[: deepest + 1]


def load_stack(stack: Stack, state: State) -> None:
    """Put the tensors of `state` (keys `conv1_1.weight`, ...) into a stack from `cut_stack`."""
    for layer, module in stack:
        mine = {key[len(layer) + 1 :]: t for key, t in state.items() if key.startswith(layer + ".")}
        module.load_state_dict(mine, assign=True)
        module.requires_grad_(False)
        module.eval()


def use_pooling_scale(stack: Stack, pooling: str) -> None:
    """Fold the pooling's factor into the next convolution: conv(s x) = (s W) x + b.

    ResNet's blocks behind its one pool are left alone: they normalise their input themselves.
    """
    pooled = False
    for _, module in stack:
        if pooled and isinstance(module, nn.Conv2d):
            module.weight = nn.Parameter(module.weight * POOL_SCALE[pooling], requires_grad=False)
            pooled = False
        pooled = pooled or isinstance(module, nn.MaxPool2d | nn.AvgPool2d | nn.Sequential)


def on_backend(
    stack: nn.Sequential, taps: Sequence[int], moments: Sequence[int], backend: str
) -> Frozen:
    """The seam to fastconv: a module that takes x, and returns outputs, then `Moments`.

    The convolutions inside of blocks, which freeze() leaves to the block, are swapped.
    """
    return freeze(swap_convs(stack, backend), taps, backend, moments)


class Network(nn.Module):
    """A stack with loss layers attached at named points.

        network.attach("relu4_2", ContentLoss(target))
        losses = network(rgb)             # [(layer, loss layer, value), ...]
        features = network.features(rgb, ["relu3_1"])

    rgb has shape (1, 3, h, w), in [0, 1].  `layers` are those whose features it may be asked
    for, `moments` those of which it gives only the moments: that is cheaper.

    What is handed out is float32 or wider in every `precision`; gradients inside of a float16
    network are kept within its range by `scaling`.
    """

    def __init__(
        self,
        name: str,
        stack: Stack,
        layers: Sequence[str],
        backend: str,
        padding: str,
        moments: Sequence[str] = (),
        precision: Precision = PRECISIONS["float32"],
    ) -> None:
        super().__init__()
        self.name = name
        self.names = [layer for layer, _ in stack]
        self.layers = sorted(set(layers), key=self.names.index)
        self.moments = sorted(set(moments), key=self.names.index)
        if padding == "replicate":
            cast(nn.Conv2d, stack[0][1]).padding_mode = "replicate"
        modules = nn.Sequential(Normalize(IMAGENET_MEAN, IMAGENET_STD), *(m for _, m in stack))
        # one place further each: the normalisation comes first
        places = {layer: 1 + place for place, layer in enumerate(self.names)}
        taps, known = [places[n] for n in self.layers], [places[n] for n in self.moments]
        with set_precision(precision.products or current_precision()):  # a frozen stack keeps it
            self.run = on_backend(modules, taps, known, backend)
        self.attached: list[tuple[str, nn.Module]] = []
        self.precision = precision
        self.scaling = GradientScale() if precision.network == torch.float16 else None

    def attach(self, layer: str, loss: nn.Module) -> None:
        """Let `loss` see `layer` in every forward pass: its features, or what it `reads`."""
        built = self.moments if _reads(loss) == "moments" else self.layers
        if layer not in built:
            raise LayerError(f"the network was built for {', '.join(built)}, not {layer!r}")
        self.attached.append((layer, loss))

    def detach_all(self) -> None:
        """Take all loss layers off, as before a new scale with new targets."""
        self.attached.clear()

    def read(self, rgb: Tensor) -> tuple[dict[str, Tensor], dict[str, Moments]]:
        """The features and the moments by layer, float32 or wider."""
        scaling = self.scaling
        if scaling:
            rgb = scaling.in_front(rgb)
        with self._products(), self._autocast(rgb.device.type):
            outputs = self.run(rgb)
        features, moments = outputs[: len(self.layers)], outputs[len(self.layers) :]
        wide = [out if out.dtype == torch.float64 else out.float() for out in features]
        if scaling:
            wide = [scaling.behind(out) for out in wide]
            moments = [Moments(*map(scaling.behind, pair)) for pair in moments]
        return dict(zip(self.layers, wide)), dict(zip(self.moments, moments))

    def _autocast(self, device: str) -> AbstractContextManager[object]:
        """The network's precision, whatever the caller's is; to enter torch's takes 0.2 ms."""
        lower = self.precision.network
        if lower is None and not torch.is_autocast_enabled(device):
            return nullcontext()
        return torch.autocast(device, dtype=lower, enabled=lower is not None)

    def _products(self) -> AbstractContextManager[object]:
        """What lets convolutions inside of blocks multiply as the frozen ones do."""
        products = self.precision.products
        return set_precision(products) if products else nullcontext()

    @property
    def against_recording(self) -> str:
        """Why a call cannot be recorded into a CUDA graph, or nothing."""
        if self.run.clock is not None:
            return "a profile takes the time of single layers"
        if self.run.backend in ("numba", "naive"):
            return f"backend {self.run.backend} computes in NumPy's memory"
        return ""

    def features(self, rgb: Tensor) -> dict[str, Tensor]:
        """The features (1, c, h, w) at `layers`."""
        return self.read(rgb)[0]

    def forward(self, rgb: Tensor) -> list[tuple[str, nn.Module, Tensor]]:
        """The value of each attached loss layer, with the layer's name."""
        features, moments = self.read(rgb)
        seen: dict[str, Mapping[str, object]] = {"features": features, "moments": moments}
        return [(layer, loss, loss(seen[_reads(loss)][layer])) for layer, loss in self.attached]

    @property
    def shortest_side(self) -> int:
        """The smallest side of a picture that still has features at the deepest layer."""
        return shortest_side(self.names)


def _reads(loss: nn.Module) -> str:
    return getattr(loss, "reads", "features")


def shortest_side(names: Iterable[str]) -> int:
    """The same for a stack of layers with these names: each pooling halves, rounding down."""
    return 2 ** sum(name.startswith("pool") for name in names)
