"""What every benchmark file shares: the contenders, the allocator's state, the run's metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fastconv.registry import backends
from fastconv.tools.benchmark import Contender
from fastconv.tools.timing import machine, warm_allocator

TORCH = Contender("torch", "torch")
TORCH_CL = Contender("torch channels_last", "torch", channels_last=True)
WARM = " (warm allocator)"


def contenders(*extra: str) -> list[Contender]:
    """torch in both layouts, cold as shipped and with a warm allocator; native; then `extra`."""
    own = [Contender(name, name) for name in ("native", *extra)]
    for contender in own:
        if not backends()[contender.backend].available:
            raise RuntimeError(backends()[contender.backend].reason)
    warm = [Contender(c.label + WARM, c.backend, c.channels_last) for c in (TORCH, TORCH_CL)]
    return [TORCH, TORCH_CL, *warm, *own]


@pytest.fixture
def time_side_by_side(benchmark) -> Iterator[Callable]:
    """Times a prepared call: two warm-ups, then five rounds at least, 200 at most, for about 0.4 s.

    A round takes a millisecond or more, so that short calls are called often enough to settle.
    """

    def run(contender: Contender, prepare: Callable[[], Callable[[], object]]) -> None:
        def timed() -> None:
            call = prepare()
            call()
            rounds, iterations = _how_often(call)
            benchmark.pedantic(call, rounds=rounds, iterations=iterations)

        benchmark.extra_info["contender"] = contender.label
        if contender.label.endswith(WARM):
            with warm_allocator() as works:
                if not works:
                    pytest.skip("the allocator can be tuned with glibc only")
                timed()
        else:
            timed()

    return run


def _how_often(call: Callable[[], object]) -> tuple[int, int]:
    """Rounds, and calls in each of them."""
    from time import perf_counter

    started = perf_counter()
    call()
    seconds = max(perf_counter() - started, 1e-6)
    iterations = max(1, round(1e-3 / seconds))
    return max(5, min(200, int(0.4 / (seconds * iterations)))), iterations


@pytest.fixture
def fact(benchmark) -> Callable[..., None]:
    """Notes a row that is more than one timing: report.py prints its words."""

    def note(table: str, row: str, **columns: str) -> None:
        benchmark.extra_info.update(table=table, row=row, facts=columns)

    return note


def pytest_benchmark_update_machine_info(config, machine_info) -> None:
    machine_info["fastconv"] = machine()
