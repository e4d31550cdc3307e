"""Signals that come in pairs: a run neither hangs nor dies of the second."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from nst.run.signals import TOGETHER, finishing_steps

PAIRS = """
import os, signal, sys, threading, time
from nst.run.signals import finishing_steps

def send(first, second, gap):
    os.kill(os.getpid(), first)
    until = time.perf_counter() + gap
    while time.perf_counter() < until:
        pass
    os.kill(os.getpid(), second)

names = [getattr(signal, name) for name in sys.argv[1:]]
for gap in [0, 1e-6, 3e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 1e-3, 1e-2] * 12:
    with finishing_steps(lambda text: time.sleep(1e-5)) as stop:
        sender = threading.Thread(target=send, args=(*names, gap))
        sender.start()
        while sender.is_alive() or not stop.is_set():
            sum(range(50))
print("finished")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows delivers no signals to one process")
@pytest.mark.parametrize("names", [("SIGINT", "SIGINT"), ("SIGTERM", "SIGHUP")])
def test_two_signals_at_any_gap_finish_the_step(names: tuple[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PAIRS, *names], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "finished\n"), done.stderr


def test_a_second_ctrl_c_a_moment_later_stops_at_once() -> None:
    told: list[str] = []

    def interrupted_twice() -> None:
        with finishing_steps(told.append):
            signal.raise_signal(signal.SIGINT)
            time.sleep(TOGETHER + 0.05)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()
    assert len(told) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
