"""nst and plain PyTorch on one task: the same network, pictures and losses.

Run as a program, it is one contender alone in its process, for what only a process can tell:

    python bench/nst_contenders.py memory CONTENDER SIZE     the peak of its memory, in bytes
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from plain_transfer import (
    CONTENT,
    CONTENT_WEIGHT,
    STYLE,
    STYLE_WEIGHT,
    PlainTransfer,
    State,
    plain_features,
    random_weights,
)
from torch import Tensor

from nst.config import StyleConfig
from nst.images import load_picture, resize
from nst.networks import Network
from nst.objective import LayerChoice, Objective
from nst.optimize import LBFGS
from nst.run import build_network
from nst.samples import SAMPLES
from nst.weights import Weights

TORCH, CHANNELS_LAST, NST = "torch", "torch channels_last", "nst"
LAYERS = LayerChoice((CONTENT,), STYLE, {name: 1 / len(STYLE) for name in STYLE})


def picture(name: str, size: int) -> Tensor:
    """One of the pictures that the project draws, (1, 3, size, size)."""
    return resize(load_picture(SAMPLES[name]((size, size), 0)).rgb, (size, size))


@lru_cache
def weights() -> State:
    return random_weights()


def task(**options: object) -> StyleConfig:
    """The yardstick's losses in nst's words."""
    losses = {
        "content_layers": (CONTENT,),
        "style_layers": STYLE,
        "content_weight": CONTENT_WEIGHT,
        "style_weight": STYLE_WEIGHT * len(STYLE),  # nst's layer weights sum to 1
        "range_weight": 0.0,
        "backend": "native",
        "history": 10,
    }
    return StyleConfig.of("seed", **{**losses, **options})


@dataclass
class NstTransfer:
    """nst's network, objective and optimiser, with the same `step` as the yardstick."""

    network: Network
    objective: Objective
    optimizer: LBFGS

    def step(self) -> float:
        return self.optimizer.step(self.objective).values["total"]


def nst_transfer(
    content: Tensor,
    style: Tensor,
    start: Tensor | None = None,
    state: State | None = None,
    backend: str = "native",
) -> NstTransfer:
    config = task(backend=backend)
    found = Weights("vgg19", dict(state or weights()), "random")
    network = build_network(config, found, LAYERS)
    objective = Objective(network, config, LAYERS, content, [style])
    x = content if start is None else start
    return NstTransfer(network, objective, LBFGS(x, config, lambda text: None))


COARSE = ((181, 60), (256, 40), (362, 20))  # size, evaluations


def coarse_to_fine(size: int, most: int) -> Iterator[tuple[float, Callable[[], float]]]:
    """nst's way to a picture: small sizes first, colours held in range by the penalty.

    Yields, after each evaluation at full size, the loss and a call that gives the yardstick's
    own loss, that of the picture with its colours clamped.
    """
    config = task(range_weight=1.0)
    network = build_network(config, Weights("vgg19", dict(weights()), "random"), LAYERS)
    content, style = picture("scene", size), picture("swirls", size)
    optimizer: LBFGS | None = None
    for side, steps in (*COARSE, (size, most)):
        here = resize(content, (side, side))
        objective = Objective(network, config, LAYERS, here, [resize(style, (side, side))])
        if optimizer is None:
            optimizer = LBFGS(here, config, lambda text: None)
        else:
            optimizer.enlarge((side, side))
        for _ in range(steps):
            loss = optimizer.step(objective).values["total"]
            if side == size:
                yield loss, partial(clamped_loss, objective, optimizer)


@torch.no_grad()
def clamped_loss(objective: Objective, optimizer: LBFGS) -> float:
    return objective(optimizer.picture).values["total"]


def transfer(contender: str, size: int) -> PlainTransfer | NstTransfer:
    content, style = picture("scene", size), picture("swirls", size)
    if contender == NST:
        return nst_transfer(content, style)
    return PlainTransfer(plain_features(weights(), contender == CHANNELS_LAST), content, style)


def peak_memory(contender: str, size: int) -> int:
    """The most that this process has had in memory, in bytes, as after a run of 300 steps.

    L-BFGS keeps pairs of pictures, torch's as many as 100: they are filled in without the
    network, which would take minutes, before the steps that count.
    """
    running = transfer(contender, size)
    if isinstance(running, PlainTransfer):
        running.fill_history()
    for _ in range(12):
        running.step()
    return peak_bytes()


def peak_bytes() -> int:
    try:  # getrusage also counts what a parent had before it started this process
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["memory"])
    parser.add_argument("contender", choices=[TORCH, CHANNELS_LAST, NST])
    parser.add_argument("size", type=int)
    given = parser.parse_args()
    torch.manual_seed(0)
    print(peak_memory(given.contender, given.size))
    return 0


if __name__ == "__main__":
    sys.exit(main())
