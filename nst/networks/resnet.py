"""ResNet's layers: conv1 bn1 relu1 pool1 block1_1 ... block4_3, each block as one.

Modules have torchvision's names, so that its weights load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .vgg import Stack, pool


class Bottleneck(nn.Module):
    """relu(x' + bn(conv1x1(relu(bn(conv3x3(relu(bn(conv1x1(x)))))))))

    x (n, c_in, h, w) gives (n, 4 width, h/stride, w/stride); x' is x, or a 1x1 convolution of
    it where the shapes differ.  The stride is in the 3x3 convolution, as in torchvision.
    """

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or c_in != out:
            conv = nn.Conv2d(c_in, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + shortcut)


def resnet50_stack(blocks: Sequence[int], pooling: str) -> Stack:
    """ResNet-50's layers, each block as one."""
    layers: Stack = [
        ("conv1", nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)),
        ("bn1", nn.BatchNorm2d(64)),
        ("relu1", nn.ReLU()),
        ("pool1", pool(pooling, 3, 1)),
    ]
    channels = 64
    for stage, count in enumerate(blocks, start=1):
        for i in range(1, count + 1):
            width, stride = 64 * 2 ** (stage - 1), 2 if i == 1 and stage > 1 else 1
            layers.append((f"block{stage}_{i}", Bottleneck(channels, width, stride)))
            channels = 4 * width
    return layers
