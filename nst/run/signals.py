"""Ctrl-C, and what systems send instead of it: the step in work is finished first."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# A closed terminal and a scheduler's end of time are asked for as politely as Ctrl-C.
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
# Signals within so many seconds of the first belong to it: a closing terminal sends two, and a
# scheduler TERM and HUP.  Someone who means "at once" presses Ctrl-C again later than that.
TOGETHER = 0.5


class Stop:
    """Whether a signal has come.  A plain attribute: a handler may interrupt another handler, and
    whatever takes a lock (threading.Event does) would then wait for itself."""

    def __init__(self) -> None:
        self.asked_at: float | None = None

    def is_set(self) -> bool:
        return self.asked_at is not None


@contextmanager
def finishing_steps(report: Callable[[str], object]) -> Iterator[Stop]:
    """Within it, the first signal sets the stop and is reported; a later one acts as ever.

    A step that is broken off in its middle leaves an optimiser in no state to keep.
    """
    stop = Stop()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # which alone is sent signals
        numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        found = {number: signal.getsignal(number) for number in numbers}
        # one that is ignored (by nohup, for one) stays so
        before = {n: was for n, was in found.items() if was not in (None, signal.SIG_IGN)}

    def restore() -> None:
        for number, was in before.items():
            signal.signal(number, was)

    def asked(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if stop.asked_at is None:
            stop.asked_at = now
            # the step is finished even if reporting fails: a closed terminal, a line half written
            with suppress(OSError, ValueError, RuntimeError):
                report("finishing the step and saving; once more to stop at once")
        elif now - stop.asked_at > TOGETHER:
            restore()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, asked)
    try:
        yield stop
    finally:
        restore()
