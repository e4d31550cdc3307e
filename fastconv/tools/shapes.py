"""Convolutions of real networks, and awkward ones, as data for benchmarks.

Every list can be iterated by name; `geometry_of(*shape.arguments())` gives the sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..geometry import ConvGeometry, geometry_of


@dataclass(frozen=True)
class ConvShape:
    """One convolution: what comes in, what goes out, and how."""

    name: str
    c_in: int
    c_out: int
    size: tuple[int, int]
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: tuple[int, int] = (1, 1)
    dilation: int = 1
    groups: int = 1
    n: int = 1

    @property
    def geometry(self) -> ConvGeometry:
        """The checked sizes."""
        return geometry_of(self.input_shape, self.weight_shape, **self.options)  # type: ignore[arg-type]

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(n, c_in, h, w)."""
        return (self.n, self.c_in, *self.size)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(c_out, c_in/groups, kh, kw)."""
        return (self.c_out, self.c_in // self.groups, *self.kernel)

    @property
    def options(self) -> dict[str, int | tuple[int, int]]:
        """The remaining arguments of conv2d, by name."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }


# name, c_in, c_out, and by how much the picture has shrunk there.
_VGG19 = (
    ("conv1_1", 3, 64, 1),
    ("conv1_2", 64, 64, 1),
    ("conv2_1", 64, 128, 2),
    ("conv2_2", 128, 128, 2),
    ("conv3_1", 128, 256, 4),
    ("conv3_2", 256, 256, 4),
    ("conv4_1", 256, 512, 8),
    ("conv4_2", 512, 512, 8),
    ("conv5_1", 512, 512, 16),
)


def vgg19(size: int = 512, n: int = 1) -> list[ConvShape]:
    """The distinct convolutions of VGG19 up to conv5_1, for pictures of `size` x `size`."""
    return [
        ConvShape(name, c_in, c_out, (size // shrink, size // shrink), n=n)
        for name, c_in, c_out, shrink in _VGG19
    ]


def _conv(c_in: int, c_out: int, size: int, k: int = 3, stride: int = 1) -> ConvShape:
    name = f"{k}x{k}{f'/{stride}' if stride > 1 else ''} {c_in}->{c_out} @{size}"
    pad = (k - 1) // 2
    return ConvShape(name, c_in, c_out, (size, size), (k, k), stride, (pad, pad))


# The distinct convolutions of ResNet-50 at 224 px, with the stride in the 3x3 layer.
RESNET50 = [
    _conv(3, 64, 224, 7, 2),
    *(_conv(64, 64, 56, 1), _conv(64, 64, 56), _conv(64, 256, 56, 1), _conv(256, 64, 56, 1)),
    *(_conv(256, 128, 56, 1), _conv(128, 128, 56, 3, 2), _conv(128, 512, 28, 1)),
    *(_conv(256, 512, 56, 1, 2), _conv(512, 128, 28, 1), _conv(128, 128, 28)),
    *(_conv(512, 256, 28, 1), _conv(256, 256, 28, 3, 2), _conv(256, 1024, 14, 1)),
    *(_conv(512, 1024, 28, 1, 2), _conv(1024, 256, 14, 1), _conv(256, 256, 14)),
    *(_conv(1024, 512, 14, 1), _conv(512, 512, 14, 3, 2), _conv(512, 2048, 7, 1)),
    *(_conv(1024, 2048, 14, 1, 2), _conv(2048, 512, 7, 1), _conv(512, 512, 7)),
]

# What networks other than VGG and ResNet do, and what nobody tunes for.
ODD = [
    ConvShape("5x5 64->64", 64, 64, (64, 64), (5, 5), 1, (2, 2)),
    ConvShape("5x5 192->32", 192, 32, (28, 28), (5, 5), 1, (2, 2)),
    ConvShape("5x5/2 32->64", 32, 64, (112, 112), (5, 5), 2, (2, 2)),
    ConvShape("7x7 32->32", 32, 32, (64, 64), (7, 7), 1, (3, 3)),
    ConvShape("7x7/2 64->64", 64, 64, (112, 112), (7, 7), 2, (3, 3)),
    ConvShape("9x9 3->32 @512", 3, 32, (512, 512), (9, 9), 1, (4, 4)),
    ConvShape("9x9 32->3 @256", 32, 3, (256, 256), (9, 9), 1, (4, 4)),
    ConvShape("11x11/4 3->64", 3, 64, (224, 224), (11, 11), 4, (2, 2)),
    ConvShape("16x16/16 3->768", 3, 768, (224, 224), (16, 16), 16, (0, 0)),
    ConvShape("4x4/2 64->128", 64, 128, (64, 64), (4, 4), 2, (1, 1)),
    ConvShape("2x2/2 96->192", 96, 192, (56, 56), (2, 2), 2, (0, 0)),
    ConvShape("1x7 128->128", 128, 128, (17, 17), (1, 7), 1, (0, 3)),
    ConvShape("7x1 128->128", 128, 128, (17, 17), (7, 1), 1, (3, 0)),
    ConvShape("dilated 2 64->64", 64, 64, (64, 64), padding=(2, 2), dilation=2),
    ConvShape("dilated 4 256->256", 256, 256, (32, 32), padding=(4, 4), dilation=4),
    ConvShape("dilated 12 256->64", 256, 64, (33, 33), padding=(12, 12), dilation=12),
    ConvShape("3x3/2 64->128", 64, 128, (112, 112), stride=2),
    ConvShape("3x3/2 3->32", 3, 32, (224, 224), stride=2),
    ConvShape("depthwise 3x3 32", 32, 32, (112, 112), groups=32),
    ConvShape("depthwise 3x3 512", 512, 512, (14, 14), groups=512),
    ConvShape("depthwise 3x3/2 64", 64, 64, (112, 112), stride=2, groups=64),
    ConvShape("depthwise 5x5 120", 120, 120, (28, 28), (5, 5), 1, (2, 2), groups=120),
    ConvShape("depthwise 7x7 96", 96, 96, (56, 56), (7, 7), 1, (3, 3), groups=96),
    ConvShape("depthwise x2 64->128", 64, 128, (56, 56), groups=64),
    ConvShape("grouped 32 128->128", 128, 128, (56, 56), groups=32),
    ConvShape("grouped 4 256->256", 256, 256, (28, 28), groups=4),
    ConvShape("1 -> 1 @512", 1, 1, (512, 512)),
    ConvShape("3 -> 3 @512", 3, 3, (512, 512)),
    ConvShape("64 -> 3 @256", 64, 3, (256, 256)),
    ConvShape("primes 17->19 @37x53", 17, 19, (37, 53)),
    ConvShape("tiny 8->8 @8", 8, 8, (8, 8)),
    ConvShape("tiny 1x1 16->16 @4", 16, 16, (4, 4), (1, 1), 1, (0, 0)),
    ConvShape("one pixel 512->512", 512, 512, (1, 1)),
    ConvShape("wide 64->64 @8x2048", 64, 64, (8, 2048)),
    ConvShape("batch 64 16->16 @28", 16, 16, (28, 28), n=64),
    ConvShape("batch 128 1->32 @28", 1, 32, (28, 28), n=128),
    ConvShape("batch 32 1x1 64->64 @14", 64, 64, (14, 14), (1, 1), 1, (0, 0), n=32),
]
