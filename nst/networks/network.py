"""A network with its weights: returns features and moments at the layers asked for.

    network = build_network(kind, weights, ...)
    features, moments = network.read(rgb, features=("relu4_2",), moments=("relu1_1", "relu2_1"))

rgb has shape (n, 3, h, w), in [0, 1].  Of a layer of which only the moments are asked, the features
are never written out: that is cheaper.  What is returned is float32 or wider in every precision;
gradients inside of a float16 network are kept within its range by `scaling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from fastconv import (
    Frozen,
    Moments,
    Normalize,
    current_precision,
    freeze,
    set_precision,
    swap_convs,
)
from fastconv.frozen.clock import Clock

from ..errors import LayerError
from .loss_scaling import GradientScale
from .precision import PRECISIONS, Precision
from .table import Kind, shortest_side
from .vgg import Stack

Points = tuple[tuple[str, ...], tuple[str, ...]]  # layers for their features, for their moments


class Network(nn.Module):
    """A stack whose layers can be read.

    Which layers are read together decides how the stack is fused, so each set of them has a run of
    its own; a smaller set is read from a run that is there.
    """

    def __init__(
        self,
        kind: Kind,
        stack: Stack,
        backend: str,
        padding: str = "zero",
        precision: Precision = PRECISIONS["float32"],
    ) -> None:
        super().__init__()
        self.kind, self.name = kind, kind.name
        self.names = [layer for layer, _ in stack]
        first = stack[0][1]
        if padding == "replicate" and isinstance(first, nn.Conv2d):
            first.padding_mode = "replicate"
        modules = nn.Sequential(Normalize(kind.mean, kind.std), *(module for _, module in stack))
        # freeze() leaves the convolutions inside of blocks to the block: they are exchanged
        self.stack = swap_convs(modules, backend)
        self.backend, self.precision = backend, precision
        self.scaling = GradientScale() if precision.network == torch.float16 else None
        self._runs: dict[Points, Frozen] = {}
        self._clock: Clock | None = None

    def prepare(self, features: Sequence[str] = (), moments: Sequence[str] = ()) -> Points:
        """Fuse the stack for reading these layers together; returns them in order."""
        asked = self._in_order(features), self._in_order(moments)
        if asked not in self._runs:
            taps, known = ([self._place(layer) for layer in layers] for layers in asked)
            # a frozen stack keeps the precision in force when it is made
            with set_precision(self.precision.products or current_precision()):
                run = freeze(self.stack, taps, self.backend, known)
            run.clock = self._clock
            self._runs[asked] = run
        return asked

    def _in_order(self, layers: Sequence[str]) -> tuple[str, ...]:
        for layer in layers:
            if layer not in self.names:
                raise LayerError(
                    f"the network was built up to {self.names[-1]}, and has no {layer!r}"
                )
        return tuple(sorted(set(layers), key=self.names.index))

    def _place(self, layer: str) -> int:
        """The layer's place in the stack; the normalisation comes first."""
        return 1 + self.names.index(layer)

    def _run_for(self, features: Sequence[str], moments: Sequence[str]) -> tuple[Points, Frozen]:
        for points, run in self._runs.items():
            if set(features) <= set(points[0]) and set(moments) <= set(points[1]):
                return points, run
        points = self.prepare(features, moments)
        return points, self._runs[points]

    def read(
        self, rgb: Tensor, features: Sequence[str] = (), moments: Sequence[str] = ()
    ) -> tuple[dict[str, Tensor], dict[str, Moments]]:
        """The features (n, c, h, w) and the moments by layer."""
        (tapped, known), run = self._run_for(features, moments)
        scaling = self.scaling
        if scaling:
            rgb = scaling.in_front(rgb)
        with self._products(), self._autocast(rgb.device.type):
            outputs = run(rgb)
        found: list[Tensor] = outputs[: len(tapped)]
        wide = [out if out.dtype == torch.float64 else out.float() for out in found]
        pairs: list[Moments] = outputs[len(tapped) :]
        if scaling:
            wide = [scaling.behind(out) for out in wide]
            pairs = [Moments(*map(scaling.behind, pair)) for pair in pairs]
        return dict(zip(tapped, wide)), dict(zip(known, pairs))

    def fused_bytes(
        self, features: Sequence[str], moments: Sequence[str], hw: tuple[int, int]
    ) -> int:
        """What a fused run keeps for pictures of hw; 0 if some of the layers are not fused."""
        _, run = self._run_for(features, moments)
        return run.memory(*hw) if run.is_fused() else 0

    def features(self, rgb: Tensor, *layers: str) -> dict[str, Tensor]:
        """The features (n, c, h, w) at these layers."""
        return self.read(rgb, features=layers)[0]

    def _autocast(self, device: str) -> AbstractContextManager[object]:
        """The network's precision, whatever the caller's is; entered only where it is needed."""
        lower = self.precision.network
        if lower is None and not torch.is_autocast_enabled(device):
            return nullcontext()
        return torch.autocast(device, dtype=lower, enabled=lower is not None)

    def _products(self) -> AbstractContextManager[object]:
        """What lets convolutions inside of blocks multiply as the frozen ones do."""
        products = self.precision.products
        return set_precision(products) if products else nullcontext()

    @property
    def clock(self) -> Clock | None:
        """Set it to measure the time of each layer."""
        return self._clock

    @clock.setter
    def clock(self, clock: Clock | None) -> None:
        self._clock = clock
        for run in self._runs.values():
            run.clock = clock

    @property
    def against_recording(self) -> str:
        """Why a call cannot be recorded into a CUDA graph, or nothing."""
        if self.clock is not None:
            return "a profile takes the time of single layers"
        if self.backend in ("numba", "naive"):
            return f"backend {self.backend} computes in NumPy's memory"
        return ""

    @property
    def shortest_side(self) -> int:
        """The smallest side of a picture that still has features at the deepest layer."""
        return shortest_side(self.names)
