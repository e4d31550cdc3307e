"""The memory of a run: estimated before it, and measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from fastconv import backends
from nst.config.options import StyleConfig
from nst.errors import ConfigError
from nst.networks.memory import largest_size
from nst.run.setup import Setup

PEAK = """
import json, re, sys
import nst
from nst.samples import scene, swirls

options = json.loads(sys.argv[1])
pictures = [draw((256, 256)).resize((256, 256)) for draw in (scene, swirls)]
nst.stylize(*pictures, **options)
status = open("/proc/self/status").read()  # ru_maxrss would be the parent's, where that was larger
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024)
"""


def setup_for(**options: Any) -> Setup:
    return Setup.expected(StyleConfig.of("quality", device="cpu", **options))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_run_takes_the_memory_that_was_estimated(backend: str, optimizer: str) -> None:
    if not backends()[backend].available:
        pytest.skip(backends()[backend].reason)
    options = {"backend": backend, "optimizer": optimizer, "history": 4, "size": 256, "scales": 1}
    options |= {"iterations": 6, "network": "vgg19", "device": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, json.dumps(options)],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    setup = Setup.expected(StyleConfig.of("quality", **options))
    assert setup.memory((256, 256)) == pytest.approx(int(done.stdout), rel=0.15)


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_size_that_a_refusal_names_fits(backend: str, precision: str) -> None:
    options = {"network": "builtin", "backend": backend, "precision": precision}
    setup = setup_for(max_memory="900M", **options)
    with pytest.raises(ConfigError, match=r"max_memory is 900M, and 2048 pixels need") as refused:
        setup.check_memory((1536, 2048))
    fits = int(str(refused.value).split("--size ")[1].split()[0])
    assert fits > 128
    setup.check_memory((fits * 3 // 4, fits))
    with pytest.raises(ConfigError, match="max_memory"):
        setup.check_memory((fits * 3 // 4 + 40, fits + 50))


def test_memory_grows_with_pixels_and_with_what_an_optimiser_keeps() -> None:
    few, many = (setup_for(optimizer="lbfgs", history=n) for n in (5, 50))
    assert few.memory((256, 256)) < few.memory((256, 320)) < few.memory((512, 512))
    kept = many.memory((512, 512)) - few.memory((512, 512))
    assert kept >= 45 * 2 * 3 * 512 * 512 * 2


def test_the_largest_size_is_found_between_what_fits_and_what_does_not() -> None:
    assert largest_size(lambda hw: hw[0] * hw[1], (300, 400), 75 * 100) == 100
    assert largest_size(lambda hw: hw[0] * hw[1], (300, 400), 0) == 0
    assert largest_size(lambda hw: 1, (300, 400), 5) == 400
