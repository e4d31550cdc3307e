"""freeze(): a stack of layers with constant weights, whose gradient goes to the input alone.

What style transfer, feature losses and saliency ask of a network: outputs at some layers, and the
gradient to the picture.  On the native backend, consecutive layers

    [Normalize]   Conv2d   [ReLU]   [MaxPool2d or AvgPool2d, 2x2]

become one stage (a Normalize on the CPU alone, and not in front of a pool), and consecutive stages
one run, which never leaves the layout in which the kernels work: nChw16c on the CPU, 16 channels of
a pixel side by side; channels_last on CUDA.
On the CPU (cpu_run.py; 3x3, stride 1 alone) a run keeps one bit per element between forward and
backward: the masks of its ReLUs and pools.  Everything else lives in one arena that is used again
at every call.  On CUDA (cuda_run.py) it keeps its pictures.

                   stage                 stage                  stage
    x ----> conv, ReLU, bits ----> conv, ReLU, pool, bits ----> ... ----> tap     forward
    dx <--- bits, conv^T <--- + <--- bits, conv^T <------------ ... <---- dtap    backward
                              ^ gradient of a tap, added where it arrives

A tap costs a copy of the features into the plain layout, and its gradient one back.  A layer of
which only the moments are read (Gram matrices, means and covariances) has neither: its features
stay blocked, and the gradient of the moments is added to what the stages behind have left.

Other layers run by torch, between the runs.  On other backends all layers run one by one, with
that backend's conv2d.
"""

from __future__ import annotations

import copy
import itertools
import operator
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..algorithms import current_algorithm
from ..errors import ArgumentError, DtypeError
from ..functional import conv2d
from ..modules import Conv2d
from ..precision import current_precision
from ..registry import current_backend, known, load, place_of, resolve
from . import cpu_run, cuda_run
from .clock import Clock, Milestone
from .stage import (
    Moments,
    Outputs,
    Readings,
    Stage,
    check_padding,
    moments_of,
    stage_from,
)


def freeze(
    module: nn.Sequential,
    taps: Sequence[int],
    backend: str | None = None,
    moments: Sequence[int] = (),
) -> Frozen:
    """A module that gives the outputs of `module`'s layers at `taps`, in that order.

    `module` is an nn.Sequential of Conv2d, ReLU, pools and whatever else; `taps` are indices into
    it.  Calling the result gives a list of tensors, differentiable to the input and not to the
    weights: once where layers are fused, which the native backend does, and any number of times on
    others.  Once a call has used them, the weights must not change; a fused stack refuses changed
    ones.  Layers after the last tap are left out.

    The list continues with the `Moments` of the outputs at the layers `moments`: their means (n, c)
    and covariances (n, c, c) over the pixels.  The native backend computes them without writing
    the features themselves.
    """
    if not isinstance(module, nn.Sequential):
        raise DtypeError(f"freeze: module expects an nn.Sequential, got {type(module).__name__}")
    if backend is not None and known(backend) != "auto":
        load(backend)
    if len(taps) == len(moments) == 0:
        raise ArgumentError("freeze: taps expects at least one layer index, got none")
    indices = _checked("taps", taps, len(module)), _checked("moments", moments, len(module))
    return Frozen(module, *indices, backend)


def _checked(name: str, taps: Sequence[int], layers: int) -> list[int]:
    try:
        indices = [operator.index(tap) for tap in taps]
    except TypeError:
        raise DtypeError(f"freeze: {name} expects a list of layer indices, got {taps!r}") from None
    for tap in indices:
        if not -layers <= tap < layers:
            raise ArgumentError(
                f"freeze: {name} expects indices below {layers}, the number of layers; got {tap}"
            )
    return [tap % layers for tap in indices]


def _tensors_of(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in itertools.chain(layer._parameters.items(), layer._buffers.items()):
        if tensor is not None:
            yield name, tensor


@dataclass
class _Piece:
    """Consecutive layers: a run of fused stages, or one layer that torch runs."""

    first: int
    last: int
    run: cpu_run.CpuRun | cuda_run.CudaRun | None


class Frozen(nn.Module):
    """What `freeze` returns."""

    def __init__(
        self, module: nn.Sequential, taps: list[int], moments: list[int], backend: str | None
    ) -> None:
        super().__init__()
        self.module = module
        self.taps, self.moments = taps, moments
        self.backend = backend
        self.clock: Clock | None = None  # set it to learn where the time goes
        self._layers = list(module)[: max([*taps, *moments]) + 1]
        self._algo = current_algorithm()
        self._precision = current_precision()
        self._forget()

    def _forget(self) -> None:
        self._pieces: dict[str, list[_Piece]] = {}  # made at the first call that can use them
        self._weights: dict[str, list[tuple[str, object]]] = {}  # what they computed with
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Copies make buffers and transformed weights of their own."""
        made = ("_pieces", "_weights", "_lock")
        return {name: value for name, value in self.__dict__.items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def forward(self, x: Tensor) -> list[Any]:
        if not isinstance(x, Tensor) or x.dim() != 4:
            shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ArgumentError(f"frozen stack: input expects shape (n, c, h, w), got {shape}")
        if self.clock:
            self.clock.start()
        device = self._fuses_on(x)
        outputs = self._fused(x, device) if device else self._plain(x)
        taps = [outputs.taps[tap] for tap in self.taps]
        return taps + [outputs.moments[layer] for layer in self.moments]

    def _fuses_on(self, x: Tensor) -> str:
        """The device type whose fused runs can take x, or nothing."""
        chosen, compute = resolve(self.backend or current_backend(), place_of(x), x.dtype)
        if x.device.type not in chosen.FUSES_ON or min(x.shape) == 0:
            return ""
        if x.device.type == "cuda":
            return "cuda" if compute == x.dtype else ""
        lowered = torch.is_autocast_enabled("cpu")  # conv2d knows what that means
        fits = x.dtype == torch.float32 and self._algo != "direct" and not lowered
        return "cpu" if fits else ""

    def _plain(self, x: Tensor) -> Outputs:
        outputs = Outputs({}, {})
        for index in range(len(self._layers)):
            x = self._unfused(index, x, outputs)
        return outputs

    def _unfused(self, index: int, x: Tensor, outputs: Outputs) -> Tensor:
        """One layer by itself; what is read there goes to `outputs`."""
        clock = self.clock
        if clock is None:
            x = self._run_layer(index, x)
            if index in self.moments:
                outputs.moments[index] = moments_of(x)
        else:
            x = self._run_layer(index, Milestone.apply(x, clock, (index, "backward")))
            x = Milestone.apply(x, clock, None)
            clock.stop(index, "forward")
            if index in self.moments:
                found = moments_of(Milestone.apply(x, clock, (index, "moments_backward")))
                marked = (Milestone.apply(moment, clock, None) for moment in found)
                outputs.moments[index] = Moments(*marked)
                clock.stop(index, "moments")
        if index in self.taps:
            outputs.taps[index] = x
        return x

    def _run_layer(self, index: int, x: Tensor) -> Tensor:
        """One layer as it stands, with constant weights, and never in place: taps are kept."""
        layer = self._layers[index]
        if isinstance(layer, nn.Conv2d):
            check_padding(layer, index, x)
        if isinstance(layer, nn.ReLU):
            return F.relu(x)
        if type(layer) in (nn.Conv2d, Conv2d) and layer.padding_mode == "zeros":
            conv = cast(nn.Conv2d, layer)
            bias = None if conv.bias is None else conv.bias.detach()
            options = (conv.stride, conv.padding, conv.dilation, conv.groups)
            return conv2d(x, conv.weight.detach(), bias, *options, backend=self.backend)
        return layer(x)

    def _fused(self, x: Tensor, device: str) -> Outputs:
        outputs = Outputs({}, {})
        pieces = self._made_pieces(device)
        self._check_weights(device)
        for piece in pieces:
            if piece.run is None:
                x = self._unfused(piece.last, x, outputs)
            else:
                found = piece.run(x, self.clock)
                outputs.taps |= found.taps
                outputs.moments |= found.moments
                x = found.taps.get(piece.last, x)
        return outputs

    def _made_pieces(self, device: str) -> list[_Piece]:
        with self._lock:
            if device not in self._pieces:
                self._pieces[device] = self._cut(device)
            return self._pieces[device]

    def _versions(self, pieces: list[_Piece]) -> list[tuple[str, object]]:
        """Where the weights of fused layers are, and how often they have been written to.

        torch does not count writes through `.data`; to notice those, every call would have to read
        all weights.
        """
        return [
            (f"{name} of layer {index}", (t.data_ptr(), 0 if t.is_inference() else t._version))
            for piece in pieces
            if piece.run is not None
            for index in range(piece.first, piece.last + 1)
            for name, t in _tensors_of(self._layers[index])
        ]

    def _check_weights(self, device: str) -> None:
        found = self._versions(self._pieces[device])
        known = self._weights.setdefault(device, found)
        for (name, before), (_, now) in zip(known, found, strict=True):
            if before != now:
                raise ArgumentError(
                    f"frozen stack: the {name} has changed since the first call; "
                    "freeze the module again"
                )

    def _cut(self, device: str) -> list[_Piece]:
        fits = cuda_run.fits if device == "cuda" else cpu_run.fits
        folds = cpu_run.folds if device != "cuda" and self._algo == "auto" else None
        pieces: list[_Piece] = []
        stages: list[Stage] = []
        read = Readings(frozenset(self.taps), frozenset(self.moments))
        index = 0
        while index < len(self._layers):
            stage = stage_from(self._layers, index, read, not stages, fits, folds)
            if stage is not None:
                stages.append(stage)
                index = stage.last + 1
            elif stages:  # what cannot go on a run may begin one
                self._close(stages, pieces, device)
                stages = []
            else:
                pieces.append(_Piece(index, index, None))
                index += 1
        self._close(stages, pieces, device)
        return pieces

    def _close(self, stages: list[Stage], pieces: list[_Piece], device: str) -> None:
        if not stages:
            return
        last = stages[-1].last
        handed_on = {last} if last + 1 < len(self._layers) else set()
        read = Readings(frozenset({*self.taps, *handed_on}), frozenset(self.moments))
        run: cpu_run.CpuRun | cuda_run.CudaRun
        if device == "cuda":
            run = cuda_run.CudaRun(stages, read, self._precision)
        else:
            run = cpu_run.CpuRun(stages, read, self._algo)
        pieces.append(_Piece(stages[0].first, last, run))

    def _device(self) -> str:
        """Where the weights are."""
        weights = (layer.weight for layer in self._layers if isinstance(layer, nn.Conv2d))
        return next((weight.device.type for weight in weights), "cpu")

    def is_fused(self) -> bool:
        """Whether the native backend runs all layers in one go, none of them by torch."""
        return all(piece.run is not None for piece in self._made_pieces(self._device()))

    def memory(self, h: int, w: int, n: int = 1) -> int:
        """Bytes that the native backend keeps for pictures of n x h x w, known beforehand.

        The arena, what one call keeps for its gradient, the outputs of the runs and the weights as
        the kernels want them, one set or one for each direction; not what the layers between the
        runs allocate.
        """
        shape, total = self._input_shape(n, h, w), 0
        for piece in self._made_pieces(self._device()):
            if piece.run is not None:
                total += piece.run.memory(n, shape[2], shape[3])
            shape = self._shape_after(piece, shape)
        return total

    def describe(self, h: int = 512, w: int = 512) -> str:
        """One line per stage or layer: what runs it on the native backend, at h x w pixels."""
        shape, lines = self._input_shape(1, h, w), []
        for piece in self._made_pieces(self._device()):
            if piece.run is None:
                words = Readings(frozenset(self.taps), frozenset(self.moments)).words(piece.last)
                lines.append(f"{piece.last:3d}      {self._layers[piece.last]}: unfused{words}")
            else:
                lines += piece.run.describe(shape[2], shape[3])
            shape = self._shape_after(piece, shape)
        return "\n".join(lines)

    def _input_shape(self, n: int, h: int, w: int) -> torch.Size:
        channels = (layer.in_channels for layer in self._layers if isinstance(layer, nn.Conv2d))
        return torch.Size((n, next(channels, 3), h, w))

    def _shape_after(self, piece: _Piece, shape: torch.Size) -> torch.Size:
        if piece.run is not None:
            return piece.run.output_shape(shape)
        layer = copy.deepcopy(self._layers[piece.last]).to("meta")
        like = next(layer.parameters(), torch.empty(0))
        return layer(torch.empty(shape, device="meta", dtype=like.dtype)).shape
