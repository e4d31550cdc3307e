"""The progress of training: a live bar on a terminal, lines in a pipe."""

from __future__ import annotations

import time
from typing import Any, TextIO

from ..observers.progress import seconds_in_words

LossRow = dict[str, float]


class Watcher:
    """The base: sees everything and does nothing."""

    def note(self, text: str) -> None:
        """A remark in words."""

    def step(self, row: LossRow) -> None:
        """A step is done: step, steps, epoch, size, loss, learning_rate, seconds."""

    def evaluated(self, row: LossRow) -> None:
        """An evaluation is done: the row has test_loss, top1 and top5 as well."""

    def close(self) -> None:
        """The run has ended, in whatever way."""


def evaluation_in_words(row: LossRow) -> str:
    """The figures of an evaluation.

    >>> row = {"epoch": 5, "loss": 2.5, "test_loss": 3.25, "top1": 0.5, "top5": 0.75}
    >>> evaluation_in_words(row)
    'epoch 5: loss 2.5, evaluation 3.25, top-1 50.0 %, top-5 75.0 %'
    """
    return (
        f"epoch {row['epoch']:g}: loss {row['loss']:.4g}, evaluation {row['test_loss']:.4g}, "
        f"top-1 {100 * row['top1']:.1f} %, top-5 {100 * row['top5']:.1f} %"
    )


class LineWatcher(Watcher):
    """Plain lines: each evaluation, and a step every few seconds."""

    SECONDS = 20.0

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.began = stream, time.perf_counter()
        self.first, self.reported = 0.0, self.began

    def note(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()

    def step(self, row: LossRow) -> None:
        now = time.perf_counter()
        self.first = self.first or row["step"]
        if now - self.reported < self.SECONDS:
            return
        self.reported = now
        each = (now - self.began) / max(1.0, row["step"] - self.first)
        left = each * (row["steps"] - row["step"])
        self.note(
            f"step {row['step']:.0f}/{row['steps']:.0f} epoch {row['epoch']:.1f} "
            f"{row['size']:.0f} px loss {row['loss']:.4g} {each:.2f} s/step "
            f"{seconds_in_words(left)} left"
        )

    def evaluated(self, row: LossRow) -> None:
        self.note(evaluation_in_words(row))


class BarWatcher(Watcher):
    """A live bar by tqdm; in a notebook its widget."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream
        self.bar: Any = None

    @staticmethod
    def _tqdm() -> Any:
        from tqdm.auto import tqdm

        return tqdm

    def note(self, text: str) -> None:
        self._tqdm().write(text, file=self.stream)

    def step(self, row: LossRow) -> None:
        if self.bar is None:
            self.bar = self._tqdm()(
                total=int(row["steps"]), initial=int(row["step"]) - 1, file=self.stream
            )
        words = f"epoch {row['epoch']:.1f} {row['size']:.0f} px loss {row['loss']:.4g}"
        self.bar.set_postfix_str(words, refresh=False)
        self.bar.update(1)

    def evaluated(self, row: LossRow) -> None:
        self.note(evaluation_in_words(row))

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
