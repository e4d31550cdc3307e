"""What a network costs at a size: layer by layer, and the memory of a run in all.

Shapes come from running the stack on torch's meta device, which computes nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from fastconv import use_backend
from fastconv.geometry import ConvGeometry, geometry_of
from fastconv.registry import load, resolve

from ..errors import ConfigError
from .stacks import cut_stack, layer_names
from .table import Kind, kind_of, shortest_side


@dataclass(frozen=True)
class LayerRow:
    """One layer: its output's shape (c, h, w), parameters, output bytes, convolutions."""

    name: str
    what: str
    shape: tuple[int, int, int]
    parameters: int
    bytes: int
    convolutions: tuple[ConvGeometry, ...]

    @property
    def values(self) -> int:
        """Numbers in its output."""
        return self.bytes // 4

    @property
    def multiply_adds(self) -> int:
        """Of its convolutions, which are nearly all of its work."""
        return sum(
            g.n * g.c_out * g.out_h * g.out_w * g.c_in // g.groups * g.kh * g.kw
            for g in self.convolutions
        )


def survey(
    name: str | Kind, hw: tuple[int, int], layers: Sequence[str] = (), pooling: str = ""
) -> list[LayerRow]:
    """The rows of a network for pictures of hw, up to the deepest of `layers` (or the end).

    With the network's usual pooling, if no other is named.
    """
    rows: list[LayerRow] = []
    x = torch.empty(1, 3, *hw, device="meta")
    last, pooling = layers or layer_names(name)[-1:], pooling or kind_of(name).pooling
    for layer, module in cut_stack(name, last, pooling):
        shapes = copy.deepcopy(module).to("meta").eval()  # a stack that is trained has real weights
        with _watching(shapes) as convolutions:
            x = shapes(x)
        parameters = sum(p.numel() for p in module.parameters())
        shape = (x.shape[1], x.shape[2], x.shape[3])
        what, done = type(module).__name__, tuple(convolutions)
        rows.append(LayerRow(layer, what, shape, parameters, 4 * x.numel(), done))
    return rows


@contextmanager
def _watching(module: nn.Module) -> Iterator[list[ConvGeometry]]:
    """The geometry of each convolution in `module` that runs within the block."""
    seen: list[ConvGeometry] = []

    def see(conv: nn.Module, given: tuple[Tensor, ...], _: object) -> None:
        c = cast(nn.Conv2d, conv)
        padding = c.padding if isinstance(c.padding, str) else _pair(c.padding)
        seen.append(
            geometry_of(
                tuple(given[0].shape),
                tuple(c.weight.shape),
                _pair(c.stride),
                padding,
                _pair(c.dilation),
                c.groups,
            )
        )

    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    hooks = [conv.register_forward_hook(see) for conv in convs]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _pair(sides: tuple[int, ...]) -> tuple[int, int]:
    return sides[0], sides[1]


def table(name: str, hw: tuple[int, int], backend: str) -> list[str]:
    """The survey as lines of text, with a total and the memory of a step."""
    shortest = shortest_side(layer_names(name))
    if min(hw) < shortest:
        raise ConfigError(f"size {hw[1]}x{hw[0]}: {name} needs sides of {shortest} pixels or more")
    rows, chosen = survey(name, hw), _backend(backend)
    head = (
        f"{'layer':10} {'type':12} {'output':>16} {'parameters':>11} {'GFLOP':>8} {'MB':>8}  kernel"
    )
    lines = [f"{name}: {kind_of(name).about}, picture {hw[1]}x{hw[0]}", "", head]
    for row in rows:
        shape = "x".join(map(str, row.shape))
        lines.append(
            f"{row.name:10} {row.what:12} {shape:>16} {row.parameters:>11,} "
            f"{2e-9 * row.multiply_adds:>8.3f} {row.bytes / 2**20:>8.2f}  "
            f"{_kernels(chosen, row.convolutions)}".rstrip()
        )
    parameters = sum(row.parameters for row in rows)
    flop = 2e-9 * sum(row.multiply_adds for row in rows)
    megabytes = sum(row.bytes for row in rows) / 2**20
    lines.append(f"{'all':10} {'':12} {'':>16} {parameters:>11,} {flop:>8.3f} {megabytes:>8.2f}")
    return lines


def _backend(name: str) -> str:
    """The backend that computes the convolutions: of `auto`, the one that it takes."""
    with use_backend(name):  # says why, if it is missing
        pass
    return resolve(name, "cpu", torch.float32)[0].NAME


def _kernels(backend: str, convolutions: Sequence[ConvGeometry]) -> str:
    """The backend and, of native, the kernels: forward and, if another, back to the input.

    Of single calls; a frozen stack takes Winograd's also where they only break even.
    """
    if not convolutions or backend != "native":
        return backend if convolutions else ""
    native: Any = load("native")
    names = dict.fromkeys(
        " / ".join(
            dict.fromkeys(
                native.explain(operation, g, torch.float32, False)
                for operation in ("forward", "grad_input")
            )
        )
        for g in convolutions
    )
    return f"native {', '.join(names)}"
