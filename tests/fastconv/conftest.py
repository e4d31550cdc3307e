"""The backends as a test's argument."""

from __future__ import annotations

import pytest

from fastconv import backends
from fastconv.registry import TABLE


@pytest.fixture(params=list(TABLE))
def backend(request: pytest.FixtureRequest) -> str:
    """Every row of the registry."""
    return _available(request.param)


@pytest.fixture(params=[name for name in TABLE if name != "naive"])
def fast_backend(request: pytest.FixtureRequest) -> str:
    """Every row that is not loops in Python."""
    return _available(request.param)


def _available(name: str) -> str:
    """A missing one fails test_registry.py::test_all_four_backends_are_available, by name."""
    info = backends()[name]
    if not info.available:
        pytest.skip(info.reason)
    return name
