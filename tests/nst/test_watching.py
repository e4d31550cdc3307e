"""What watches a run: progress on a terminal and in a pipe, frames, checkpoints."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import nst
from nst.errors import OutputError
from nst.observers.progress import Bar, LogLines, losses_in_words, seconds_in_words
from nst.outputs import read_settings
from nst.outputs.paths import checkpoint_path
from nst.outputs.sealed import _save
from nst.run.checkpoint import load
from nst.run.observer import Observer, Observers

SMALL: dict[str, Any] = {
    "size": 24,
    "network": "builtin",
    "backend": "torch",
    "style_layers": ("relu1_1",),
    "content_layers": ("relu1_2",),
    "iterations": (4, 3),
    "scales": 2,
}
CONTENT = Image.effect_mandelbrot((24, 20), (-2, -1, 1, 1), 20).convert("RGB")
STYLE = Image.radial_gradient("L").convert("RGB").resize((24, 24))


def watched(observer: Observer) -> nst.Result:
    return nst.stylize(CONTENT, STYLE, observer=observer, **SMALL)


def test_lines_tell_the_first_and_last_step_of_each_scale() -> None:
    stream = io.StringIO()
    watched(LogLines(stream))
    lines = stream.getvalue().splitlines()
    assert [line.split("iteration ")[1].split()[0] for line in lines] == [
        "1/7",
        "4/7",
        "5/7",
        "7/7",
    ]
    assert "loss" in lines[-1]
    assert "s/it" not in lines[0], "of one iteration no pace is known"
    assert "s/it" in lines[-1]


@pytest.mark.parametrize("kind", [LogLines, Bar])
def test_a_run_goes_on_when_nobody_reads_any_more(kind: Any) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    assert len(watched(kind(Gone())).losses) == 7


def test_transparency_that_jpeg_cannot_hold_is_told_of(tmp_path: Path) -> None:
    clear = CONTENT.copy()
    clear.putalpha(120)
    for suffix, count in ((".jpg", 1), (".png", 0)):
        result = nst.stylize(clear, STYLE, output=tmp_path / f"out{suffix}", **SMALL)
        assert sum("JPEG has no transparency" in note for note in result.notes) == count


def test_a_bar_ends_full_and_names_the_scale() -> None:
    stream = io.StringIO()
    bar = Bar(stream)
    watched(bar)
    assert "7/7" in stream.getvalue()
    assert "scale 2/2 24x20" in stream.getvalue()
    assert bar.bar.disable or bar.bar.n == 7


def test_downloads_are_told_by_quarters_in_a_pipe() -> None:
    stream = io.StringIO()
    lines = LogLines(stream)
    for done in range(0, 101, 10):
        lines.downloading(done << 20, 100 << 20)
    assert stream.getvalue().splitlines() == [
        f"weights: {mb} of 100 MB" for mb in (30, 50, 80, 100)
    ]


def test_several_observers_see_the_same() -> None:
    class Counting(Observer):
        steps, closed, notes = 0, 0, 0

        def step(self, step: nst.Step) -> None:
            self.steps += 1

        def close(self) -> None:
            self.closed += 1

        def note(self, text: str) -> None:
            self.notes += 1

    both = Counting(), Counting()
    observers = Observers(*both)
    observers.note("hello")
    watched(observers)
    assert [(o.steps, o.closed, o.notes) for o in both] == [(7, 1, 1)] * 2


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0:00"), (75, "1:15"), (3599.7, "1:00:00"), (7325, "2:02:05")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert seconds_in_words(seconds) == words


def test_losses_in_words() -> None:
    row = {"total": 0.123456, "content": 12.0, "style": 1e-7}
    assert losses_in_words(row) == "loss 0.1235 content 12 style 1e-07"


def test_checkpoints_are_kept_by_the_clock_and_removed_at_the_end(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(step: nst.Step) -> None:
        seen.append(load(tmp_path / "out.ckpt").state["done"])

    nst.stylize(
        CONTENT,
        STYLE,
        output=tmp_path / "out.png",
        checkpoint_minutes=0.0,
        callback=look,
        **SMALL,
    )
    assert seen == [1, 2, 3, 4, 1, 2, 3]
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_no_checkpoint_is_written_before_its_time(tmp_path: Path) -> None:
    def look(step: nst.Step) -> None:
        assert list(tmp_path.iterdir()) == []

    nst.stylize(CONTENT, STYLE, output=tmp_path / "out.png", callback=look, **SMALL)


def test_the_checkpoint_goes_where_it_is_told_or_beside_the_result() -> None:
    config = nst.StyleConfig(output=Path("a/out.tif"))
    assert checkpoint_path(config) == Path("a/out.ckpt")
    assert checkpoint_path(config.but(checkpoint=Path("b.ckpt"))) == Path("b.ckpt")
    assert checkpoint_path(nst.StyleConfig()) is None


class FullDisk:
    """Stands for os.fsync: below `folder` the disk is full while `full` is true."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: str, full: bool = True) -> None:
        self.folder, self.full, self.fsync = folder, full, os.fsync
        monkeypatch.setattr("nst.outputs.atomic.os.fsync", self)
        monkeypatch.setattr("nst.outputs.atomic.open", self.open, raising=False)

    def open(self, path: Path, mode: str) -> Any:
        if self.full and self.folder in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return open(path, mode)

    def __call__(self, number: int) -> None:
        self.fsync(number)


def test_a_checkpoint_that_finds_the_disk_full_is_told_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FullDisk(monkeypatch, "full")
    result = nst.stylize(
        CONTENT,
        STYLE,
        output=tmp_path / "out.png",
        checkpoint=tmp_path / "full" / "run.ckpt",
        checkpoint_minutes=0.0,
        **SMALL,
    )
    (note,) = result.notes
    assert note.startswith("no checkpoint: ")
    assert "the disk is full" in note
    assert len(result.losses) == 7
    assert [p.name for p in tmp_path.rglob("*.*")] == ["out.png"]


def test_a_frame_that_finds_the_disk_full_ends_the_run_but_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch, "frames", full=False)

    def fill(step: nst.Step) -> None:
        disk.full = step.iteration == 3

    options = {"output": tmp_path / "out.png", "save_every": 1, **SMALL}
    with pytest.raises(
        OutputError, match=r"disk is full.*go on with: nst stylize --resume"
    ) as told:
        nst.stylize(CONTENT, STYLE, callback=fill, **options)
    assert "\n" not in str(told.value)
    assert read_settings(tmp_path / "out.png")["iterations"] == 4
    disk.full = False
    resumed = nst.stylize(resume=tmp_path / "out.ckpt")
    assert torch.equal(resumed.rgb, watched(Observer()).rgb)


def test_a_result_that_cannot_be_written_at_the_end_is_kept_in_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch, "full")
    options = {"output": tmp_path / "full" / "out.png", "checkpoint": tmp_path / "run.ckpt"}
    with pytest.raises(OutputError, match=r"disk is full.*--resume .*run\.ckpt"):
        nst.stylize(CONTENT, STYLE, **options, **SMALL)
    disk.full = False
    resumed = nst.stylize(resume=tmp_path / "run.ckpt", output=tmp_path / "out.png")
    assert torch.equal(resumed.rgb, watched(Observer()).rgb)
    assert len(resumed.losses) == 7


def test_where_the_checkpoint_has_no_room_either_it_goes_to_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FullDisk(monkeypatch, "full")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spare"))
    with pytest.raises(OutputError, match=r"disk is full.*--resume .*spare.nst-out\.ckpt"):
        nst.stylize(CONTENT, STYLE, output=tmp_path / "full" / "out.png", **SMALL)
    resumed = nst.stylize(resume=tmp_path / "spare" / "nst-out.ckpt", output=tmp_path / "out.png")
    assert torch.equal(resumed.rgb, watched(Observer()).rgb)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_is_told_by_its_name_although_torch_hides_it() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file, pytest.raises(OSError, match="space"):
        _save({"a": torch.zeros(9)}, file)


def test_frames_for_an_animation_are_cleared_up_when_the_run_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail(step: nst.Step) -> None:
        assert len(list(tmp_path.iterdir())) == 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        nst.stylize(CONTENT, STYLE, animate=tmp_path / "run.gif", callback=fail, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_result_can_be_saved_with_its_settings(tmp_path: Path) -> None:
    result = watched(Observer())
    result.save(tmp_path / "out.webp")
    assert read_settings(tmp_path / "out.webp")["config"]["size"] == 24
