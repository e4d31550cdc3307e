"""What several files of tests start from."""

from __future__ import annotations

from pathlib import Path

import pytest
from patterns import pattern

from nst.networks.weights import Weights, obtain


@pytest.fixture(scope="session")
def vgg19() -> Weights:
    """VGG19 with its authors' weights, 80 MB: read once, and changed by no test."""
    return obtain("vgg19")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(6):
        (tmp_path / "plain").mkdir(exist_ok=True)
        pattern(i).save(tmp_path / "plain" / f"p{i}.png")
    return tmp_path / "plain"
