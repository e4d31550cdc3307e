"""Writing pictures and their settings: whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import gradient, left_in
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

import nst.outputs.atomic as atomic
from nst.errors import OutputError, PictureError
from nst.outputs import (
    ANIMATORS,
    WRITERS,
    animate,
    atomic_path,
    check_writable,
    read_settings,
    save_picture,
    srgb_profile,
)
from nst.pictures.sizing import load_picture

SETTINGS = {
    "size": 512,
    "style_weight": 1e6,
    "styles": ["a.png", "ü \u65e5\u672c.jpg"],
    "mask": None,
}
TOLERANCE = {".png": 0.5, ".tif": 0.5, ".tiff": 0.5, ".jpg": 8, ".jpeg": 8, ".webp": 12}  # of 255


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("with_alpha", [False, True])
def test_a_picture_comes_back_with_its_settings(
    tmp_path: Path, suffix: str, with_alpha: bool
) -> None:
    rgb = gradient()
    alpha = torch.linspace(0.2, 1, 30).expand(1, 1, 20, 30) if with_alpha else None
    path = save_picture(tmp_path / f"out{suffix}", rgb, alpha, SETTINGS)
    picture = load_picture(path)
    wanted = rgb
    if with_alpha and suffix in (".jpg", ".jpeg"):
        wanted = rgb * alpha + (1 - alpha)  # on white
        assert picture.alpha is None
    elif with_alpha:
        assert picture.alpha is not None
        assert float((picture.alpha - alpha).abs().max()) <= 0.51 / 255
    assert float((picture.rgb - wanted).abs().max()) <= (TOLERANCE[suffix] + 0.01) / 255
    assert read_settings(path) == SETTINGS
    assert left_in(tmp_path) == [f"out{suffix}"]


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("bits", [8, 16])
def test_every_picture_says_that_it_is_srgb(tmp_path: Path, suffix: str, bits: int) -> None:
    if bits not in WRITERS[suffix].bits:
        with pytest.raises(OutputError, match=r"expected 8 bits.*got 16; 16 go with \.png"):
            save_picture(tmp_path / f"out{suffix}", gradient(), bits=bits)
        return
    path = save_picture(tmp_path / f"out{suffix}", gradient(), bits=bits)
    with Image.open(path) as image:
        assert image.info["icc_profile"] == srgb_profile()
    profile = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
    assert "sRGB" in ImageCms.getProfileDescription(profile)


def png_pixels(path: Path) -> np.ndarray:
    """The 16-bit values of a PNG, decoded here: Pillow reads colour with 8 bits only."""
    data, at, packed, header = path.read_bytes(), 8, b"", ()
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert checksum == zlib.crc32(kind + body)
        header = struct.unpack(">IIBB", body[:10]) if kind == b"IHDR" else header
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    width, height, bits, colour = header
    assert bits == 16
    channels = {2: 3, 6: 4}[colour]
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    assert (lines[:, 0] == 2).all()
    rows = np.cumsum(lines[:, 1:].astype(np.uint64), axis=0).astype(np.uint8)
    return rows.copy().view(">u2").reshape(height, width, channels)


def tiff_pixels(path: Path) -> np.ndarray:
    """The 16-bit values of a TIFF, found through Pillow's reading of its tags."""
    with Image.open(path) as image:
        tags = dict(image.tag_v2)
    assert set(tags[258]) == {16}
    start, length = tags[273][0], tags[279][0]
    raw = zlib.decompress(path.read_bytes()[start : start + length])
    return np.frombuffer(raw, "<u2").reshape(tags[257], tags[256], tags[277])


@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize(("suffix", "decode"), [(".png", png_pixels), (".tif", tiff_pixels)])
def test_sixteen_bits_are_really_written(
    tmp_path: Path, suffix: str, decode: Any, with_alpha: bool
) -> None:
    rgb = torch.linspace(0, 1, 8 * 401).reshape(1, 1, 8, 401).expand(1, 3, 8, 401)
    alpha = torch.rand(1, 1, 8, 401) if with_alpha else None
    path = save_picture(tmp_path / f"deep{suffix}", rgb, alpha, SETTINGS, bits=16)
    planes = rgb if alpha is None else torch.cat([rgb, alpha], 1)
    wanted = planes[0].movedim(0, -1).double().numpy() * 65535
    assert np.abs(decode(path).astype(float) - wanted).max() <= 0.51
    assert read_settings(path) == SETTINGS
    assert float((load_picture(path).rgb - rgb).abs().max()) < 1 / 255


def test_values_are_rounded_and_clamped(tmp_path: Path) -> None:
    rgb = torch.tensor([-0.5, 100.4 / 255, 100.6 / 255, 1.5]).reshape(1, 1, 1, 4)
    path = save_picture(tmp_path / "x.png", rgb.expand(1, 3, 9, 4))
    with Image.open(path) as image:
        assert [image.getpixel((i, 0))[0] for i in range(4)] == [0, 100, 101, 255]


def test_the_same_picture_gives_the_same_bytes(tmp_path: Path) -> None:
    for suffix in WRITERS:
        a, b = (save_picture(tmp_path / f"{n}{suffix}", gradient(), None, SETTINGS) for n in "ab")
        assert a.read_bytes() == b.read_bytes()


def test_quality_trades_size_for_fidelity(tmp_path: Path) -> None:
    noise = torch.rand(1, 3, 64, 64)
    sizes = [save_picture(tmp_path / f"{q}.jpg", noise, quality=q).stat().st_size for q in (30, 95)]
    assert sizes[0] < sizes[1]
    lossless = save_picture(tmp_path / "x.webp", noise, quality=100)
    assert float((load_picture(lossless).rgb - noise).abs().max()) <= 0.51 / 255


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("x.xyz", {}, r"expected one of \.png, .*, got '\.xyz'"),
        ("x", {}, "got no suffix"),
        ("x.png", {"bits": 12}, "expected 8 or 16 bits per channel, got 12; ask for 8"),
        ("x.jpg", {"quality": 0}, "quality expects a number from 1 to 100, got 0"),
        (
            "x.png",
            {"alpha": torch.ones(1, 1, 5, 5)},
            r"alpha expects the picture's size \(20, 30\)",
        ),
        ("x.jpg", {"settings": {"long": "x" * 70000}}, r"write a \.png"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    tmp_path: Path, name: str, options: dict, message: str
) -> None:
    with pytest.raises(OutputError, match=message) as caught:
        save_picture(tmp_path / name, gradient(), **options)
    assert "\n" not in str(caught.value)
    assert left_in(tmp_path) == []


def test_a_side_too_long_for_webp_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"16383 pixels, got 16384x8; write a \.png"):
        save_picture(tmp_path / "x.webp", torch.zeros(1, 3, 8, 16384))


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="finite values"):
        save_picture(tmp_path / "x.png", torch.full((1, 3, 8, 8), torch.nan))
    assert left_in(tmp_path) == []


# ---------------------------------------------------------------- settings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    settings=st.dictionaries(st.text(max_size=12), JSON, max_size=4),
    row=st.sampled_from(list(WRITERS)),
)
def test_any_settings_come_back(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any], row: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"settings{row}"
    save_picture(path, gradient(8, 8), None, settings)
    assert read_settings(path) == json.loads(json.dumps(settings))


def test_paths_in_settings_become_text(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "x.png", gradient(), None, {"style": Path("a") / "b.png"})
    assert read_settings(path) == {"style": str(Path("a") / "b.png")}


def test_a_picture_without_settings_is_told(tmp_path: Path) -> None:
    for suffix in WRITERS:
        path = save_picture(tmp_path / f"x{suffix}", gradient())
        with pytest.raises(PictureError, match="expected settings in its metadata, got none"):
            read_settings(path)


def test_settings_of_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    for name, message in (("text.png", "expected a picture"), ("no.png", "does not exist")):
        with pytest.raises(PictureError, match=message):
            read_settings(tmp_path / name)
    with pytest.raises(PictureError, match="is a folder"):
        read_settings(tmp_path)


# ---------------------------------------------------------------- whole or not at all


def write_half(target: Path, error: BaseException) -> None:
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise error


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "x.png"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="in the middle"):
        write_half(target, RuntimeError("in the middle"))
    assert target.read_bytes() == b"old"
    assert left_in(tmp_path) == ["x.png"]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path / "x.png", KeyboardInterrupt())
    assert left_in(tmp_path) == []


def test_the_temporary_file_lies_beside_the_target(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new" / "x.png") as temporary:
        assert temporary.parent == tmp_path / "new"
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"whole")
    assert (tmp_path / "new" / "x.png").read_bytes() == b"whole"


@contextmanager
def four_kilobytes_per_file() -> Iterator[None]:
    """The system stops every write at 4 kB, in the middle of a file, as a full disk does.

    Around the one call only: pytest's own log may be a file, and longer.
    """
    resource = pytest.importorskip("resource", reason="needs a limit on a file's size")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("name", "bits"),
    [(f"x{suffix}", bits) for suffix, row in WRITERS.items() for bits in row.bits],
)
def test_a_picture_cut_short_by_the_system_leaves_the_old_file(
    tmp_path: Path, name: str, bits: int
) -> None:
    (tmp_path / name).write_bytes(b"old")
    refused = pytest.raises(OutputError, match="cannot be written: the file would be larger")
    with refused as caught, four_kilobytes_per_file():
        save_picture(tmp_path / name, torch.rand(1, 3, 128, 128), bits=bits)
    assert "\n" not in str(caught.value)
    assert (tmp_path / name).read_bytes() == b"old"
    assert left_in(tmp_path) == [name]


@pytest.mark.parametrize("suffix", ANIMATORS)
def test_an_animation_cut_short_by_the_system_leaves_the_old_file(
    tmp_path: Path, suffix: str
) -> None:
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg", reason="the extra `plot` is missing")
    target = tmp_path / f"x{suffix}"
    target.write_bytes(b"old")
    refused = pytest.raises(OutputError, match="cannot be written")
    with refused as caught, four_kilobytes_per_file():
        animate([torch.rand(1, 3, 128, 128) for _ in range(3)], target)
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == b"old"
    assert left_in(tmp_path) == [target.name]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EACCES, "no permission to write there; choose another folder"),
        (errno.EROFS, "the disk is read-only"),
    ],
)
def test_what_the_system_refuses_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    """A full disk may be reported only when the bytes are forced out to it."""

    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic.os, "fsync", refuse)
    with pytest.raises(OutputError, match=message):
        save_picture(tmp_path / "x.png", gradient())
    assert left_in(tmp_path) == []


def test_an_unwritable_place_is_found_before_and_at_writing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    target = tmp_path / "file" / "x.png"
    for attempt in (check_writable, lambda path: save_picture(path, gradient())):
        with pytest.raises(OutputError, match="a part of its folder's name is a file"):
            attempt(target)
        (tmp_path / "folder.png").mkdir(exist_ok=True)
        with pytest.raises(OutputError, match="it is a folder; add a file name"):
            attempt(tmp_path / "folder.png")


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not bind this user"
)
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    for attempt in (check_writable, lambda path: save_picture(path, gradient())):
        with pytest.raises(OutputError, match="no permission"):
            attempt(tmp_path / "locked" / "x.png")


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "deeper" / "x.png")
    check_writable(tmp_path / "x.jpg")
    assert left_in(tmp_path) == []
    with pytest.raises(OutputError, match="expected one of"):
        check_writable(tmp_path / "x.gif")
