"""From weights to a network: the stack cut at the deepest layer in use, with its weights in."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .network import Network
from .precision import Precision
from .stacks import cut_stack, load_stack, use_pooling_scale
from .weights import Weights


def build_network(
    weights: Weights,
    layers: Sequence[str],
    *,
    backend: str = "auto",
    device: torch.device | str = "cpu",
    pooling: str = "auto",
    padding: str = "zero",
    precision: Precision | None = None,
) -> Network:
    """The network up to the deepest of `layers`, on its device."""
    precision = precision or Precision(torch.float32)
    pooling = weights.kind.pooling if pooling == "auto" else pooling
    stack = cut_stack(weights.kind, layers, pooling)
    load_stack(stack, weights.state)
    use_pooling_scale(stack, pooling)
    network = Network(weights.kind, stack, backend, padding, precision)
    return network.to(device, precision.picture)
