"""What might surprise is reported; pictures come in files that are open, and from phones."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from small_run import CONTENT, SMALL, STYLE, picture

import nst
from nst.api import plan
from nst.cli.main import main
from nst.errors import OutputError, PictureError
from nst.outputs import animate, compare_sheet, read_settings
from nst.pictures.sizing import load_picture
from nst.run.observer import Observer

WORDS = ["--size", "40", "--network", "builtin", "--iterations", "1"]


class Listener(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    CONTENT.save("content.png")
    picture(2, 64, 64).save("style.png")
    frames = [picture(seed, 64, 64) for seed in (3, 4, 5)]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    return tmp_path


# ---------------------------------------------------------------- what is reported


def test_a_picture_that_is_enlarged_is_reported_and_the_result_says_so_too() -> None:
    result = nst.stylize("content.png", "style.png", output="o.png", **{**SMALL, "size": 48})
    remark = "content.png: enlarged from 40x30 to 48x36 pixels"
    assert result.notes == [remark]
    assert read_settings("o.png")["notes"] == [remark]


def test_a_style_that_is_enlarged_is_reported() -> None:
    assert nst.stylize(CONTENT, STYLE, **SMALL).notes == [
        "PIL picture: enlarged from 36x36 to 40x40 pixels"
    ]


def test_pictures_that_are_large_enough_need_no_remark() -> None:
    assert nst.stylize("content.png", "style.png", **SMALL).notes == []


@pytest.mark.parametrize("where", ["content", "style", "init", "mask"])
def test_of_an_animation_the_first_frame_is_taken_and_that_is_reported(where: str) -> None:
    given: dict[str, Any] = {"content": "content.png", "style": "style.png", where: "moving.gif"}
    result = nst.stylize(**given, **{**SMALL, "scales": 1})
    assert result.notes == ["moving.gif: of 3 frames the first is taken"]


def test_a_photograph_with_a_preview_in_it_is_no_animation(tmp_path: Path) -> None:
    picture(1).save("two.mpo", format="MPO", save_all=True, append_images=[picture(2)])
    with Image.open("two.mpo") as image:
        assert image.n_frames == 2
    assert load_picture("two.mpo").remarks == ()


def test_a_folder_that_is_made_is_reported_before_the_work() -> None:
    listener = Listener()
    options = {**SMALL, "output": "reslts/o.png", "csv": "reslts/o.csv"}
    result = nst.stylize("content.png", "style.png", observer=listener, **options)
    assert listener.notes == ["folder reslts is not there: it is made"]
    assert result.notes == [], "where it is would else go out with the picture"
    listener.notes.clear()
    nst.stylize("content.png", "style.png", observer=listener, **options)
    assert listener.notes == []


@pytest.mark.parametrize(
    "words",
    [
        "compare content.png style.png -o new/sheet.png",
        "features content.png --network builtin -s 32 -o new/maps.png",
        "reconstruct content.png --network builtin -s 32 -i 1 --layers relu1_1 -o new/r.png",
        "animate frames -o new/run.gif",
    ],
)
def test_every_command_reports_the_folder_that_it_makes(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("frames").mkdir()
    CONTENT.save("frames/f-000001.png")
    assert main(words.split()) == 0
    assert "folder new is not there: it is made" in capsys.readouterr().err.splitlines()


def test_training_reports_the_folder_that_it_makes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "-s 16 --first-size 16 -e 1 -b 3 --width 0.0625 --precision float32"
    assert main(["train", "--data", str(folder), "-o", "new/n.safetensors", *small.split()]) == 0
    assert "folder new is not there: it is made" in capsys.readouterr().err.splitlines()


def test_compare_features_and_reconstruct_report_what_they_do_with_pictures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (
        "compare moving.gif style.png",
        "features moving.gif --network builtin -s 32",
        "reconstruct moving.gif --network builtin -s 32 -i 1 --layers relu1_1",
    ):
        assert main(words.split()) == 0
        told = capsys.readouterr().err.splitlines()
        assert told[0] == "moving.gif: of 3 frames the first is taken"
    assert main(["features", "content.png", "--network", "builtin", "-s", "64"]) == 0
    assert "content.png: enlarged from 40x30 to 64x48 pixels" in capsys.readouterr().err


def test_a_plan_has_the_remarks(capsys: pytest.CaptureFixture[str]) -> None:
    config = nst.StyleConfig.of("quality", **SMALL)
    assert plan("moving.gif", "style.png", config)[-1] == (
        "note      moving.gif: of 3 frames the first is taken"
    )


# ---------------------------------------------------------------- files that are open


def in_memory(path: str) -> io.BytesIO:
    return io.BytesIO(Path(path).read_bytes())


def on_disk(path: str) -> io.BufferedReader:
    return Path(path).open("rb")


@pytest.mark.parametrize("opened", [in_memory, on_disk])
def test_every_option_that_takes_a_picture_takes_an_open_file(
    opened: Callable[[str], Any],
) -> None:
    names = {"content": "content.png", "style": "style.png", "init": "style.png"}
    names["mask"] = "content.png"
    by_path = nst.stylize(**names, **SMALL)
    files = {name: opened(path) for name, path in names.items()}
    by_file = nst.stylize(**files, **SMALL)
    assert torch.equal(by_path.rgb, by_file.rgb)
    digests = [by_path.settings[name]["sha256"] for name in ("content", "mask", "init")]
    assert digests == [by_file.settings[name]["sha256"] for name in ("content", "mask", "init")]
    for file in files.values():
        file.close()


def test_a_mask_that_is_an_open_file_serves_every_content() -> None:
    painter = nst.Stylizer(in_memory("style.png"), mask=in_memory("content.png"), **SMALL)
    assert torch.equal(painter("content.png").rgb, painter("content.png").rgb)


def test_sheets_and_animations_take_open_files(tmp_path: Path) -> None:
    compare_sheet([(in_memory("content.png"), "a")], tmp_path / "sheet.png")
    animate([in_memory("content.png")] * 2, tmp_path / "run.gif")
    assert (tmp_path / "run.gif").exists()


def test_an_open_file_is_known_by_its_name_and_not_replaced() -> None:
    with open("content.png", "rb") as file:
        assert load_picture(file).name == "content.png"
        with pytest.raises(OutputError, match="output would replace the content"):
            nst.stylize(file, "style.png", output="content.png", **SMALL)


def test_an_open_file_that_is_no_picture_is_refused_in_one_line() -> None:
    with open("content.png", encoding="latin-1") as text, pytest.raises(PictureError, match="'rb'"):
        load_picture(text)
    with pytest.raises(PictureError, match=r"<BytesIO>: expected a picture \(JPEG"):
        load_picture(io.BytesIO(b"hello"))
    at_its_end = in_memory("content.png")
    at_its_end.read()
    with pytest.raises(PictureError, match=r"seek\(0\) first"):
        load_picture(at_its_end)
    closed = in_memory("content.png")
    closed.close()
    with pytest.raises(PictureError, match="cannot be read: I/O operation on closed file"):
        load_picture(closed)


def test_no_more_is_read_of_an_open_file_than_a_picture_may_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nst.pictures.decoding.LARGEST_PICTURE", 2**20)
    with open("/dev/zero", "rb") as endless, pytest.raises(PictureError, match="1,048,576 bytes"):
        load_picture(endless)


# ---------------------------------------------------------------- pictures from phones


def test_heic_without_its_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    Path("phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))
    assert main(["stylize", "phone.heic", "style.png", *WORDS, "-o", "o.png"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "phone.heic: HEIC pictures need the extra `heif`" in line
    assert "pip install 'fastconv-nst[heif]'" in line


def test_heic_is_read_by_the_package_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    package = ModuleType("pillow_heif")
    package.register_heif_opener = lambda: asked.append("opener")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    data = b"\0\0\0\x18ftypheic" + bytes(200)
    with pytest.raises(PictureError, match="got something else"):  # the opener does nothing here
        load_picture(io.BytesIO(data))
    assert asked == ["opener"]


def test_a_real_heic_picture_is_read(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    heif.from_pillow(picture(1, 64, 48)).save(tmp_path / "phone.heic", quality=95)
    found = load_picture(tmp_path / "phone.heic")
    assert found.hw == (64, 48)
    assert float((found.rgb - load_picture(picture(1, 64, 48)).rgb).abs().mean()) < 0.02
