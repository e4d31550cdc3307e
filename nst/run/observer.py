"""What watches a run: the protocol that progress, files and the profile follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .run import Run
    from .step import Step


class Observer:
    """The base of every observer: each method is called by the run, and does nothing."""

    def note(self, text: str) -> None:
        """A message, such as which network was chosen."""

    def downloading(self, done: int, total: int) -> None:
        """So many bytes of a file have come; total is 0 if it is not known."""

    def begin(self, run: Run) -> None:
        """A run is prepared, or resumed, and is about to begin."""

    def step(self, step: Step) -> None:
        """An iteration is done."""

    def close(self) -> None:
        """The run has ended, in whatever way."""


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def note(self, text: str) -> None:
        for observer in self.observers:
            observer.note(text)

    def downloading(self, done: int, total: int) -> None:
        for observer in self.observers:
            observer.downloading(done, total)

    def begin(self, run: Run) -> None:
        for observer in self.observers:
            observer.begin(run)

    def step(self, step: Step) -> None:
        for observer in self.observers:
            observer.step(step)

    def close(self) -> None:
        for observer in self.observers:
            observer.close()
