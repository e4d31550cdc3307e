"""What several files of tests start from."""

from __future__ import annotations

from pathlib import Path

import pytest
from patterns import pattern


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(6):
        (tmp_path / "plain").mkdir(exist_ok=True)
        pattern(i).save(tmp_path / "plain" / f"p{i}.png")
    return tmp_path / "plain"
