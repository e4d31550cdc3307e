"""What every benchmark file shares: the contenders, the allocator's state, the run's metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fastconv.benchmark import Contender
from fastconv.registry import backends
from fastconv.timing import machine, warm_allocator

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
    """Times a prepared call: two warm-ups, then rounds for about 0.4 s, five at least."""

    def run(contender: Contender, prepare: Callable[[], Callable[[], object]]) -> None:
        def timed() -> None:
            call = prepare()
            call()
            benchmark.pedantic(call, rounds=_rounds(call))

        benchmark.extra_info["contender"] = contender.label
        if contender.label.endswith(WARM):
            with warm_allocator() as works:
                if not works:
                    pytest.skip("the allocator can be tuned with glibc only")
                timed()
        else:
            timed()

    return run


def _rounds(call: Callable[[], object]) -> int:
    from time import perf_counter

    started = perf_counter()
    call()
    return max(5, min(200, int(0.4 / max(perf_counter() - started, 1e-6))))


@pytest.fixture
def fact(benchmark) -> Callable[..., None]:
    """Notes a row that is more than one timing: report.py prints its words."""

    def note(table: str, row: str, **columns: str) -> None:
        benchmark.extra_info.update(table=table, row=row, facts=columns)

    return note


def pytest_benchmark_update_machine_info(config, machine_info) -> None:
    machine_info["fastconv"] = machine()
