"""docs/extending.md: its blocks run in order, on tiny pictures.

Blocks that begin with a file's name are saved under it; diffs are applied to a copy of the sources,
which a process of its own then runs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_run import picture

from nst.config.presets import PRESETS

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
# What stands in the preset's place, so that a run takes a moment.
TINY = {"size": 48, "iterations": (4,), "scales": 1, "network": "builtin", "backend": "torch"}


def sections() -> dict[str, list[tuple[str, str]]]:
    """The blocks (language, text) below each heading."""
    parts = re.split(r"^## (.*)$", TEXT, flags=re.MULTILINE)[1:]
    pairs = zip(parts[::2], parts[1::2])
    return {
        title: re.findall(r"^```(\w*)\n(.*?)^```", part, re.DOTALL | re.MULTILINE)
        for title, part in pairs
    }


SECTIONS = {title: blocks for title, blocks in sections().items() if blocks}
CHANGING = [
    title for title, blocks in SECTIONS.items() if any(lang == "diff" for lang, _ in blocks)
]
GIVEN = [title for title in SECTIONS if title not in CHANGING]


def file_of(block: str) -> str:
    """The file that a block is, or nothing."""
    first = block.splitlines()[0]
    return first[2:] if re.fullmatch(r"# [\w/]+\.py", first) else ""


def commands(block: str) -> list[list[str]]:
    return [line.split() for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the blocks' files and pictures are, importable as they are for the user."""
    picture(1).save(tmp_path / "photo.jpg")
    picture(2, 36, 36).save(tmp_path / "painting.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def test_the_examples_are_all_there() -> None:
    assert GIVEN == [
        "A style loss",
        "A content loss",
        "An optimiser",
        "A network",
        "A term of the objective",
        "An output format",
    ]
    assert CHANGING == ["An option", "A command", "A backend of fastconv"]


@pytest.mark.parametrize("title", GIVEN)
def test_an_example_runs(title: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nst.cli.main import main
    from nst.outputs.writers import WRITERS

    monkeypatch.setitem(PRESETS, "quality", {**PRESETS["quality"], **TINY})
    rows = dict(WRITERS)
    names: dict[str, Any] = {}
    exec("import nst", names)
    try:
        for language, block in SECTIONS[title]:
            if file_of(block):
                (folder / file_of(block)).write_text(block, encoding="utf-8")
            elif language == "python":
                exec(compile(block, f"extending.md, {title}", "exec"), names)
            else:
                for program, *words in commands(block):
                    assert program == "nst"
                    assert main(words) == 0
                    assert (folder / "out.png").exists()
    finally:
        WRITERS.clear()
        WRITERS.update(rows)


def test_a_module_in_the_current_folder_is_found_by_the_installed_command(folder: Path) -> None:
    (file, *_) = (block for _, block in SECTIONS["A style loss"] if file_of(block))
    (folder / "my_style.py").write_text(file, encoding="utf-8")
    run = "import sys; sys.path.remove(''); from nst.cli.main import command; sys.exit(command())"
    words = "stylize photo.jpg painting.jpg -o out.png -s 48 -i 2 --network builtin --backend torch"
    loss = ["--style-loss", "my_style:ChannelStatistics"]
    subprocess.run([sys.executable, "-c", run, *words.split(), *loss], check=True)
    assert (folder / "out.png").exists()


def changed(source: str, hunk: str) -> str:
    """A file's text after one hunk of a diff, found by its lines."""
    lines = [line for line in hunk.splitlines() if line]
    before = "".join(f"{line[1:]}\n" for line in lines if line[0] != "+")
    after = "".join(f"{line[1:]}\n" for line in lines if line[0] != "-")
    assert source.count(before) == 1, f"expected once in the file:\n{before}"
    return source.replace(before, after)


def apply(diff: str, root: Path) -> None:
    for file, hunks in re.findall(r"^\+\+\+ b/(.*)\n((?:(?!--- a/).*\n)*)", diff, re.MULTILINE):
        path = root / file
        for hunk in re.split(r"^@@.*\n", hunks, flags=re.MULTILINE)[1:]:
            path.write_text(changed(path.read_text("utf-8"), hunk), encoding="utf-8")


# In place of the packages that are installed, those in the current folder.
RUNNER = """
import json, sys
sys.meta_path[:] = [f for f in sys.meta_path if "ScikitBuild" not in type(f).__name__]
sys.path.insert(0, "")
import nst.config.presets
nst.config.presets.PRESETS["quality"].update(json.loads(sys.argv[1]))
program, *words = sys.argv[2:]
if program == "nst":
    from nst.cli.main import main
else:
    from fastconv.cli import main
sys.exit(main(words))
"""


@pytest.mark.parametrize("title", CHANGING)
def test_a_change_of_the_sources_runs(title: str, folder: Path) -> None:
    for package in ("fastconv", "nst"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    for language, block in SECTIONS[title]:
        if file_of(block):
            (folder / file_of(block)).write_text(block, encoding="utf-8")
        elif language == "diff":
            apply(block, folder)
    words = [
        line for language, block in SECTIONS[title] if not language for line in commands(block)
    ]
    printed = [run_changed(line) for line in words]
    if title == "An option":
        assert ",mean" in (folder / "losses.csv").read_text().splitlines()[0]
        assert "--mean-weight" in run_changed(["nst", "stylize", "--help"])
    elif title == "A command":
        assert re.fullmatch(r"(#[0-9a-f]{6}\n){3}", printed[0])
        assert "palette" in run_changed(["nst", "--help"])
    else:
        assert "taps" in printed[0]
        assert "computed by taps on cpu" in printed[1]


def run_changed(words: list[str]) -> str:
    tiny = json.dumps(TINY if "--backend" not in words else {**TINY, "backend": "auto"})
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, tiny, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
