"""How a run is going, for the user: a live bar on a terminal, or lines into a pipe.

`Bar` draws a live line on a terminal or in a notebook, `LogLines` writes a line now and then.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, TextIO

from ..losses.term import groups
from ..run.observer import Observer
from ..run.step import Step


def losses_in_words(row: dict[str, float]) -> str:
    """The total and each group of terms.

    >>> losses_in_words({"iteration": 3, "total": 0.5, "content": 1.25, "style": 0.0123})
    'loss 0.5 content 1.25 style 0.0123'
    """
    words = {"total": "loss"}
    return " ".join(f"{words.get(name, name)} {value:.4g}" for name, value in groups(row).items())


def seconds_in_words(seconds: float) -> str:
    """Minutes and seconds.

    >>> seconds_in_words(75)
    '1:15'
    """
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class Pace:
    """The time that is left: of this scale by its own pace, of larger ones by their pixels."""

    def __init__(self) -> None:
        self.scale, self.began, self.first = 0, 0.0, 0

    def words(self, step: Step) -> str:
        """Seconds per iteration at this scale and time left in all; empty before it is known."""
        now = time.perf_counter()
        if step.scale != self.scale:
            self.scale, self.began, self.first = step.scale, now, step.iteration
        if step.iteration == self.first:
            return ""
        each = (now - self.began) / (step.iteration - self.first)
        left = seconds_in_words(each * step.left)
        return f" {each:.2g} s/it, {left} left"


class Surviving:
    """A stream whose reader may be gone (a closed terminal): writing to it never fails a run."""

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
        self.stream, self.pace = stream and Surviving(stream), Pace()
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
        pace = self.pace.words(step)
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


class LogLines(Observer):
    """Plain lines: the first and last step of each scale, and one every few seconds."""

    SECONDS = 10.0

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.pace, self.reported = Surviving(stream), Pace(), 0.0
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
        pace = self.pace.words(step)
        edge = step.done in (1, step.level.iterations)
        if not edge and time.perf_counter() - self.reported < self.SECONDS:
            return
        self.reported = time.perf_counter()
        self._say(
            f"scale {step.scale}/{step.scales} {step.level.width}x{step.level.height} "
            f"iteration {step.iteration}/{step.iterations} {losses_in_words(step.row)}{pace}"
        )
