"""Frames and the animations made of them: whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import gradient, left_in
from PIL import Image

from nst.errors import OutputError, PictureError
from nst.outputs import (
    ANIMATORS,
    FrameWriter,
    animate,
    save_picture,
)


def test_frames_are_named_by_iteration_and_sort_in_order(tmp_path: Path) -> None:
    frames = FrameWriter(tmp_path / "frames", "run")
    for iteration in (0, 50, 1000):
        frames.save(iteration, gradient())
    assert left_in(tmp_path / "frames") == ["run-000000.png", "run-000050.png", "run-001000.png"]
    assert [path.name for path in frames.paths] == left_in(tmp_path / "frames")


def shades(sizes: list[tuple[int, int]]) -> list[torch.Tensor]:
    """Plain frames from dark to light, of the sizes (h, w)."""
    return [torch.full((1, 3, *hw), i / (len(sizes) - 1)) for i, hw in enumerate(sizes)]


def test_a_gif_has_all_frames_at_the_last_ones_size(tmp_path: Path) -> None:
    sizes = [(12, 16), (24, 32), (37, 49)]
    path = animate(shades(sizes), tmp_path / "x.gif", fps=10)
    with Image.open(path) as image:
        assert image.size == (48, 36)
        assert image.n_frames == 3
        assert image.info["loop"] == 0
        levels, durations = [], []
        for i in range(3):
            image.seek(i)
            levels.append(image.convert("RGB").getpixel((5, 5))[0])
            durations.append(image.info["duration"])
    assert levels == pytest.approx([0, 128, 255], abs=3)
    assert durations == [100, 100, 1600]


def test_a_gifs_palette_serves_all_frames(tmp_path: Path) -> None:
    frames = [gradient(48, 64), gradient(48, 64).flip(1), gradient(48, 64).flip(3)]
    path = animate(frames, tmp_path / "x.gif", fps=10)
    with Image.open(path) as image:
        for i, frame in enumerate(frames):
            image.seek(i)
            got = np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1) / 255
            assert np.abs(got - frame[0].numpy()).mean() < 0.02


def test_an_mp4_has_even_sides_and_holds_the_last_frame(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra `plot` is missing")
    path = animate(shades([(33, 47)] * 4), tmp_path / "x.mp4", fps=8)
    decode = ["-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run([ffmpeg.get_ffmpeg_exe(), *decode], capture_output=True, check=True)
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, 32, 46, 3)
    assert len(frames) == 4 + 12
    assert frames[:4].mean(axis=(1, 2, 3)) == pytest.approx([0, 85, 170, 255], abs=6)
    assert frames[-1].mean() == pytest.approx(255, abs=6)


def test_a_folder_is_animated_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    frames = FrameWriter(tmp_path, "run")
    for iteration, frame in ((1000000, 1.0), (20, 0.0), (900, 0.5)):
        frames.save(iteration, torch.full((1, 3, 16, 16), frame))
    save_picture(tmp_path / "result.png", torch.rand(1, 3, 16, 16))  # no number: no frame
    with Image.open(animate(tmp_path, tmp_path / "x.gif", fps=10)) as image:
        levels = []
        for i in range(image.n_frames):
            image.seek(i)
            levels.append(image.convert("RGB").getpixel((3, 3))[0])
    assert levels == pytest.approx([0, 128, 255], abs=3)


@pytest.mark.parametrize(
    ("name", "fps", "message"),
    [
        ("x.avi", 10, r"expected one of \.gif, \.mp4, got '\.avi'"),
        ("x", 10, "got no suffix"),
        ("x.gif", 0, "fps expects a number above 0, 50 at most, got 0"),
        ("x.gif", 100, "50 at most"),
        ("x.mp4", float("nan"), "fps expects"),
    ],
)
def test_an_impossible_animation_is_refused(
    tmp_path: Path, name: str, fps: float, message: str
) -> None:
    with pytest.raises(OutputError, match=message):
        animate([gradient()], tmp_path / name, fps)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("suffix", ANIMATORS)
def test_frames_of_two_shapes_are_refused_and_leave_nothing(tmp_path: Path, suffix: str) -> None:
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg", reason="the extra `plot` is missing")
    with pytest.raises(
        PictureError, match=r"frame 1: expected the shape of the last one \(30x20\)"
    ):
        animate([gradient(20, 60), gradient(20, 30)], tmp_path / f"x{suffix}")
    assert left_in(tmp_path) == []


def test_nothing_to_animate_is_told(tmp_path: Path) -> None:
    for frames, message in (
        (tmp_path, "expected frames"),
        (tmp_path / "nowhere", "does not exist"),
        ([], "got none"),
    ):
        with pytest.raises(PictureError, match=message):
            animate(frames, tmp_path / "x.gif")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(OutputError, match=r"pip install 'fastconv-nst\[plot\]'"):
        animate([gradient()], tmp_path / "x.mp4")
    assert left_in(tmp_path) == []
