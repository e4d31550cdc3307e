"""docs/tutorial: every cell runs, and the notebook is what the script says, executed.

The cells run here at a smaller size; `make tutorial` runs them as they stand.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent / "docs"
SMALL: dict[str, Any] = {"DIGITS": 96, "SIZE": 80, "STEPS": 2, "SNAPSHOTS": (1, 2, 3)}


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_notebook", DOCS / "make_notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


CELLS = maker().cells((DOCS / "tutorial.py").read_text(encoding="utf-8"))
BOOK = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))


class Shown:
    """Stands in for IPython.display.Image and display, which are an extra: keeps what is shown."""

    def __init__(self) -> None:
        self.pictures: list[bytes] = []

    def image(self, data: bytes, **_: object) -> bytes:
        return data

    def display(self, data: bytes) -> None:
        self.pictures.append(data)


def test_every_cell_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, root, display = Shown(), ModuleType("IPython"), ModuleType("IPython.display")
    root.version_info, root.get_ipython = (9, 0), lambda: None  # type: ignore[attr-defined]
    display.Image, display.display = shown.image, shown.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", root)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    names: dict[str, Any] = {"__name__": "tutorial"}
    for number, cell in enumerate(CELLS):
        if cell.is_text:
            continue
        exec(compile(cell.source, f"tutorial.py, cell {number}", "exec"), names)
        if "SNAPSHOTS" in cell.source and "DIGITS" in cell.source:
            assert SMALL.keys() <= names.keys()
            names |= SMALL
    assert len(shown.pictures) == 16
    assert all(picture[:4] in (b"\x89PNG", b"GIF8") for picture in shown.pictures)
    told = capsys.readouterr().out
    assert "the upper left corner gives 8" in told
    assert "Careless: backward is WRONG" in told
    assert told.count("backward is right") == 5
    assert len(names["result"].losses) == 3


def test_ten_sections() -> None:
    text = "\n".join(cell.source for cell in CELLS if cell.is_text)
    assert re.findall(r"^## (\d+)\.", text, re.MULTILINE) == [str(n) for n in range(1, 11)]


def test_the_notebook_is_made_from_the_script() -> None:
    kept = [(c["cell_type"] == "markdown", "".join(c["source"])) for c in BOOK["cells"]]
    assert kept == [(cell.is_text, cell.source) for cell in CELLS], "run `make tutorial`"


def test_the_notebook_is_executed_without_errors() -> None:
    code = [cell for cell in BOOK["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    assert not [o for o in outputs if o.get("name") == "stderr"]
    pictures = [o for o in outputs if {"image/png", "image/gif"} & set(o.get("data", {}))]
    assert len(pictures) == 16


def test_the_notebook_is_small_and_knows_no_machine() -> None:
    text = (DOCS / "tutorial.ipynb").read_text(encoding="utf-8")
    assert len(text) < 1_500_000
    printed = [
        "".join(output.get("text", ""))
        for cell in BOOK["cells"]
        for output in cell.get("outputs", [])
    ]
    assert not re.search(r"(^|[\s'\"])/(tmp|home|work|usr|root|Users)/", "".join(printed))
    assert set(BOOK["metadata"]) == {"kernelspec"}


def test_cells_are_told_apart() -> None:
    found = maker().cells("# %% [markdown]\n# # A\n#\n# b\n\n# %%\nx = 1  # c\n\n\n# %%\ny = 2\n")
    assert [(cell.is_text, cell.source) for cell in found] == [
        (True, "# A\n\nb"),
        (False, "x = 1  # c"),
        (False, "y = 2"),
    ]
