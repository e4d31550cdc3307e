"""Reading pictures of every format and mode; all of them are drawn here."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import differ, gradient_rgb, outcome_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from nst.errors import PictureError
from nst.pictures.sizing import Picture, load_picture

LOSSLESS = 0.5 / 255
LOSSY = 12 / 255  # JPEG and WebP at quality 95 on a smooth picture


def as_planes(rgb: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rgb.astype(np.float32) / 255).movedim(-1, 0)[None]


# ---------------------------------------------------------------- formats and modes


@pytest.mark.parametrize(
    ("suffix", "options", "tolerance"),
    [
        ("png", {}, LOSSLESS),
        ("bmp", {}, LOSSLESS),
        ("tiff", {}, LOSSLESS),
        ("webp", {"lossless": True}, LOSSLESS),
        ("webp", {"quality": 95}, LOSSY),
        ("jpg", {"quality": 95, "subsampling": 0}, LOSSY),
    ],
)
def test_a_format_is_read_as_it_was_written(
    tmp_path: Path, suffix: str, options: dict, tolerance: float
) -> None:
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(gradient_rgb()).save(path, **options)
    picture = load_picture(path)
    assert differ(picture.rgb, as_planes(gradient_rgb())) <= tolerance
    assert picture.alpha is None
    assert picture.name == f"photo.{suffix}"
    assert picture.rgb.dtype == torch.float32


def test_the_first_frame_of_a_gif_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("#ff0000", "#0000ff")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    rgb = load_picture(str(tmp_path / "two.gif")).rgb
    assert rgb.mean(dim=(0, 2, 3)).tolist() == pytest.approx([1, 0, 0], abs=0.01)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr", "HSV", "RGBX", "I", "F", "LAB"])
def test_a_grey_ramp_means_the_same_in_every_mode(mode: str) -> None:
    ramp = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (12, 1))
    image = Image.fromarray(ramp)
    if mode == "I":
        image = Image.fromarray(ramp.astype(np.int32) * 257)
    elif mode == "LAB":
        neutral = Image.new("L", image.size, 128)
        lightness = Image.fromarray(ramp)
        image = Image.merge("LAB", (lightness, neutral, neutral))
    else:
        image = (image.convert("RGB") if mode == "HSV" else image).convert(mode)
    rgb = load_picture(image).rgb
    assert differ(rgb[:, :1], rgb[:, 1:2]) < 0.02
    assert rgb[0, 0, 0, 0] < 0.01
    assert rgb[0, 0, 0, -1] > 0.99
    assert bool((rgb.mean(dim=(0, 1, 2)).diff() >= (-1.0 if mode == "1" else 0)).all())


def test_sixteen_bit_grey_keeps_more_than_eight_bits(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 512 * 8).astype(np.uint16).reshape(8, 512)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    picture = load_picture(tmp_path / "deep.png")
    assert len(picture.rgb.unique()) > 4000
    assert differ(picture.rgb[0, 0], torch.from_numpy(grey.astype(np.float32) / 65535)) < 1e-6


def test_cmyk_inks_darken() -> None:
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert load_picture(image).rgb[0, :, 0, 0].tolist() == pytest.approx([0, 1, 1], abs=0.01)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(gradient_rgb())
    # What a camera stores so that undoing it by the tag gives the upright picture.
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    turn = Image.Transpose
    names = [
        turn.FLIP_LEFT_RIGHT, turn.FLIP_TOP_BOTTOM, turn.ROTATE_90, turn.ROTATE_180,
        turn.ROTATE_270, turn.TRANSPOSE, turn.TRANSVERSE,
    ]  # fmt: skip
    stored = upright.transpose(names[undo[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    assert differ(load_picture(tmp_path / "turned.png").rgb, as_planes(gradient_rgb())) <= LOSSLESS


# ---------------------------------------------------------------- colour profiles


def linear_profile() -> bytes:
    """A matrix profile with sRGB's colours and no gamma, made byte by byte."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + fixed(*values)

    curve = b"curv" + struct.pack(">II", 0, 0)
    text = b"desc\0\0\0\0" + struct.pack(">I", 7) + b"linear\0" + b"\0" * 79
    tags = {
        b"desc": text, b"wtpt": xyz(0.9642, 1, 0.8249),
        b"rXYZ": xyz(0.4360, 0.2225, 0.0139), b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7139), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    }  # fmt: skip
    at, directory, values = 132 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        directory += name + struct.pack(">II", at + len(values), len(value))
        values += value + b"\0" * (-len(value) % 4)
    header = struct.pack(
        ">I4sI4s4s4s", at + len(values), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ "
    )
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + fixed(0.9642, 1, 0.8249) + b"\0" * 48
    return header + struct.pack(">I", len(tags)) + directory + values


def srgb_from_linear(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def test_a_colour_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16), (64, 128, 32))
    image.save(tmp_path / "linear.png", icc_profile=linear_profile())
    wanted = [srgb_from_linear(v / 255) for v in (64, 128, 32)]
    got = load_picture(tmp_path / "linear.png").rgb[0, :, 0, 0].tolist()
    assert got == pytest.approx(wanted, abs=2 / 255)


def test_a_profile_works_beside_alpha(tmp_path: Path) -> None:
    image = Image.new("RGBA", (16, 16), (64, 128, 32, 77))
    image.save(tmp_path / "linear.png", icc_profile=linear_profile())
    picture = load_picture(tmp_path / "linear.png")
    assert picture.alpha is not None
    assert float(picture.alpha[0, 0, 0, 0]) == pytest.approx(77 / 255)
    assert float(picture.rgb[0, 0, 0, 0]) == pytest.approx(srgb_from_linear(64 / 255), abs=2 / 255)


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(gradient_rgb()).save(tmp_path / "plain.png", icc_profile=profile)
    assert torch.equal(load_picture(tmp_path / "plain.png").rgb, load_picture(gradient_rgb()).rgb)


def test_a_damaged_profile_is_told_and_left_aside(tmp_path: Path) -> None:
    Image.fromarray(gradient_rgb()).save(tmp_path / "odd.png", icc_profile=b"not a profile at all")
    with pytest.warns(UserWarning, match=r"odd\.png: its colour profile cannot be used"):
        picture = load_picture(tmp_path / "odd.png")
    assert differ(picture.rgb, as_planes(gradient_rgb())) <= LOSSLESS


# ---------------------------------------------------------------- alpha


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa"])
def test_alpha_is_kept(mode: str) -> None:
    image = Image.new("RGBA", (16, 12), (200, 200, 200, 255))
    image.paste((200, 200, 200, 64), (0, 0, 8, 12))
    through = {"La": "LA", "PA": "P"}.get(mode, "RGBA")
    image = image.convert("LA").convert("La") if mode == "La" else image
    if mode == "PA":
        shades = Image.new("P", image.size, 0)
        shades.putpalette([200, 200, 200])
        alpha, image = image.getchannel("A"), shades.convert("PA")
        image.putalpha(alpha)
    elif mode != "La":
        image = image.convert(through).convert(mode)
    picture = load_picture(image)
    assert picture.alpha is not None
    assert float(picture.alpha[0, 0, 0, 0]) == pytest.approx(64 / 255)
    assert float(picture.alpha[0, 0, 0, 15]) == 1
    assert float(picture.rgb[0, 1, 0, 15]) == pytest.approx(200 / 255, abs=0.01)


def test_a_transparent_palette_colour_gives_alpha(tmp_path: Path) -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (8, 0, 16, 16))
    image.save(tmp_path / "holes.gif", transparency=1)
    picture = load_picture(tmp_path / "holes.gif")
    assert picture.alpha is not None
    assert picture.alpha[0, 0, 0].tolist() == [1.0] * 8 + [0.0] * 8


def test_alpha_that_hides_nothing_is_dropped() -> None:
    assert load_picture(Image.new("RGBA", (16, 16), (1, 2, 3, 255))).alpha is None


def test_hidden_colours_do_not_bleed_when_resized() -> None:
    """Green shows, red is hidden beside it: no red may appear at the border."""
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[:, :16] = (0, 255, 0, 255)
    rgba[:, 16:] = (255, 0, 0, 0)
    picture = load_picture(rgba, size=12)
    assert picture.alpha is not None
    visible = picture.alpha > 0.05
    assert float(picture.rgb[:, :1][visible].max()) < 0.01
    assert float(picture.rgb[:, 1:2][visible].min()) > 0.99


# ---------------------------------------------------------------- arrays and tensors


@pytest.mark.parametrize(
    "source",
    [
        gradient_rgb(),
        gradient_rgb().astype(np.uint16) * 257,
        gradient_rgb().astype(np.float64) / 255,
        as_planes(gradient_rgb()),
        as_planes(gradient_rgb())[0],
        as_planes(gradient_rgb()).double(),
        torch.from_numpy(gradient_rgb()).movedim(-1, 0),
        Image.fromarray(gradient_rgb()),
        Picture(as_planes(gradient_rgb())),
    ],
    ids=["uint8", "uint16", "float64", "nchw", "chw", "double", "bytes", "pil", "picture"],
)
def test_a_picture_in_memory_reads_like_a_file(source: object) -> None:
    assert differ(load_picture(source).rgb, as_planes(gradient_rgb())) < 1e-6


def test_grey_arrays_get_three_channels_and_four_give_alpha() -> None:
    assert load_picture(np.zeros((9, 10), np.uint8)).rgb.shape == (1, 3, 9, 10)
    assert load_picture(torch.zeros(1, 9, 10)).rgb.shape == (1, 3, 9, 10)
    alpha = load_picture(torch.full((4, 9, 10), 0.5)).alpha
    assert alpha is not None
    assert alpha.shape == (1, 1, 9, 10)


def test_the_callers_array_is_not_shared() -> None:
    array = np.full((8, 8, 3), 0.5, np.float32)
    picture = load_picture(array)
    array[:] = 0
    assert float(picture.rgb.min()) == 0.5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.full((9, 9, 3), 255.0), r"floats in \[0, 1\], got 255 to 255; divide by 255"),
        (np.full((9, 9), np.nan), r"floats in \[0, 1\], got nan"),
        (np.zeros((9, 9, 2), np.uint8), r"1, 3 or 4 channels, got \(9, 9, 2\)"),
        (np.zeros((9, 9), np.int64), "uint8, uint16 or floats"),
        (torch.zeros(2, 3, 9, 9), r"got \(2, 3, 9, 9\)"),
        (torch.zeros(9, 9, 3), r"got \(9, 9, 3\)"),
        (12, "got int"),
        (None, "got NoneType"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(source: object, message: str) -> None:
    with pytest.raises(PictureError, match=message) as caught:
        load_picture(source)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- bad files


def png_of(width: int, height: int) -> bytes:
    """A valid PNG of two colours, tiny however large it claims to be."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def jpeg_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(gradient_rgb(64, 64)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a picture, got an empty file"),
        (b"hello, I am a text", "expected a picture .*, got something else"),
        (jpeg_bytes()[:400], "damaged or truncated|something else"),
        (jpeg_bytes()[:-200], "damaged or truncated"),
        (png_of(60000, 60000), "expected at most 178,956,970 pixels, got 3,600,000,000"),
        (png_of(1, 1), "damaged|8 pixels or more, got 1x1"),
    ],
    ids=["empty", "text", "cut early", "cut late", "bomb", "1x1"],
)
def test_a_bad_file_gives_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(PictureError, match=message) as caught:
        load_picture(path)
    assert "bad.png: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="does not exist"):
        load_picture(tmp_path / "nothing.jpg")
    with pytest.raises(PictureError, match="is a folder"):
        load_picture(tmp_path)
    with pytest.raises(PictureError, match="no name that a file can have"):
        load_picture("a\0b.png")


@pytest.mark.parametrize("shape", [(1, 1), (1, 10000), (7, 100)])
def test_a_picture_too_thin_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match=f"got {shape[1]}x{shape[0]}; choose a larger"):
        load_picture(np.zeros(shape, np.uint8))


def test_a_strip_that_becomes_too_thin_is_refused() -> None:
    with pytest.raises(PictureError, match="got 64x1"):
        load_picture(np.zeros((10, 1000), np.uint8), size=64)


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.integers(0, 40))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, cut: int
) -> None:
    data = bytearray(jpeg_bytes())
    data[place % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.jpg"
    path.write_bytes(bytes(data[: len(data) - cut]))
    outcome = outcome_of(load_picture, path)
    if isinstance(outcome, str):
        assert "\n" not in outcome
    else:
        assert torch.isfinite(outcome.rgb).all()
