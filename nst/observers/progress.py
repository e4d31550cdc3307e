"""What tells the user how a run is going: observers, of which the command line picks one.

An `Observer` is told of remarks, downloads and steps, and by default does nothing.  `Bar` draws
a live line on a terminal or in a notebook, `Lines` writes a line now and then into a pipe.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from ..run.run import Step


class Observer:
    """The base: sees everything and does nothing."""

    def note(self, text: str) -> None:
        """A remark in words, such as which network was chosen."""

    def downloading(self, done: int, total: int) -> None:
        """So many bytes of a file have come; total is 0 if it is not known."""

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

    def step(self, step: Step) -> None:
        for observer in self.observers:
            observer.step(step)

    def close(self) -> None:
        for observer in self.observers:
            observer.close()


def losses_in_words(row: dict[str, float]) -> str:
    """The three losses of a step.

    >>> losses_in_words({"total": 0.5, "content": 1.25, "style": 0.0123})
    'loss 0.5 content 1.25 style 0.0123'
    """
    return f"loss {row['total']:.4g} content {row['content']:.4g} style {row['style']:.4g}"


def seconds_in_words(seconds: float) -> str:
    """Minutes and seconds.

    >>> seconds_in_words(75)
    '1:15'
    """
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class Clock:
    """The time that is left: of this scale by its own pace, of larger ones by their pixels."""

    def __init__(self) -> None:
        self.scale, self.began, self.first = 0, 0.0, 0

    def pace(self, step: Step) -> str:
        """Seconds per iteration at this scale and time left in all; empty before it is known."""
        now = time.perf_counter()
        if step.scale != self.scale:
            self.scale, self.began, self.first = step.scale, now, step.iteration
        if step.iteration == self.first:
            return ""
        each = (now - self.began) / (step.iteration - self.first)
        levels = step.run.levels[step.scale - 1 :]
        here = step.level.height * step.level.width
        work = sum(level.iterations * level.height * level.width / here for level in levels)
        left = seconds_in_words(each * (work - step.run.done))
        return f" {each:.2g} s/it, {left} left"


class Surviving:
    """A stream whose reader may have gone, with the terminal for one: a run goes on without."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self.stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Bar(Observer):
    """A live bar by tqdm; in a notebook its widget."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream, self.clock = stream and Surviving(stream), Clock()
        self.bar: Any = None
        self.loading: Any = None

    def note(self, text: str) -> None:
        self._tqdm().write(text, file=self.stream)

    @staticmethod
    def _tqdm() -> Any:
        from tqdm.auto import tqdm

        return tqdm

    def downloading(self, done: int, total: int) -> None:
        if self.loading is None:
            self.loading = self._tqdm()(
                total=total or None, unit="B", unit_scale=True, desc="weights", file=self.stream
            )
        self.loading.update(done - self.loading.n)
        if done == total:
            self.loading.close()

    def step(self, step: Step) -> None:
        if self.bar is None:
            self.bar = self._tqdm()(
                total=step.iterations,
                initial=step.iteration - 1,
                file=self.stream,
                bar_format="{desc} {bar} {n_fmt}/{total_fmt}{postfix}",
            )
        pace = self.clock.pace(step)
        self.bar.set_description_str(
            f"scale {step.scale}/{step.scales} {step.level.width}x{step.level.height}",
            refresh=False,
        )
        self.bar.set_postfix_str(losses_in_words(step.row) + pace, refresh=False)
        self.bar.update(1)

    def close(self) -> None:
        for bar in (self.bar, self.loading):
            if bar is not None:
                bar.close()


class Lines(Observer):
    """Plain lines: the first and last step of each scale, and one every few seconds."""

    SECONDS = 10.0

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.clock, self.told = Surviving(stream), Clock(), 0.0
        self.quarter = 0

    def _say(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()

    def note(self, text: str) -> None:
        self._say(text)

    def downloading(self, done: int, total: int) -> None:
        quarter = 4 * done // total if total else 0
        if quarter > self.quarter:
            self.quarter = quarter
            self._say(f"weights: {done >> 20} of {total >> 20} MB")

    def step(self, step: Step) -> None:
        pace = self.clock.pace(step)
        edge = step.run.done in (1, step.level.iterations)
        if not edge and time.perf_counter() - self.told < self.SECONDS:
            return
        self.told = time.perf_counter()
        self._say(
            f"scale {step.scale}/{step.scales} {step.level.width}x{step.level.height} "
            f"iteration {step.iteration}/{step.iterations} {losses_in_words(step.row)}{pace}"
        )
