"""Where a run's time goes: layer by layer, and what is left for losses and optimiser.

`nst stylize --profile` prints the table at the end of a run; in Python:

    profiler = nst.observers.profile.Profiler()
    nst.stylize(content, style, observer=profiler)
    print(*profiler.lines(), sep="\\n")
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from fastconv.frozen.clock import Clock

from ..networks.network import Network
from ..optimizers.base import Spent
from ..run.observer import Observer
from ..run.run import Run
from ..run.step import Step

Times = tuple[float, float]  # seconds forward, backward


@dataclass(frozen=True)
class Profile:
    """Seconds by part of a run."""

    layers: dict[str, Times]  # each with what is fused to it
    moments: dict[str, Times]  # the statistics of the style layers
    losses: Times  # what is left of the objective
    moving: float  # the optimiser
    other: float  # pictures prepared, progress, files
    evaluations: int

    @property
    def total(self) -> float:
        parts = [*self.layers.values(), *self.moments.values(), self.losses]
        return sum(map(sum, parts)) + self.moving + self.other

    @property
    def convolutions(self) -> float:
        """What the layers of the network take, without the losses at them."""
        return sum(map(sum, self.layers.values()))


def clock_for(network: Network) -> Clock:
    """Starts measuring the time of the network's layers."""
    clock = Clock()
    network.clock = clock
    return clock


def profile(
    network: Network, clock: Clock, spent: Spent, seconds: float, evaluations: int
) -> Profile:
    """The times measured by the clock and the optimiser, and the rest of `seconds`."""
    names = ["normalise", *network.names]
    layers: dict[str, Times] = {}
    begins = 0  # a stage is known by its last layer
    taken = sorted({layer for layer, direction in clock.seconds if direction == "forward"})
    for last in taken:
        name = names[begins] if begins == last else f"{names[begins]} .. {names[last]}"
        layers[name] = clock.seconds[last, "forward"], clock.seconds[last, "backward"]
        begins = last + 1
    read = sorted({layer for layer, direction in clock.seconds if direction == "moments"})
    moments = {
        f"moments of {names[i]}": (
            clock.seconds[i, "moments"],
            clock.seconds[i, "moments_backward"],
        )
        for i in read
    }
    ours = [*layers.values(), *moments.values()]
    forward, backward = (sum(part[way] for part in ours) for way in (0, 1))
    losses = max(0.0, spent.forward - forward), max(0.0, spent.backward - backward)
    other = max(0.0, seconds - spent.forward - spent.backward - spent.moving)
    return Profile(layers, moments, losses, spent.moving, other, evaluations)


class Profiler(Observer):
    """Takes the time of all steps but the first, which also prepares weights and memory."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.clock: Clock | None = None
        self.steps = 0
        self.seconds = 0.0

    def begin(self, run: Run) -> None:
        self.run = run

    def step(self, step: Step) -> None:
        now = time.perf_counter()
        if self.clock is None:
            assert self.run is not None
            assert self.run.optimizer is not None
            self.spent = self.run.optimizer.spent = Spent()
            self.clock, self.began = clock_for(self.run.network), now
            return
        self.steps, self.seconds = self.steps + 1, now - self.began

    def found(self) -> Profile | None:
        if self.run is None or self.clock is None or self.steps == 0:
            return None
        return profile(self.run.network, self.clock, self.spent, self.seconds, self.steps)

    def lines(self) -> list[str]:
        """The table, or why there is none."""
        found = self.found()
        return table(found) if found else ["a profile takes two iterations or more"]


def table(found: Profile) -> list[str]:
    """The profile in lines: milliseconds per evaluation, and shares of the whole."""
    rows = {**found.layers, **found.moments, "losses": found.losses}
    width = max(len(name) for name in (*rows, "part of an evaluation"))
    lines = [f"{'part of an evaluation':{width}}  {'forward':>9} {'backward':>9}   share"]
    for name, (forward, backward) in rows.items():
        lines.append(_line(name, width, found, forward + backward, forward, backward))
    lines.append(_line("optimiser", width, found, found.moving))
    lines.append(_line("other", width, found, found.other))
    each = found.total / max(1, found.evaluations)
    outside = 1 - found.convolutions / found.total if found.total else 0.0
    lines.append(
        f"{found.evaluations} evaluations of {each * 1e3:.1f} ms; outside of the network's "
        f"layers {outside:.1%}"
    )
    return lines


def _line(name: str, width: int, found: Profile, seconds: float, *ways: float) -> str:
    each = 1e3 / max(1, found.evaluations)
    cells = "".join(f"{way * each:9.2f} " for way in ways or (seconds, 0.0))
    if not ways:  # neither forward nor backward
        cells = f"{seconds * each:9.2f} {'':9} "
    share = seconds / found.total if found.total else 0.0
    return f"{name:{width}}  {cells} {share:6.1%}"
