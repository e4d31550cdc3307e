"""Stacks of named layers: cut at the deepest one in use, with weights put in.

A stack is [(name, module), ...] run in order: vgg.py and resnet.py make them.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from ..errors import LayerError, did_you_mean
from .table import Kind, kind_of
from .vgg import Stack

State = dict[str, Tensor]

NUMBERED = r"(?P<kind>[a-z]+)(?P<block>\d{1,9})_(?P<place>\d{1,9})"  # relu4_2

# What keeps the activations' size when max pooling is exchanged: the average and the root mean
# square of four positive, correlated numbers are that much smaller than their maximum.
POOL_SCALE = {"max": 1.0, "avg": 2.0, "l2": 0.78}


def state_digest(state: State) -> str:
    """SHA-256 of the names and values of all tensors, by which a damaged file is noticed."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _on_meta(kind: Kind) -> AbstractContextManager[object]:
    """Without memory for weights, unless the stack comes with its own."""
    return nullcontext() if kind.trained else torch.device("meta")


def layer_names(network: str | Kind) -> list[str]:
    """The layers of a network in order."""
    kind = kind_of(network)
    with _on_meta(kind):
        return [layer for layer, _ in kind.stack("max")]


def check_layers(network: str | Kind, layers: Sequence[str]) -> None:
    """LayerError with the nearest names if the network lacks one of `layers`."""
    known = layer_names(network)
    for layer in layers:
        if layer not in known:
            hint = _hint(layer, known)
            raise LayerError(f"network {kind_of(network).name} has no layer {layer!r}: {hint}")


def _hint(layer: str, known: Sequence[str]) -> str:
    """The nearest layer of the same kind, by its numbers; by its letters where it has none.

    As words, relu9_9 is as near to relu1_1 as to relu5_4.
    """
    numbered = {name: match for name in known if (match := re.fullmatch(NUMBERED, name))}
    asked = re.fullmatch(NUMBERED, layer.lower())
    kinds = {match["kind"] for match in numbered.values()}
    kind = difflib.get_close_matches(asked["kind"], kinds, 1) if asked else []
    if not asked or not kind:
        return did_you_mean(layer, known)

    def apart(name: str) -> tuple[int, int]:
        match = numbered[name]
        return (
            abs(int(match["block"]) - int(asked["block"])),
            abs(int(match["place"]) - int(asked["place"])),
        )

    nearest = min((n for n, match in numbered.items() if match["kind"] == kind[0]), key=apart)
    return f"did you mean {nearest!r}? choices: {', '.join(known)}"


def cut_stack(network: str | Kind, layers: Sequence[str], pooling: str = "max") -> Stack:
    """The stack up to the deepest of `layers`, on the meta device until its weights are loaded."""
    check_layers(network, layers)
    kind = kind_of(network)
    with _on_meta(kind):
        stack = kind.stack(pooling)
    deepest = max(i for i, (layer, _) in enumerate(stack) if layer in layers)
    return stack[: deepest + 1]


def load_stack(stack: Stack, state: State) -> None:
    """Put the tensors of `state` (keys `conv1_1.weight`, ...) into a stack from `cut_stack`.

    Of a stack that came with its weights, `state` is empty.
    """
    for layer, module in stack:
        mine = {key[len(layer) + 1 :]: t for key, t in state.items() if key.startswith(layer + ".")}
        if mine or not any(True for _ in module.parameters()):
            module.load_state_dict(mine, assign=True)
        module.requires_grad_(False)
        module.eval()


def use_pooling_scale(stack: Stack, pooling: str) -> None:
    """Fold the pooling's factor into the next convolution: conv(s x) = (s W) x + b.

    ResNet's blocks behind its one pool are left alone: they normalise their input themselves.
    """
    pooled = False
    for _, module in stack:
        if pooled and isinstance(module, nn.Conv2d):
            module.weight = nn.Parameter(module.weight * POOL_SCALE[pooling], requires_grad=False)
            pooled = False
        pooled = pooled or isinstance(module, nn.MaxPool2d | nn.AvgPool2d | nn.Sequential)
