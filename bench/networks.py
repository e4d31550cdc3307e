"""Networks that several benchmarks run; their weights are random."""

from __future__ import annotations

import torch
from torch import nn

WIDTHS = (64, 64, "pool", 128, 128, "pool", *[256] * 4, "pool", *[512] * 4, "pool", 512)


def vgg19_to_conv5_1() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    c_in = 3
    for width in WIDTHS:
        if width == "pool":
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(c_in, width, 3, padding=1), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight)
        c_in = width
    return nn.Sequential(*layers).requires_grad_(False)
