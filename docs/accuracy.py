"""The measured tables of docs/accuracy.md: errors of the native backend against float64.

    python docs/accuracy.py            print the tables
    python docs/accuracy.py --write    and put them into docs/accuracy.md

An error is |got - exact|_2 / |exact|_2, and `exact` the same numbers through torch in float64.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastconv import conv2d, freeze, use_algorithm
from fastconv.backends import native
from fastconv.tools.shapes import vgg19

PAGE = Path(__file__).with_name("accuracy.md")
BEGIN, END = "<!-- measured by docs/accuracy.py -->", "<!-- end of measurements -->"
SIDE = 48
CHANNELS = (16, 32, 64, 128, 256, 512)
ALGORITHMS = ("direct", "f4", "f6", "auto")
OPERATIONS = ("forward", "grad_input", "grad_weight")
Convolution = Callable[[Tensor, Tensor], Tensor]


def error(got: Tensor, exact: Tensor) -> float:
    return ((got.double() - exact).norm() / exact.norm()).item()


def by_torch(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=1)


def by_native(algo: str) -> Convolution:
    return lambda x, weight: conv2d(x, weight, padding=1, backend="native", algo=algo)


def results(convolution: Convolution, x: Tensor, weight: Tensor, dy: Tensor) -> list[Tensor]:
    """Forward, and the gradients to x and to the weights."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = convolution(x, weight)
    return [y.detach(), *torch.autograd.grad(y, (x, weight), dy)]


def layer_errors(channels: int) -> Iterator[tuple[str, list[float]]]:
    """Per contender the errors of one layer of `channels` to `channels`, after a ReLU."""
    generator = torch.Generator().manual_seed(channels)
    x = torch.randn(1, channels, SIDE, SIDE, generator=generator).relu()
    weight = torch.randn(channels, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    dy = torch.randn(1, channels, SIDE, SIDE, generator=generator)
    exact = results(by_torch, x.double(), weight.double(), dy.double())
    ways = [("torch", by_torch), *((algo, by_native(algo)) for algo in ALGORITHMS)]
    for name, way in ways:
        got = results(way, x, weight, dy)
        yield name, [error(a, b) for a, b in zip(got, exact, strict=True)]


def layer_table() -> list[str]:
    lines = [
        f"| channels | operation | torch | {' | '.join(ALGORITHMS)} |",
        "|---:|---|" + "---:|" * (1 + len(ALGORITHMS)),
    ]
    for channels in CHANNELS:
        errors = dict(layer_errors(channels))
        for nth, operation in enumerate(OPERATIONS):
            cells = " | ".join(f"{own[nth]:.1e}" for own in errors.values())
            lines.append(f"| {channels} | {operation} | {cells} |")
    return lines


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def integers(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, shape, generator=generator).float()


def lone(value: float) -> Tensor:
    """One pixel of one channel in a picture of zeros."""
    x = torch.zeros(1, 64, SIDE, SIDE)
    x[0, 5, 20, 21] = value
    return x


def beyond(y: Tensor) -> Tensor:
    """What `lone` has no business with: the outputs that do not see its pixel."""
    outside = torch.ones(SIDE, SIDE, dtype=torch.bool)
    outside[19:22, 20:23] = False
    return y[0, :, outside]


Measure = Callable[[Tensor, Tensor], str]
HARD: list[tuple[str, Tensor, str, Measure]] = [
    (
        "noise after a ReLU",
        noise(1, 1, 64, SIDE, SIDE).relu(),
        "relative error",
        lambda y, exact: f"{error(y, exact):.1e}",
    ),
    (
        "noise about a mean of 100",
        100 + noise(2, 1, 64, SIDE, SIDE),
        "relative error",
        lambda y, exact: f"{error(y, exact):.1e}",
    ),
    (
        "channels that differ by 1 % of each other, weights that sum to 0 over them",
        noise(3, 1, 1, SIDE, SIDE) + 0.01 * noise(4, 1, 64, SIDE, SIDE),
        "relative error",
        lambda y, exact: f"{error(y, exact):.1e}",
    ),
    (
        "noise, and one pixel of 10,000",
        noise(5, 1, 64, SIDE, SIDE) + lone(10000),
        "relative error of the outputs that do not see it",
        lambda y, exact: f"{error(beyond(y), beyond(exact)):.1e}",
    ),
    (
        "zeros, and one pixel of 1,000",
        lone(1000),
        "outputs that do not see it and are not 0, and the largest",
        lambda y, _: f"{int((beyond(y) != 0).sum())}, {float(beyond(y).abs().max()):.0e}",
    ),
    (
        "zeros, and one infinity",
        lone(float("inf")),
        "outputs that do not see it and are no numbers",
        lambda y, _: f"{int((~beyond(y).isfinite()).sum())}",
    ),
    (
        "integers from -8 to 8, weights too",
        integers(6, 1, 64, SIDE, SIDE),
        "largest error",
        lambda y, exact: f"{float((y - exact).abs().max()):.2g}",
    ),
]


def hard_table() -> list[str]:
    lines = [
        f"| input | measured | torch | {' | '.join(ALGORITHMS)} |",
        "|---|---|" + "---:|" * (1 + len(ALGORITHMS)),
    ]
    plain = noise(7, 64, 64, 3, 3) / 24
    for name, x, what, measure in HARD:
        weight = integers(8, 64, 64, 3, 3) if "integers" in name else plain
        if "sum to 0" in name:
            weight = plain - plain.mean(1, keepdim=True)
        exact = by_torch(x.double(), weight.double())
        ways = [by_torch, *(by_native(algo) for algo in ALGORITHMS)]
        cells = " | ".join(measure(way(x, weight), exact) for way in ways)
        lines.append(f"| {name} | {what} | {cells} |")
    return lines


def network() -> nn.Sequential:
    """VGG19 up to conv5_1 with Kaiming's weights."""
    generator = torch.Generator().manual_seed(1)
    layers: list[nn.Module] = []
    repeated = {"conv3_2": 3, "conv4_2": 3}
    for shape in vgg19(512):
        for _ in range(repeated.get(shape.name, 1)):
            conv = nn.Conv2d(shape.c_in, shape.c_out, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, generator=generator)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            layers += [conv, nn.ReLU()]
        if shape.name in ("conv1_2", "conv2_2", "conv3_2", "conv4_2"):
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers).requires_grad_(False)


def gradient(stack: Callable[[Tensor], Tensor], picture: Tensor) -> list[Tensor]:
    """The last output, and the gradient to the picture of half its square."""
    x = picture.clone().requires_grad_()
    y = stack(x)
    return [y.detach(), torch.autograd.grad(y.square().sum() / 2, x)[0]]


def network_table(size: int = 256) -> list[str]:
    picture = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(2)) - 0.5
    model = network()
    last = len(model) - 1
    got = {"torch": gradient(model, picture)}
    for algo in ("f4", "f6", "auto"):
        with use_algorithm(algo):
            frozen = freeze(model, [last], "native")
            got[algo] = gradient(lambda x, frozen=frozen: frozen(x)[0], picture)  # type: ignore[misc]
    exact = gradient(model.double(), picture.double())
    lines = ["| contender | conv5_1 | gradient to the picture |", "|---|---:|---:|"]
    for name, values in got.items():
        cells = " | ".join(f"{error(a, b):.1e}" for a, b in zip(values, exact, strict=True))
        lines.append(f"| {name} | {cells} |")
    return lines


def main() -> int:
    text = "\n".join(
        [
            f"Instruction set: {native.instruction_set()}.",
            "",
            f"One 3x3 layer at {SIDE} x {SIDE}, input after a ReLU:",
            "",
            *layer_table(),
            "",
            f"Numbers that are hard on Winograd, 64 channels to 64 at {SIDE} x {SIDE}, forward:",
            "",
            *hard_table(),
            "",
            "VGG19 up to conv5_1 with its ReLUs and pools, frozen, a picture of 256 x 256:",
            "",
            *network_table(),
        ]
    )
    print(text)
    if sys.argv[1:] == ["--write"]:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
