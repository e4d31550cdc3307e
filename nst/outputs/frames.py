"""Frames of a run, named by iteration, and the animations made of them."""

from __future__ import annotations

import io
import math
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import OutputError, PictureError
from ..files import missing_folder, shown
from .atomic import atomic_path
from .writers import WRITERS, save_picture, to_pixels

DIGITS = 6
_HOLD_SECONDS = 1.5  # the last frame, the finished picture, stays this much longer
_PALETTE_FRAMES = 8  # the shared palette of a GIF is taken from so many frames


def frame_name(stem: str, iteration: int) -> str:
    return f"{stem}-{iteration:0{DIGITS}d}.png"


class FrameWriter:
    """Writes `folder/stem-000050.png` and so on; the names sort in the order of the run."""

    def __init__(self, folder: str | os.PathLike[str], stem: str = "frame") -> None:
        self.folder = Path(folder)
        self.stem = stem
        self.paths: list[Path] = []

    def save(self, iteration: int, rgb: torch.Tensor) -> Path:
        path = save_picture(self.folder / frame_name(self.stem, iteration), rgb)
        self.paths.append(path)
        return path


def animate(
    frames: str | os.PathLike[str] | Iterable[Any],
    out_path: str | os.PathLike[str],
    fps: float = 12,
) -> Path:
    """Make a .gif or .mp4 of a folder of frames, or of paths, PIL pictures or tensors in order.

    Every frame is brought to the last one's size, since the frames of a pyramid grow; the last
    is held for a while.
    """
    target = Path(out_path)
    animator = animator_for(target, fps)
    reel = _Reel(_frames_of(frames))
    with atomic_path(target) as temporary:
        animator.write(temporary, reel, fps)
    return target


def animator_for(path: Path, fps: float) -> Animator:
    """The row of a path's suffix, or OutputError if it cannot be written so, or not here."""
    animator = ANIMATORS.get(path.suffix.lower())
    if animator is None:
        got = f"'{path.suffix}'" if path.suffix else "no suffix"
        raise OutputError(f"{path}: expected one of {', '.join(ANIMATORS)}, got {got}")
    if not (math.isfinite(fps) and 0 < fps <= animator.fastest):
        raise OutputError(
            f"{path}: fps expects a number above 0, {animator.fastest} at most, got {fps!r}"
        )
    if animator.needs and find_spec(animator.needs) is None:
        raise OutputError(
            f"{path.suffix} needs the extra `plot`: pip install 'fastconv-nst[plot]'; "
            "or write a .gif"
        )
    return animator


def _frames_of(frames: str | os.PathLike[str] | Iterable[Any]) -> list[Any]:
    if not isinstance(frames, (str, os.PathLike)):
        listed = list(frames)
        if not listed:
            raise PictureError("expected one frame or more to animate, got none")
        return listed
    folder = Path(frames)
    if missing := missing_folder(folder):
        raise PictureError(f"expected a folder of frames: {shown(folder)} {missing}")
    pictures = [p for p in folder.iterdir() if p.suffix.lower() in WRITERS and p.name[0] != "."]
    numbered = [p for p in pictures if re.search(r"-\d+$", p.stem)]
    if not pictures:
        raise PictureError(
            f"{folder}: expected frames ({', '.join(WRITERS)}), got none; "
            "write some with --save-every"
        )
    return sorted(numbered or pictures, key=_running_order)


def _running_order(path: Path) -> tuple[str, int, str]:
    match = re.fullmatch(r"(.*?)(\d*)", path.stem)
    stem, number = match.groups() if match else (path.stem, "")
    return (stem, int(number or 0), path.name)


class _Reel:
    """Frames as RGB pictures of one even-sided size, each read when it is asked for."""

    def __init__(self, frames: Sequence[Any]) -> None:
        self._frames = frames
        width, height = _picture_of(frames[-1]).size
        # Video in 4:2:0 has one colour for two by two pixels: an odd row or column goes.
        self.size = (max(2, width - width % 2), max(2, height - height % 2))

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Image.Image]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Image.Image:
        image = _picture_of(self._frames[i])
        width, height = self.size
        if abs(image.width * height - image.height * width) > 0.05 * width * image.height + width:
            name = _name_of(self._frames[i], i)
            raise PictureError(
                f"{name}: expected the shape of the last one ({width}x{height}), "
                f"got {image.width}x{image.height}; animate one run at a time"
            )
        if image.width - width in (0, 1) and image.height - height in (0, 1):
            return image.crop((0, 0, width, height))
        return image.resize(self.size, Image.Resampling.BICUBIC)


def _name_of(frame: Any, i: int) -> str:
    return Path(frame).name if isinstance(frame, (str, os.PathLike)) else f"frame {i + 1}"


def _picture_of(frame: Any) -> Image.Image:
    if isinstance(frame, torch.Tensor):
        return Image.fromarray(to_pixels(frame))
    from ..pictures.sizing import load_picture

    return Image.fromarray(to_pixels(load_picture(frame).rgb))


def _write_gif(path: Path, reel: _Reel, fps: float) -> None:
    palette = _shared_palette(reel)
    dither = Image.Dither.FLOYDSTEINBERG
    indexed = [frame.quantize(palette=palette, dither=dither) for frame in reel]
    duration = round(1000 / fps)
    durations = [duration] * (len(indexed) - 1) + [duration + round(1000 * _HOLD_SECONDS)]
    encoded = io.BytesIO()  # see save_picture
    indexed[0].save(
        encoded,
        "GIF",
        save_all=True,
        append_images=indexed[1:],
        duration=durations if len(indexed) > 1 else durations[0],
        loop=0,
        disposal=1,
    )
    path.write_bytes(encoded.getbuffer())


def _shared_palette(reel: _Reel) -> Image.Image:
    """256 colours for all frames: a palette per frame would flicker where little changes."""
    count = min(_PALETTE_FRAMES, len(reel))
    chosen = np.linspace(0, len(reel) - 1, count).round().astype(int)
    thumbs = []
    for i in chosen:
        thumb = reel[int(i)]
        thumb.thumbnail((256, 256))
        thumbs.append(thumb)
    montage = Image.new("RGB", (max(t.width for t in thumbs), sum(t.height for t in thumbs)))
    top = 0
    for thumb in thumbs:
        montage.paste(thumb, (0, top))
        top += thumb.height
    return montage.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=2)


def _write_mp4(path: Path, reel: _Reel, fps: float) -> None:
    import imageio_ffmpeg  # type: ignore[import-untyped]

    width, height = reel.size
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)]
    # crf 16: brush strokes are as hard to pack as noise, and the default smears them.
    target = ["-c:v", "libx264", "-crf", "16", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *source, "-i", "-", *target]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen([*command, str(path)], stdin=subprocess.PIPE, stderr=log) as ffmpeg,
    ):
        try:
            _feed(ffmpeg, reel, round(_HOLD_SECONDS * fps))
        except BaseException:
            ffmpeg.kill()
            raise
        if ffmpeg.wait() != 0:
            log.seek(0)
            said = " ".join(log.read().decode(errors="replace").split()) or "no reason given"
            raise OSError(f"ffmpeg failed ({ffmpeg.returncode}): {said[-200:]}")


def _feed(ffmpeg: subprocess.Popen[bytes], reel: _Reel, held: int) -> None:
    assert ffmpeg.stdin is not None
    with suppress(BrokenPipeError):  # its exit status and its message say more
        for frame in reel:
            pixels = frame.tobytes()
            ffmpeg.stdin.write(pixels)
        for _ in range(held):
            ffmpeg.stdin.write(pixels)
        ffmpeg.stdin.flush()
    with suppress(BrokenPipeError):
        ffmpeg.stdin.close()


@dataclass(frozen=True)
class Animator:
    """One animation format; `fastest` is what players keep up with, `needs` a package."""

    write: Callable[[Path, _Reel, float], None]
    fastest: int
    needs: str = ""


# Browsers slow a GIF down to 10 frames per second when a frame is shorter than 20 ms.
ANIMATORS = {".gif": Animator(_write_gif, 50), ".mp4": Animator(_write_mp4, 120, "imageio_ffmpeg")}
