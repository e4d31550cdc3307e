"""Training from weights that exist (`--start`): batch norm put back where export folded it in.

Export leaves y = W x + b per layer.  The convolution takes W; batch norm takes the mean m and the
variance v that W x has on the pictures, the scale g = sqrt(v + e) and the shift s = b + m, so that

    g (W x - m) / sqrt(v + e) + s  =  W x + b

and the network begins as the very function that the file holds.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError
from ..networks.stacks import State
from ..networks.weights import obtain
from .augment import middle
from .model import Classifier

PICTURES, AT_ONCE = 100, 20


def start_from(model: Classifier, start: str, pictures: Tensor, size: int) -> None:
    """Give the layers of a fresh VGG19 classifier the weights of `start` (builtin or a path)."""
    path = None if start == "builtin" else Path(start)
    state = obtain("builtin" if path is None else "auto", path).state
    step = max(1, len(pictures) // PICTURES)
    with torch.no_grad():
        x = model.normalize(middle(pictures[::step][:PICTURES], size))
        for name, layer in zip(model.names, model.layers, strict=True):
            if isinstance(layer, nn.Conv2d):
                layer.weight.copy_(_weight(layer, name, state, start))
                parts = [F.conv2d(part, layer.weight, padding=1) for part in x.split(AT_ONCE)]
                y = torch.cat(parts)
            elif isinstance(layer, nn.BatchNorm2d):
                _pass_on(layer, y, state[name.replace("bn", "conv") + ".bias"])
                x = y + (layer.bias - layer.running_mean).view(1, -1, 1, 1)  # type: ignore[operator]
            else:
                x = layer(x)


def _weight(conv: nn.Conv2d, name: str, state: State, start: str) -> Tensor:
    got = state.get(f"{name}.weight")
    if got is None or got.shape != conv.weight.shape:
        found = "nothing" if got is None else f"shape {tuple(got.shape)}"
        raise WeightsError(
            f"start {start}: {name} expects shape {tuple(conv.weight.shape)}, got {found}; "
            "give weights of VGG19's layout and the --width that they have"
        )
    return got


def _pass_on(norm: nn.BatchNorm2d, y: Tensor, bias: Tensor) -> None:
    """Set batch norm so that y leaves it as y + bias."""
    mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)
    norm.running_mean.copy_(mean)  # type: ignore[union-attr]
    norm.running_var.copy_(variance)  # type: ignore[union-attr]
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(bias + mean)
