"""The trained network as a file: batch norm folded, channels normalised, half precision.

Per layer, with batch norm's mean m, variance v, scale g and shift s,

    W' = W g / sqrt(v + e)        b' = s - m g / sqrt(v + e)

and then, as Gatys did for VGG, each channel is scaled to a mean activation of 1 on photographs:
the ReLU's output is divided by its mean a, and the next convolution's input multiplied by it,
which changes nothing behind it.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastconv import Normalize

from ..config.options import StyleConfig
from ..networks.stacks import State, state_digest
from ..networks.table import IMAGENET_MEAN, IMAGENET_STD, kind_of
from ..outputs.atomic import atomic_path
from .model import Classifier

if TYPE_CHECKING:
    from .loop import Training

CALIBRATION_PICTURES = 200
# A channel that is all but silent would be blown up to noise: it is scaled as one that speaks
# a fiftieth as loud as the layer's others.
QUIETEST = 0.02
EPS = 1e-5  # batch norm's


def export(training: Training, path: Path) -> None:
    """Write the network of a run to `path` (.safetensors, float16), with a digest."""
    from safetensors.torch import save

    state = {key: tensor.half().contiguous() for key, tensor in exported_state(training).items()}
    metadata = {"sha256": state_digest(state)} | about(training)
    with atomic_path(path) as temporary:
        # not save_file, whose files only their owner may read
        temporary.write_bytes(in_order(save(state, metadata=metadata)))


def in_order(stored: bytes) -> bytes:
    """A .safetensors file with its metadata sorted.

    safetensors keeps them in a hash map, whose order is another each time.  The file begins with
    the length of a JSON header, which is padded to whole words of 8 bytes; tensors lie behind it,
    at offsets that count from its end.
    """
    (length,) = struct.unpack("<Q", stored[:8])
    header = json.loads(stored[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + stored[8 + length :]


def exported_state(training: Training) -> State:
    """The tensors that stylising needs; of ResNet its own, batch norm included."""
    model = training.model
    if not isinstance(model, Classifier):
        raise TypeError(f"expected a Classifier, got {type(model).__name__}")
    if training.options.arch != "vgg19":
        return {k: v.cpu() for k, v in model.stack_state().items() if v.is_floating_point()}
    images = training.pictures.images
    step = max(1, len(images) // CALIBRATION_PICTURES)
    state = folded({key: tensor.cpu() for key, tensor in model.stack_state().items()})
    return normalised(state, model.names, images[::step][:CALIBRATION_PICTURES])


def folded(state: State) -> State:
    """The convolutions' weights and biases with batch norm in them."""
    result: State = {}
    for name in [key.removesuffix(".weight") for key in state if key.startswith("conv")]:
        norm = name.replace("conv", "bn")
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + EPS).sqrt()
        result[f"{name}.weight"] = state[f"{name}.weight"] * scale.view(-1, 1, 1, 1)
        result[f"{name}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return result


def normalised(state: State, names: list[str], images: Tensor) -> State:
    """Channels scaled to a mean activation of 1 on the uint8 pictures (n, 3, h, w)."""
    x = Normalize(IMAGENET_MEAN, IMAGENET_STD)(images.float() / 255)
    result, before = dict(state), torch.ones(3)
    for name in names:
        if name.startswith("conv"):
            weight = state[f"{name}.weight"] * before.view(1, -1, 1, 1)
            y = _in_parts(x, weight, state[f"{name}.bias"])
            mean = y.mean((0, 2, 3))
            mean = mean.clamp_min(QUIETEST * mean.mean().item())
            result[f"{name}.weight"] = weight / mean.view(-1, 1, 1, 1)
            result[f"{name}.bias"] = state[f"{name}.bias"] / mean
            x, before = y / mean.view(1, -1, 1, 1), mean
        elif name.startswith("pool"):
            x = F.max_pool2d(x, 2)
    return result


def _in_parts(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([F.conv2d(part, weight, bias, padding=1).relu() for part in x.split(20)])


def settings() -> dict[str, Any]:
    """How such a network is best read: the built-in network's row."""
    row = kind_of("builtin")
    return {
        "content_layers": list(row.content_layers),
        "style_layers": list(row.style_layers),
        "style_layer_weights": list(row.style_layer_weights),
        "pooling": row.pooling,
        "content_weight": StyleConfig().content_weight,
    }


def about(training: Training) -> dict[str, str]:
    """What the file says of itself."""
    options, rows = training.options, training.progress.rows
    said = {
        "network": "builtin" if options.arch == "vgg19" else options.arch,
        "arch": options.arch,
        "width": f"{options.width:g}",
        "data": training.pictures.about,
        "objective": options.objective,
        "seed": str(options.seed),
        "epochs": str(options.epochs),
        "image_size": str(options.image_size),
    }
    if options.arch == "vgg19":
        said["settings"] = json.dumps(settings())
    if rows:
        said |= {key: f"{rows[-1][key]:.4f}" for key in ("loss", "test_loss", "top1", "top5")}
    return said
