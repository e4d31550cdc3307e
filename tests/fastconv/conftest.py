"""The backends as a test's argument."""

from __future__ import annotations

import pytest

from fastconv import backends
from fastconv.registry import TABLE


@pytest.fixture(params=list(TABLE))
def backend(request: pytest.FixtureRequest) -> str:
    """Every row of the registry.  One that is missing fails
    test_registry.py::test_all_four_backends_are_available, and is skipped everywhere else.
    """
    info = backends()[request.param]
    if not info.available:
        pytest.skip(info.reason)
    return request.param
