"""The network while it is trained: our layers with batch norm between, and heads that classify.

Heads sit at three depths.  The upper one averages the features, as VGG with adaptive pooling
does; the two below it see mean and deviation of each channel.  They give the layers that style
statistics are taken from a reason of their own to be telling, and the deep stack learns sooner.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastconv import Normalize

from ..networks.stacks import State
from ..networks.survey import survey
from ..networks.table import IMAGENET_MEAN, IMAGENET_STD, kind_of, vgg_names
from ..networks.vgg import Stack
from .options import TrainOptions

VGG19_DEPTH = "relu5_1"  # the deepest layer that style is usually read at
HEADS = {"vgg19": {"relu3_1": 0.2, "relu4_1": 0.3}, "resnet50": {"block2_4": 0.3}}


def vgg19_stack(width: float) -> Stack:
    """VGG19 up to relu5_1, `width` times as many channels, batch norm behind each convolution."""
    layers: Stack = []
    channels = 3
    for name in vgg_names((2, 2, 4, 4, 1)):
        if name.startswith("conv"):
            out = max(1, round(width * 64)) * min(2 ** (int(name[4]) - 1), 8)
            layers.append((name, nn.Conv2d(channels, out, 3, padding=1, bias=False)))
            layers.append((name.replace("conv", "bn"), nn.BatchNorm2d(out)))
            channels = out
        else:
            pool = name.startswith("pool")
            layers.append((name, nn.MaxPool2d(2) if pool else nn.ReLU(inplace=True)))
        if name == VGG19_DEPTH:
            break
    return layers


class Classifier(nn.Module):
    """A stack, and a linear head on its top and at some layers below."""

    def __init__(self, arch: str, width: float, classes: int) -> None:
        super().__init__()
        stack = vgg19_stack(width) if arch == "vgg19" else kind_of(arch).stack("max")
        self.names = [name for name, _ in stack]
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
        self.layers = nn.ModuleList(module for _, module in stack)
        self.weights = {**HEADS[arch], self.names[-1]: 1.0}
        self.heads = nn.ModuleDict()
        _start(self.layers)
        for name, channels in self._channels().items():
            features = channels if name == self.names[-1] else 2 * channels
            self.heads[name] = nn.Linear(features, classes)

    def _channels(self) -> dict[str, int]:
        """Channels at the heads' layers, asked of the layers themselves."""
        was, x = self.training, torch.zeros(1, 3, 32, 32)
        found: dict[str, int] = {}
        self.eval()
        with torch.no_grad():
            for name, layer in zip(self.names, self.layers, strict=True):
                x = layer(x)
                if name in self.weights:
                    found[name] = x.shape[1]
        self.train(was)
        return found

    def forward(self, rgb: Tensor) -> dict[str, Tensor]:
        """Logits (n, classes) by the layer of their head, the top's last."""
        x, logits = self.normalize(rgb), {}
        for name, layer in zip(self.names, self.layers, strict=True):
            x = layer(x)
            if name in self.weights:
                logits[name] = self.heads[name](_pooled(x.float(), name == self.names[-1]))
        return logits

    def stack_state(self) -> State:
        """The tensors of the layers alone, under our names."""
        return {
            f"{name}.{key}": tensor.detach().clone()
            for name, layer in zip(self.names, self.layers, strict=True)
            for key, tensor in layer.state_dict().items()
        }


def step_bytes(options: TrainOptions, pictures: int) -> int:
    """Memory at the peak of a step, about, in float32: what autograd keeps, and what moves.

    Kept of a VGG: each convolution's output and batch norm's, which the ReLU replaces, and the
    pools with their int64 indices.  A block of ResNet keeps four tensors as large as its output.
    """
    side, is_vgg = options.image_size, options.arch == "vgg19"
    kind, last = (f"vgg19x{options.width:g}", (VGG19_DEPTH,)) if is_vgg else (options.arch, ())
    rows = survey(kind, (side, side), last)
    each = {"MaxPool2d": 3} if is_vgg else {"Sequential": 4}
    kept = sum(row.bytes * each.get(row.what, 1 if is_vgg else 4) for row in rows)
    moving = 2 * max(row.bytes for row in rows)
    return min(options.batch_size, pictures) * (kept + moving)


def _pooled(x: Tensor, top: bool) -> Tensor:
    mean = x.mean((2, 3))
    if top:
        return mean
    return torch.cat([mean, (x.var((2, 3), correction=0) + 1e-4).sqrt()], dim=1)


def _start(layers: nn.Module) -> None:
    """Kaiming's initialisation: variance 2 / fan out, so that signals keep their size."""
    for module in layers.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
