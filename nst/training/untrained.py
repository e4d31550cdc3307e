"""Random weights in the built-in layout, to compare trained ones with: orthogonal, scaled on noise.

Layer by layer, in order, W gets orthogonal rows (or columns) from a seeded generator, and then
W and b are scaled so that each channel has mean 0 and variance 1 before its ReLU on a noise
picture with a natural spectrum (power 1/f^2, channels correlated).  Without that scaling, the
activations of a random stack die out or grow from layer to layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastconv import Normalize

from ..networks.stacks import State
from ..networks.table import IMAGENET_MEAN, IMAGENET_STD, kind_of

SEED = 19
CALIBRATION_SIZE = 128


def untrained_state() -> State:
    """All tensors of the built-in layout, the same ones every time."""
    generator = torch.Generator().manual_seed(SEED)
    state: State = {}
    x = Normalize(IMAGENET_MEAN, IMAGENET_STD)(natural_noise(CALIBRATION_SIZE, generator))
    with torch.no_grad():
        for name, module in kind_of("builtin").stack("max"):
            if isinstance(module, nn.Conv2d):
                _calibrate(module, x, generator)
                for key, tensor in module.state_dict().items():
                    state[f"{name}.{key}"] = tensor.detach().clone()
            x = module(x)
    return state


def _calibrate(conv: nn.Conv2d, x: Tensor, generator: torch.Generator) -> None:
    nn.init.orthogonal_(conv.weight, generator=generator)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    y = conv(x)
    mean, std = y.mean((0, 2, 3)), y.std((0, 2, 3))
    conv.weight.div_(std.view(-1, 1, 1, 1))
    conv.bias.copy_(-mean / std)  # type: ignore[union-attr]


def natural_noise(size: int, generator: torch.Generator) -> Tensor:
    """Noise with the spectrum of photographs, (1, 3, size, size) in [0, 1]."""
    f = torch.fft.fftfreq(size)
    amplitude = 1 / torch.hypot(f[:, None], f[None, :]).clamp(min=1 / size)
    white = torch.randn(3, size, size, generator=generator)
    noise = torch.fft.ifft2(torch.fft.fft2(white) * amplitude).real
    noise = noise / noise.std()
    shared = noise.mean(0, keepdim=True)  # photographs vary more in brightness than in colour
    return (0.45 + 0.25 * (shared + 0.5 * (noise - shared))).clamp(0, 1).unsqueeze(0)
