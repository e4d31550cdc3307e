"""What holds for every test: a known seed, and no choice of backend that leaks into the next."""

from __future__ import annotations

import extension  # noqa: F401  (before fastconv looks for its own)
import pytest
import torch

from fastconv import registry


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a few seconds (-m 'not slow' skips)")


@pytest.fixture(autouse=True)
def _known_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_backend_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(registry.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(registry.CHOICE, "chosen", None)
