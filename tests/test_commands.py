"""What both commands do alike."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has another error for closed pipes")
@pytest.mark.parametrize(
    "words", [("fastconv", "info"), ("nst", "network", "builtin"), ("nst", "--help")]
)
def test_a_reader_that_has_seen_enough_is_no_mistake(words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", *words], stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr == b""
