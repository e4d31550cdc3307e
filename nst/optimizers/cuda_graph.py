"""An evaluation recorded once as a CUDA graph and played again at every step.

On the torch backend an evaluation is 330 orders to the card with Gram matrices and 860 with the
Wasserstein loss, and at small sizes the card waits for the next order longer than it works on the
last.  A CUDA graph is all of them in one order.  It is bound to its memory: x is changed in place,
and the gradient and the numbers lie where they lay the last time.  So it is recorded anew for
another x (a new scale, a resumed run) and for another objective (other targets).  Factors that
change along the run are numbers on the card.

Before the recording, the evaluation runs WARM_UPS times on a stream of its own, as torch asks for:
what is made at a first call (plans, weights as kernels want them, workspaces) must not be recorded.
Nothing in a recording may ask the card for a number, so the one transfer of a step comes after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ..errors import ConfigError
from ..losses.evaluation import Evaluation

Objective = Callable[[Tensor], Evaluation]
Work = Callable[[], tuple[Evaluation, Tensor, Tensor]]

WARM_UPS = 2


class Recorder(Protocol):
    """What records work that was ordered from a device."""

    def warm_up(self, work: Work) -> None: ...

    def record(self, work: Work) -> tuple[Evaluation, Tensor, Tensor]: ...

    def replay(self) -> None: ...


class CudaRecorder:
    """A CUDA graph with memory of its own."""

    def __init__(self, device: torch.device) -> None:
        self.graph = torch.cuda.CUDAGraph()
        self.device, self.stream = device, torch.cuda.Stream(device)

    def warm_up(self, work: Work) -> None:
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UPS):
                work()
        current.wait_stream(self.stream)

    def record(self, work: Work) -> tuple[Evaluation, Tensor, Tensor]:
        current = torch.cuda.current_stream(self.device)
        try:
            with torch.cuda.graph(self.graph, stream=self.stream):
                return work()
        finally:  # after a recording that failed, torch leaves its own stream in force
            torch.cuda.set_stream(current)

    def replay(self) -> None:
        self.graph.replay()


class Captured:
    """An objective, there and back, recorded at one x."""

    def __init__(self, objective: Objective, x: Tensor, recorder: Recorder) -> None:
        self.objective, self.x, self.recorder = objective, x, recorder
        recorder.warm_up(self._work)
        try:
            self.recorded, self.gradient, self.numbers = recorder.record(self._work)
        except Exception as error:
            raise CaptureError(_cause(error)) from error

    def _work(self) -> tuple[Evaluation, Tensor, Tensor]:
        # A leaf of its own: to x itself, other evaluations may have bound what belongs to the
        # stream that they ran on, and a recording must not wait for another stream.
        leaf = self.x.detach().requires_grad_()
        evaluation = self.objective(leaf)
        if evaluation.total.requires_grad:
            (gradient,) = torch.autograd.grad(evaluation.total * leaf.numel(), leaf)
        else:
            gradient = torch.zeros_like(leaf)
        evaluation.total = evaluation.total.detach()
        return evaluation, gradient, evaluation.stacked(gradient.sum())

    def is_of(self, objective: Objective, x: Tensor) -> bool:
        return self.objective is objective and self.x is x

    def evaluate(self) -> tuple[Evaluation, Tensor]:
        """The objective at x as it is now, and the gradient, which the next call overwrites."""
        self.recorder.replay()
        evaluation = Evaluation(self.recorded.total, self.recorded.parts, self.recorded.sums)
        evaluation.read(self.numbers)
        return evaluation, self.gradient


def _cause(error: BaseException) -> str:
    """The first of the errors: the end of a recording that failed fails as well."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class CaptureError(Exception):
    """The device did not record; says why."""


class Recordings:
    """An optimiser's way to recorded evaluations, or to a word why there are none.

    `wanted` is the option `graph`: with `on`, what stands against a recording is an error, with
    `auto` it is told once, and evaluations run one by one.
    """

    def __init__(self, wanted: str, device: torch.device, note: Callable[[str], None]) -> None:
        self.wanted, self.note = wanted, note
        self.make: Callable[[], Recorder] | None = None
        if device.type == "cuda" and wanted != "off":
            self.make = lambda: CudaRecorder(device)
        self.kept: Captured | None = None

    def of(self, objective: Objective, x: Tensor) -> Captured | None:
        """The recorded evaluation, recorded if need be; None if it has to run by itself."""
        if self.make is None:
            return None
        # a plain function of x has nothing against it
        if reason := getattr(objective, "against_recording", ""):
            self._give_up(reason)
            return None
        if self.kept is None or not self.kept.is_of(objective, x):
            self.kept, x.grad = None, None  # the old one's memory first
            try:
                self.kept = Captured(objective, x, self.make())
            except CaptureError as error:
                self._give_up(f"it cannot be recorded: {error}")
        return self.kept

    def _give_up(self, reason: str) -> None:
        if self.wanted == "on":
            raise ConfigError(f"graph 'on' expects a step that can be recorded: {reason}")
        self.make = self.kept = None
        self.note(f"the step is not recorded as a CUDA graph: {reason}")
