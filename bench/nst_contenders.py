"""nst and plain PyTorch on one task: the same network, pictures and losses.

Run as a program, it is one contender alone in its process, for what only a process can tell:

    python bench/nst_contenders.py memory CONTENDER SIZE     the peak of its memory, in bytes

or both ways beside each other:

    python bench/nst_contenders.py pictures FILE SIZE        the plain way's picture, and nst's
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
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

from nst.config.options import StyleConfig
from nst.losses.objective import Objective
from nst.losses.terms import LayerChoice, build_terms, take_style_targets
from nst.networks.build import build_network
from nst.networks.network import Network
from nst.networks.weights import Weights
from nst.optimizers.lbfgs import LBFGS
from nst.outputs.writers import to_pixels
from nst.pictures.sizing import load_picture, resize
from nst.samples import SAMPLES

TORCH, CHANNELS_LAST, NST = "torch", "torch channels_last", "nst"
LAYERS = LayerChoice((CONTENT,), STYLE, {name: 1 / len(STYLE) for name in STYLE})


@lru_cache
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


def network_of(found: Weights, config: StyleConfig) -> Network:
    network = build_network(found, LAYERS.all, backend=config.backend, padding=config.padding)
    network.prepare(LAYERS.content, LAYERS.style)
    return network


def objective_of(
    network: Network, config: StyleConfig, content: Tensor, style: Tensor
) -> Objective:
    targets = take_style_targets(network, config, LAYERS, [style])
    return Objective(network, build_terms(network, config, LAYERS, targets, content))


def nst_transfer(
    content: Tensor,
    style: Tensor,
    start: Tensor | None = None,
    found: Weights | None = None,
    backend: str = "native",
) -> NstTransfer:
    config = task(backend=backend)
    network = network_of(found or Weights("vgg19", dict(weights()), "random"), config)
    objective = objective_of(network, config, content, style)
    x = content if start is None else start
    return NstTransfer(network, objective, LBFGS(x, config, lambda text: None))


# Size, evaluations.  Multiples of 64 leave no tile of the deepest layers in part empty.
COARSE = ((192, 40), (256, 40), (384, 20))


def coarse_to_fine(size: int, most: int) -> Iterator[tuple[float, NstTransfer]]:
    """nst's way to a picture: small sizes first.

    Yields the loss after each evaluation at full size, and the run as it stands there.
    """
    config = task(history=20)
    network = network_of(Weights("vgg19", dict(weights()), "random"), config)
    content, style = picture("scene", size), picture("swirls", size)
    optimizer: LBFGS | None = None
    for side, steps in (*COARSE, (size, most)):
        here = resize(content, (side, side))
        objective = objective_of(network, config, here, resize(style, (side, side)))
        if optimizer is None:
            optimizer = LBFGS(here, config, lambda text: None)
        else:
            optimizer.enlarge((side, side))
        running = NstTransfer(network, objective, optimizer)
        for _ in range(steps):
            loss = running.step()
            if side == size:
                yield loss, running


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


def pictures_at_equal_loss(path: Path, size: int, evaluations: int = 150) -> None:
    """The plain way's best picture of its evaluations, and nst's as soon as its loss is as low."""
    plain = transfer(TORCH, size)
    fast = nst_transfer(plain.x.detach(), plain.style_picture)
    plain = PlainTransfer.from_loss(lambda x: fast.objective(x).total, plain.x.detach())
    best, picture_there, after = float("inf"), plain.x, 0
    for number in range(evaluations):
        before = plain.x.detach().clamp(0, 1)
        loss = plain.step()
        if loss < best:
            best, picture_there, after = loss, before, number + 1
    print(f"plain: {best:.4f} after {after} evaluations")
    for number, (loss, running) in enumerate(coarse_to_fine(size, evaluations)):
        if loss <= best:
            print(f"nst: {loss:.4f} after {number + 1} evaluations at {size} px")
            sides = torch.cat([picture_there, running.optimizer.picture], dim=3)
            Image.fromarray(to_pixels(sides)).save(path, quality=88)
            return
    raise RuntimeError(f"{best} is not reached in {evaluations} evaluations")


def peak_bytes() -> int:
    try:  # getrusage also counts what a parent had before it started this process
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["memory", "pictures"])
    parser.add_argument("which", help="a contender, or the file to write")
    parser.add_argument("size", type=int)
    given = parser.parse_args()
    torch.manual_seed(0)
    if given.what == "pictures":
        pictures_at_equal_loss(Path(given.which), given.size)
    elif given.which in (TORCH, CHANNELS_LAST, NST):
        print(peak_memory(given.which, given.size))
    else:
        parser.error(f"expected {TORCH}, {CHANNELS_LAST} or {NST}, got {given.which!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
