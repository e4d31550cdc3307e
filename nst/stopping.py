"""Ctrl-C, and what systems send instead of it: the step in work is finished first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# A closed terminal and a scheduler's end of time are asked for as politely as Ctrl-C.
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def finishing_steps(tell: Callable[[str], object]) -> Iterator[threading.Event]:
    """Within it, the first signal sets the event and is told of; a second one acts as ever.

    A step that is broken off in its middle leaves an optimiser in no state to keep.
    """
    stop = threading.Event()
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
        stop.set()
        restore()
        # the step goes on whatever telling meets: a terminal that is gone, a line half written
        with suppress(OSError, ValueError, RuntimeError):
            tell("finishing the step and saving; once more to stop at once")

    for number in before:
        signal.signal(number, asked)
    try:
        yield stop
    finally:
        restore()
