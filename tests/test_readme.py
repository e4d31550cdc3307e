"""What README promises: its commands exist, its Python runs, its links lead somewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.split("#")[0].split()
    for language, block in BLOCKS
    if not language
    for line in block.splitlines()
    if line.startswith(("fastconv ", "nst ", "make "))
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_exists(words: list[str]) -> None:
    program, command = words[:2]
    if program == "make":
        assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    elif program == "nst":
        from nst.cli.commands import COMMANDS as NST_COMMANDS
        from nst.cli.main import ABOUT, _parsed
        from nst.cli.stylize import stylize_config

        assert command in ABOUT
        if command in NST_COMMANDS:
            assert _parsed(NST_COMMANDS[command], command, words[2:]) is not None
        elif not {"--help", "--resume", "--from", "--config"} & set(words):  # these open files
            assert stylize_config(words[2:], _parsed) is not None
    else:
        from fastconv.cli import _parser

        arguments = _parser().parse_args(words[1:])
        assert callable(arguments.run)


def test_python_about_convolutions_runs() -> None:
    (block,) = (b for language, b in BLOCKS if language == "python" and "import fastconv" in b)
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["relu1_1"].shape == (1, 64, 256, 256)


def test_python_about_style_transfer_names_real_options() -> None:
    (block,) = (b for language, b in BLOCKS if language == "python" and "import nst" in b)
    import nst
    from nst.config.options import StyleConfig

    compile(block, "README.md", "exec")
    assert callable(nst.stylize)
    for option in re.findall(r"(\w+)=", re.search(r"stylize\((.*?)\)", block).group(1)):
        assert option in {field.name for field in StyleConfig.__dataclass_fields__.values()}


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", README))
def test_every_link_leads_to_a_file(target: str) -> None:
    assert (ROOT / target).exists()


def test_the_short_table_is_the_benchmarks_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import report

    monkeypatch.delitem(sys.modules, "report")
    measured = (ROOT / "bench" / "results" / "cpu.md").read_text(encoding="utf-8")
    begin, end = report.IN_README
    assert README.split(begin)[1].split(end)[0].strip() == report.short_table(measured)
