"""VGG's layers: conv1_1 relu1_1 conv1_2 relu1_2 pool1 conv2_1 ... relu5_4 pool5."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Stack = list[tuple[str, nn.Module]]


def vgg_stack(names: Sequence[str], width: int, pooling: str) -> Stack:
    """VGG's layers; block b has width * 2^(b - 1) channels, 8 width at most."""
    layers: Stack = []
    channels = 3
    for name in names:
        if name.startswith("conv"):
            out = width * min(2 ** (int(name[4]) - 1), 8)
            layers.append((name, nn.Conv2d(channels, out, 3, padding=1)))
            channels = out
        else:
            # in place would overwrite a convolution's output that a loss is attached to
            layers.append((name, pool(pooling) if name.startswith("pool") else nn.ReLU()))
    return layers


def pool(pooling: str, window: int = 2, padding: int = 0) -> nn.Module:
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
