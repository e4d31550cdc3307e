"""A forked child has one thread, the one that forked; it must not wait for the others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastconv import backends

pytestmark = [
    pytest.mark.skipif(not backends()["native"].available, reason=backends()["native"].reason),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
]

CHILDREN = """
import numpy, os, signal, threading, torch
from fastconv import conv2d
from fastconv.backends import native

torch.set_num_threads(2)
x, weight = torch.rand(1, 32, 64, 64), torch.rand(32, 32, 3, 3)

def convolve():
    return conv2d(x, weight, padding=1, backend="native")

def child_is_right(expected):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that waits for ever
        # NumPy compares: torch would with threads, and wait for ever itself
        os._exit(not numpy.allclose(convolve().numpy(), expected.numpy(), rtol=1e-4))
    return os.waitpid(child, 0)[1] == 0
"""


def run(program: str) -> str:
    command = [sys.executable, "-c", CHILDREN + program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    return done.stdout.strip() or done.stderr


def test_a_child_computes_what_its_parent_has_computed_with_threads() -> None:
    assert run("print(child_is_right(convolve()))") == "True"


def test_a_child_whose_parent_had_no_threads_may_use_them() -> None:
    program = """
torch.set_num_threads(1)
expected = convolve()
torch.set_num_threads(2)
print(child_is_right(expected))
"""
    assert run(program) == "True"


def test_a_child_does_not_inherit_a_lock_that_another_thread_held() -> None:
    """The one of the blocks for results, which a second thread takes all the time."""
    program = """
torch.set_num_threads(1)
expected, done = convolve(), False

def take_blocks():
    while not done:
        native.kept_bytes(release=True)

others = [threading.Thread(target=take_blocks) for _ in range(2)]
for other in others: other.start()
right = sum(child_is_right(expected) for _ in range(60))
done = True
for other in others: other.join()
print(right)
"""
    assert run(program) == "60"
