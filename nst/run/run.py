"""A run: the loop over scales and iterations, for one set of pictures on a prepared engine.

`Run.steps()` is the only loop.  Its observers (progress, frames, checkpoints) are given
the `Step`s it yields, and `Run.state()` between two steps holds all that the rest of the run
depends on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..config.options import StyleConfig
from ..errors import UserError
from ..losses.balance import Balance
from ..losses.objective import Objective
from ..losses.term import Term
from ..losses.terms import build_terms
from ..networks.network import Network
from ..optimizers.base import Optimizer
from ..optimizers.table import OPTIMIZERS
from ..pictures.colour import keep_luminance_only
from ..pictures.sizing import fit_style, resize
from ..tables import found
from .engine import Engine
from .inputs import Inputs
from .observer import Observer
from .pyramid import Level
from .setup import Setup
from .step import Step

MoreTerms = Callable[[Level], Sequence[Term]]


def no_more_terms(level: Level) -> Sequence[Term]:
    return ()


@dataclass
class Run:
    """The optimisation of one picture, and its state."""

    engine: Engine
    inputs: Inputs
    observer: Observer = field(default_factory=Observer)
    more_terms: MoreTerms = no_more_terms  # what is minimised besides, at each level
    optimizer: Optimizer | None = None
    scale: int = 0  # the current level
    done: int = 0  # iterations done in it
    history: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of computing, also before a resumption
    balance: Balance = field(default_factory=Balance)

    def __post_init__(self) -> None:
        self.levels = self.setup.levels(self.inputs.content.hw)
        for remark in self.inputs.remarks:
            self.note(remark)

    @classmethod
    def prepare(cls, config: StyleConfig, inputs: Inputs, observer: Observer) -> Run:
        """A run on an engine of its own."""
        return cls(Engine.prepare(Setup.expected(config), observer), inputs, observer)

    @property
    def setup(self) -> Setup:
        return self.engine.setup

    @property
    def config(self) -> StyleConfig:
        return self.engine.setup.config

    @property
    def network(self) -> Network:
        return self.engine.network

    def note(self, text: str) -> None:
        """Keep a remark and report it."""
        self.notes.append(text)
        self.observer.note(text)

    @property
    def finished(self) -> bool:
        """Whether the last iteration is done, whoever has asked for the one after it or not."""
        ends = [(len(self.levels), 0), (len(self.levels) - 1, self.levels[-1].iterations)]
        return (self.scale, self.done) in ends

    def steps(self) -> Iterator[Step]:
        """The run, from its current state to its end."""
        while not self.finished:
            level = self.levels[self.scale]
            objective = self.objective(level)
            optimizer = self._optimizer(level)
            while self.done < level.iterations:
                began = time.perf_counter()
                evaluation = optimizer.step(objective)
                values = evaluation.values | objective.reported
                if objective.rebalance(values):
                    optimizer.forget_last()
                self.done += 1
                self.seconds += time.perf_counter() - began
                yield self._step(level, values)
            if not self.finished:
                self.scale, self.done = self.scale + 1, 0

    def _step(self, level: Level, values: dict[str, float]) -> Step:
        row = {
            "iteration": len(self.history) + 1,
            "scale": max(level.hw),
            "seconds": self.seconds,
            **values,
        }
        self.history.append(row)
        pixels = level.height * level.width
        work = sum(x.iterations * x.height * x.width / pixels for x in self.levels[self.scale :])
        return Step(
            iteration=len(self.history),
            iterations=sum(level.iterations for level in self.levels),
            scale=self.scale + 1,
            scales=len(self.levels),
            done=self.done,
            level=level,
            left=work - self.done,
            row=row,
            draw=self.picture,
        )

    def objective(self, level: Level) -> Objective:
        """What is minimised at one scale."""
        setup, inputs, engine = self.setup, self.inputs, self.engine
        targets = engine.targets(inputs.styles, level.hw)
        content = engine.to_device(resize(inputs.content.rgb, level.hw))
        mask = None if inputs.mask is None else engine.to_device(resize(inputs.mask, level.hw))
        terms = build_terms(engine.network, setup.weighed, setup.layers, targets, content)
        balance = self.balance if self.config.balance == "auto" else None
        terms += self.more_terms(level)
        return Objective(engine.network, terms, balance, content, mask)

    def _optimizer(self, level: Level) -> Optimizer:
        if self.optimizer is None:
            self.optimizer = self._made_optimizer(self.engine.to_device(self._start(level.hw)))
        elif self.done == 0:
            self.optimizer.enlarge(level.hw)
        return self.optimizer

    def _made_optimizer(self, x: Tensor) -> Optimizer:
        kind = found("optimizer", self.config.optimizer, OPTIMIZERS)
        optimizer: Optimizer = kind(x, self.config, self.note)
        return optimizer

    def _start(self, hw: tuple[int, int]) -> Tensor:
        inputs, word = self.inputs, self.config.init
        if inputs.init is not None:
            return resize(inputs.init, hw)
        if word == "style":
            return fit_style(inputs.styles[0], hw, "crop").rgb
        if word == "gray":
            return torch.full((1, 3, *hw), 0.5)
        if word == "random":  # the only random thing in a run, so no generator's state is kept
            generator = torch.Generator().manual_seed(self.config.seed)
            return torch.rand(1, 3, *hw, generator=generator)
        return resize(inputs.content.rgb, hw)

    def picture(self) -> Tensor:
        """The picture so far at the size of the current scale, (1, 3, h, w) on the CPU."""
        if self.optimizer is None:
            return self._start(self.inputs.content.hw)
        x = self.optimizer.picture.float().cpu()
        content = resize(self.inputs.content.rgb, (x.shape[2], x.shape[3]))
        if self.inputs.mask is not None:
            mask = resize(self.inputs.mask, (x.shape[2], x.shape[3]))
            x = content + mask * (x - content)
        if self.config.preserve_color == "luminance":
            x = keep_luminance_only(x, content)
        return x

    def final_picture(self) -> Tensor:
        """The same at the size of the result, enlarged if the run is not there yet."""
        return resize(self.picture(), self.inputs.content.hw)

    def state(self) -> dict[str, Any]:
        """All that the rest of the run depends on, for a checkpoint."""
        if self.optimizer is None:
            raise UserError("nothing has been computed yet: there is no state to keep")
        scaling = self.network.scaling
        return {
            "scale": self.scale,
            "done": self.done,
            "history": self.history,
            "notes": self.notes,
            "seconds": self.seconds,
            "balance": (self.balance.factor, self.balance.seen),
            "scaling": scaling.state() if scaling else None,
            "optimizer": self.optimizer.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`; the next of `steps()` is the one after it."""
        self.scale, self.done = state["scale"], state["done"]
        self.history, self.notes = list(state["history"]), list(state["notes"])
        self.seconds, self.balance = state["seconds"], Balance(*state["balance"])
        if self.network.scaling:
            self.network.scaling.load(state["scaling"])
        self.optimizer = self._made_optimizer(self.engine.to_device(state["optimizer"]["x"]))
        self.optimizer.load_state(state["optimizer"])
