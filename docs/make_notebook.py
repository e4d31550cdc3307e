"""tutorial.py -> tutorial.ipynb, executed: `make tutorial`, or python docs/make_notebook.py.

The script is what is edited and what diffs well.  Cells begin with `# %%`, cells of text with
`# %% [markdown]`; text stands in comments.  If a cell fails, the error is shown and the notebook
stays as it was.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCRIPT, NOTEBOOK = HERE / "tutorial.py", HERE / "tutorial.ipynb"
MARK, TEXT = "# %%", "# %% [markdown]"


@dataclass(frozen=True)
class Cell:
    """A cell of the notebook: text or code."""

    is_text: bool
    source: str


def cells(script: str) -> list[Cell]:
    """The cells of a script in their order."""
    found: list[Cell] = []
    lines: list[str] = []
    kind: str | None = None
    for line in [*script.splitlines(), MARK]:
        if not line.startswith(MARK):
            lines.append(line)
            continue
        if kind is not None:
            is_text = kind == TEXT
            body = (
                [each.removeprefix("#").removeprefix(" ") for each in lines] if is_text else lines
            )
            found.append(Cell(is_text, "\n".join(body).strip("\n")))
        lines, kind = [], line.rstrip()
    return found


def notebook(script: str) -> Any:
    """A notebook of the script's cells, not yet executed; equal scripts give equal notebooks."""
    import nbformat.v4 as v4

    made = []
    for number, cell in enumerate(cells(script)):
        new = v4.new_markdown_cell if cell.is_text else v4.new_code_cell
        made.append(new(cell.source, id=f"cell-{number:02}"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return v4.new_notebook(cells=made, metadata={"kernelspec": kernel})


def execute(book: Any) -> None:
    """Run all cells in a fresh interpreter, in this folder; raises at the first error."""
    from nbclient import NotebookClient

    place = {"metadata": {"path": str(HERE)}}
    # Warnings of the kernel itself, such as that it talks over TCP, are none of the reader's.
    quiet = ["--log-level=ERROR"]
    NotebookClient(book, timeout=600, resources=place, extra_arguments=quiet).execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # times, different at every run
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    book.metadata.pop("language_info", None)  # the version of Python it happened to be


def _joined(outputs: list[Any]) -> list[Any]:
    """Printed text in one piece between pictures; how it arrives depends on the machine's mood."""
    kept: list[Any] = []
    for output in outputs:
        is_text = output.output_type == "stream"
        if is_text and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def main() -> int:
    try:
        import nbformat
        from nbclient.exceptions import CellExecutionError
    except ImportError:
        print("missing: nbclient and nbformat; pip install 'fastconv-nst[docs]'", file=sys.stderr)
        return 1
    started = time.perf_counter()
    book = notebook(SCRIPT.read_text(encoding="utf-8"))
    try:
        execute(book)
    except CellExecutionError as error:
        print(f"{SCRIPT.name}: {error}", file=sys.stderr)
        return 1
    temporary = NOTEBOOK.with_name(f".{NOTEBOOK.name}.part")
    try:
        nbformat.write(book, temporary)
        os.replace(temporary, NOTEBOOK)
    finally:
        temporary.unlink(missing_ok=True)
    size, seconds = NOTEBOOK.stat().st_size / 1e6, time.perf_counter() - started
    print(f"wrote {NOTEBOOK.name}: {len(book.cells)} cells, {size:.2f} MB, {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
