"""Style transfer as most tutorials have it, in plain PyTorch: the yardstick of bench_nst.py.

VGG19 in torchvision's layout up to conv5_1 with its ReLUs in place, mean squares of Gram matrices
over c h w, the content at relu4_2, L-BFGS as torch ships it, and the picture clamped to [0, 1]
before each evaluation.  On plain (NCHW) tensors or channels_last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)  # 0: a pool
STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT = "relu4_2"
CONTENT_WEIGHT, STYLE_WEIGHT = 1.0, 1e6  # of each of the style layers
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

State = Mapping[str, Tensor]
Features = Callable[[Tensor], dict[str, Tensor]]


def random_weights(width: float = 1.0, seed: int = 0) -> dict[str, Tensor]:
    """Kaiming's normal weights and no bias, under the names conv1_1.weight, ...

    What a step costs does not depend on them, and trained ones are not the project's to ship.
    """
    generator, state = torch.Generator().manual_seed(seed), {}
    for name, c_in, c_out in _convolutions(width):
        scale = (2 / (9 * c_in)) ** 0.5
        weight = torch.randn(c_out, c_in, 3, 3, generator=generator)
        state[f"{name}.weight"], state[f"{name}.bias"] = scale * weight, torch.zeros(c_out)
    return state


def _convolutions(width: float) -> list[tuple[str, int, int]]:
    found, block, place, c_in = [], 1, 1, 3
    for channels in WIDTHS:
        if channels == 0:
            block, place = block + 1, 1
            continue
        c_out = round(width * channels)
        found.append((f"conv{block}_{place}", c_in, c_out))
        place, c_in = place + 1, c_out
    return found


def plain_features(state: State, channels_last: bool = False) -> Features:
    """rgb (1, 3, h, w) in [0, 1] -> the features of the layers that losses look at."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    layers: dict[str, nn.Module] = {}
    for name in (key.removesuffix(".weight") for key in state if key.endswith(".weight")):
        if name.endswith("_1") and name != "conv1_1":
            layers[f"pool{int(name[4]) - 1}"] = nn.MaxPool2d(2, 2)
        c_out, c_in = state[f"{name}.weight"].shape[:2]
        conv = layers[name] = nn.Conv2d(c_in, c_out, 3, padding=1)
        conv.load_state_dict({k: state[f"{name}.{k}"] for k in ("weight", "bias")})
        layers[name.replace("conv", "relu")] = nn.ReLU(inplace=True)
    network = nn.ModuleDict(layers).requires_grad_(False).to(memory_format=layout)

    def features(rgb: Tensor) -> dict[str, Tensor]:
        found = {}
        x = ((rgb - mean) / std).to(memory_format=layout)
        for name, layer in network.items():
            x = layer(x)
            if name in (*STYLE, CONTENT):
                found[name] = x
        return found

    return features


def gram(f: Tensor) -> Tensor:
    flat = f.flatten(2)[0]
    return flat @ flat.T / f.numel()


class PlainTransfer:
    """The loss, and L-BFGS on it: `step` is one evaluation and one move."""

    def __init__(
        self, features: Features, content: Tensor, style: Tensor, clamp: bool = True
    ) -> None:
        self.features, self.clamp, self.style_picture = features, clamp, style
        self._start(content)
        with torch.no_grad():
            self.content = features(content)[CONTENT].clone()
            self.style = {name: gram(f) for name, f in features(style).items() if name in STYLE}

    @classmethod
    def from_loss(cls, loss: Callable[[Tensor], Tensor], start: Tensor) -> PlainTransfer:
        """The same moves on a loss that is computed in another way."""
        self = cls.__new__(cls)
        self.clamp = True
        self.loss = loss  # type: ignore[method-assign]
        self._start(start)
        return self

    def _start(self, x: Tensor) -> None:
        self.x = x.clone().requires_grad_()
        self.optimizer = torch.optim.LBFGS([self.x], max_iter=1)

    def loss(self, x: Tensor) -> Tensor:
        found = self.features(x)
        content = F.mse_loss(found[CONTENT], self.content)
        style = sum(F.mse_loss(gram(found[name]), self.style[name]) for name in STYLE)
        return CONTENT_WEIGHT * content + STYLE_WEIGHT * style

    def step(self) -> float:
        """The loss of the picture as it is; then the picture moves."""

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self.loss(self.x)
            loss.backward()
            return loss

        if self.clamp:
            with torch.no_grad():
                self.x.clamp_(0, 1)
        return self.optimizer.step(closure).item()

    def fill_history(self) -> None:
        """Let L-BFGS fill its memory on a quadratic function, which costs next to nothing."""
        options = self.optimizer.param_groups[0]
        slopes = torch.logspace(-1, 3, self.x.numel()).view_as(self.x)
        with torch.no_grad():
            before = self.x.clone()

            def closure() -> Tensor:
                self.x.grad = slopes * self.x
                return (self.x * self.x.grad).sum() / 2

            for _ in range(options["history_size"] + 1):
                self.optimizer.step(closure)
            self.x.copy_(before)
