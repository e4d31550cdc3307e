"""Names that no file can have, and what is no regular file: one line, and exit code 2."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_run import CONTENT, STYLE

import nst
from nst.cli.main import main
from nst.cli.stylize import LONGEST_STEM
from nst.errors import OutputError, PictureError
from nst.files import read_file
from nst.outputs import check_writable
from nst.outputs.paths import check_outputs

LONG = "a" * 300
SMALL = "--size 40 --network builtin --backend torch -i 1 --scales 1 --style-layers relu1_1"
PAINT = f"stylize content.png style.png {SMALL} -o out.png"

# Wherever the command line takes the name of something that is read; {} stands for it.
READ = {
    "content": f"stylize {{}} style.png {SMALL} -o out.png",
    "style": f"stylize content.png {{}} {SMALL} -o out.png",
    "content without -o": f"stylize {{}} style.png {SMALL}",
    "mask": f"{PAINT} --mask {{}}",
    "init": f"{PAINT} --init {{}}",
    "weights": f"{PAINT} --weights {{}}",
    "config": f"{PAINT} --config {{}}",
    "resume": "stylize --resume {}",
    "from": "stylize --from {}",
    "show": "show {}",
    "compare": "compare {} style.png",
    "features": "features {} --network builtin",
    "features' weights": "features content.png --weights {}",
    "reconstruct": "reconstruct {} --network builtin",
    "animate": "animate {}",
    "train": "train --data {}",
    "train's start": "train --data pictures --start {} -s 16 --first-size 16 -e 1",
}
WRITTEN = {
    "output": f"stylize content.png style.png {SMALL} -o {{}}.png",
    "csv": f"{PAINT} --csv {{}}.csv",
    "plot": f"{PAINT} --plot {{}}.png",
    "animation": f"{PAINT} --animate {{}}.gif",
    "checkpoint": f"{PAINT} --checkpoint {{}}.ckpt",
    "folder": f"stylize content.png style.png {SMALL} -o {{}}/out.png",
    "folder of a missing one": f"stylize content.png style.png {SMALL} -o new/{{}}/out.png",
    "compare": "compare content.png style.png -o {}.png",
    "features": "features content.png --network builtin -o {}.png",
    "reconstruct": "reconstruct content.png --network builtin -o {}.png",
    "train": "train --data pictures -o {}.safetensors",
    "train's curves": "train --data pictures --tensorboard {}",
    "demo": "demo -o {} -s 32 -i 1",
}


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "pictures"):
        folder.mkdir(exist_ok=True)
        CONTENT.save(folder / "content.png")
        STYLE.save(folder / "style.png")
    return tmp_path


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """What waits for a pipe is woken, and fails."""

    def ring(*arguments: object) -> None:
        raise TimeoutError(f"still waiting after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refusal(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command says, which must be a refusal."""
    assert main(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nst: ")
    return line


@pytest.mark.parametrize("where", READ)
def test_a_name_too_long_to_be_read_is_refused_in_one_line(
    where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(READ[where].format(LONG), capsys)
    assert "too long" in line or "300 characters" in line
    assert len(line) < 300, "and is not printed in all its length"


@pytest.mark.parametrize("where", WRITTEN)
def test_a_name_too_long_to_be_written_is_refused_before_the_work(
    where: str, capsys: pytest.CaptureFixture[str], pictures: Path
) -> None:
    before = sorted(pictures.rglob("*"))
    assert "the name is too long" in refusal(WRITTEN[where].format(LONG), capsys)
    assert sorted(pictures.rglob("*")) == before


def test_a_name_that_leaves_no_characters_for_the_frames_is_refused_before_the_work() -> None:
    config = nst.StyleConfig(output=Path("a" * 245 + ".png"))
    check_outputs(config)
    with pytest.raises(OutputError, match="the name is too long"):
        check_outputs(config.but(save_every=1))


@pytest.mark.parametrize("letter", ["c", "\u00e9"])
def test_a_result_of_long_names_gets_a_shortened_one(letter: str) -> None:
    most = 240 // len(letter.encode())
    content, style = f"{letter * most}.png", f"{'s' * 240}.png"
    CONTENT.save(content)
    STYLE.save(style)
    words = ["stylize", content, style, *SMALL.split(), "--save-every", "1", "-q"]
    assert main(words) == 0
    assert main(words) == 0
    first, second = sorted(Path().glob(f"{letter * 9}*-s*.png"), key=lambda path: len(path.name))
    assert len(os.fsencode(first.stem)) <= LONGEST_STEM
    assert second.name == f"{first.stem}-2.png"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("where", sorted(READ.keys() - {"animate", "train"}))
def test_a_pipe_is_refused_and_not_waited_for(
    where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")
    with at_most(30):
        assert "pipe is a pipe; give a file" in refusal(READ[where].format("pipe"), capsys)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such device")
@pytest.mark.parametrize("where", sorted(READ.keys() - {"animate", "train"}))
def test_a_device_without_an_end_is_refused(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(READ[where].format("/dev/zero"), capsys)
    assert "/dev/zero is a device; give a file" in line


@pytest.mark.parametrize("where", sorted(READ.keys() - {"animate", "train"}))
def test_a_folder_is_called_a_folder(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "pictures is a folder; name a file in it" in refusal(
        READ[where].format("pictures"), capsys
    )


def test_a_file_too_large_to_be_a_picture_is_not_read(
    capsys: pytest.CaptureFixture[str], pictures: Path
) -> None:
    with open("large.png", "wb") as file:
        file.truncate(3 * 2**30)  # a hole: it takes no space
    line = refusal(f"stylize large.png style.png {SMALL} -o out.png", capsys)
    assert "large.png is too large: expected at most 2,147,483,648 bytes, got 3,221,225,472" in line


def test_no_more_is_read_than_the_file_had() -> None:
    Path("some").write_bytes(b"12345")
    assert read_file(Path("some"), PictureError, largest=5) == b"12345"
    with pytest.raises(PictureError, match="some is too large: expected at most 4 bytes, got 5"):
        read_file(Path("some"), PictureError, largest=4)


@pytest.mark.skipif(not hasattr(os, "pathconf"), reason="the system does not tell the length")
def test_a_missing_name_is_as_long_as_its_system_allows(tmp_path: Path) -> None:
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    check_writable(tmp_path / "new" / ("a" * (longest - 4) + ".png"))
    with pytest.raises(OutputError, match="the name is too long"):
        check_writable(tmp_path / "new" / ("a" * (longest - 3) + ".png"))
