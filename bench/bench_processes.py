"""The frozen stack in processes of its own: with AVX2 alone, its memory, its page faults.

Instruction sets are chosen when a library is loaded, and a process's peak of memory belongs to all
that it ever did.  Run as a program, this file is one contender's process:

    python bench/bench_processes.py CONTENDER     a line of JSON
"""

from __future__ import annotations

import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import pytest
from bench_frozen import step
from nst_contenders import peak_bytes

from fastconv.tools.benchmark import Contender

SIZE, STEPS = 512, 11
TABLE = f"VGG19 conv1_1 to conv5_1, frozen, {SIZE} px, each in a process of its own"
CONTENDERS = ("torch", "torch channels_last", "native")
# What each library is told; torch's convolutions are oneDNN's.
SETS = {
    "all": {},
    "AVX2": {"FASTCONV_ISA": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}


@pytest.mark.parametrize("name", SETS)
def bench_instruction_sets(name, benchmark, fact) -> None:
    def measure() -> dict[str, dict[str, float]]:
        return {label: _measured(label, SETS[name]) for label in CONTENDERS}

    figures = benchmark.pedantic(measure, rounds=1)
    yardstick = figures["torch"]["seconds"]
    words = {
        label: f"{own['seconds'] * 1e3:.0f} ({yardstick / own['seconds']:.2f}x)"
        for label, own in figures.items()
    }
    fact(TABLE, f"milliseconds, {name} instruction sets", **words)
    if name == "all":
        benchmark.extra_info["more"] = {
            "megabytes at the peak over the start": _words(figures, "megabytes"),
            "page faults in the tenth step": _words(figures, "faults"),
        }


def _words(figures: dict[str, dict[str, float]], what: str) -> dict[str, str]:
    return {label: f"{own[what]:.0f}" for label, own in figures.items()}


def _measured(label: str, settings: dict[str, str]) -> dict[str, float]:
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, **settings, "PYTHONPATH": paths}
    run = [sys.executable, __file__, label]
    done = subprocess.run(run, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def alone(label: str) -> dict[str, float]:
    """Median seconds of a step, the peak of memory over what there was before, and page faults."""
    call = step(SIZE, Contender(label, label.split()[0], label.endswith("last")))
    start = peak_bytes()
    seconds, faults = [], []
    for _ in range(STEPS):
        gc.collect()
        before, began = _faults(), time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
        faults.append(_faults() - before)
    megabytes = (peak_bytes() - start) / 2**20
    return {"seconds": statistics.median(seconds[1:]), "megabytes": megabytes, "faults": faults[9]}


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


if __name__ == "__main__":
    print(json.dumps(alone(sys.argv[1])))
