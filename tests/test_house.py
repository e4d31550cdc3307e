"""docs/house.md tells of the folders as they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "house.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", DOCS / "house.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_listed_imports_are_those_of_the_sources(house: ModuleType) -> None:
    listed = PAGE.split(house.BEGIN)[1].split(house.END)[0]
    expected = f"\n```text\n{house.lines()}\n```\n"
    assert listed == expected, "imports have changed: run `python docs/house.py`"


def test_every_folder_is_in_a_table(house: ModuleType) -> None:
    for package in house.PACKAGES:
        for folder in house.inside(package):
            assert f"`{folder}`" in PAGE


def test_every_folder_is_in_the_figure(house: ModuleType) -> None:
    figure = (DOCS / "house.svg").read_text(encoding="utf-8")
    for package in house.PACKAGES:
        for folder in house.inside(package):
            assert f">{folder.split('.')[1]}</text>" in figure


def test_the_figure_can_be_drawn(house: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    house.FIGURE = tmp_path / "house.svg"
    house.draw()
    assert house.FIGURE.read_text(encoding="utf-8").startswith("<?xml")
