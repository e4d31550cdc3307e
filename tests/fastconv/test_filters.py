"""Kernels with known answers, filters by name, reading pictures, and `fastconv filter`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastconv import ArgumentError, DtypeError, cli
from fastconv.figures import SUFFIXES
from fastconv.tools import filters
from fastconv.tools.demo import drawn_picture
from fastconv.tools.pictures import load_picture, to_image
from fastconv.tools.sheets import filter_sheet

SLOPE = torch.arange(20.0).expand(3, 16, 20).contiguous()  # brighter by 1 with every column


DERIVATIVES = (("sobel", 8), ("scharr", 32), ("prewitt", 6))  # name, answer to a slope of 1


@pytest.mark.parametrize(("name", "answer"), DERIVATIVES)
def test_derivatives_of_a_slope(name: str, answer: float) -> None:
    across, along, length = filters.parse(f"{name}_x,{name}_y,{name}")
    assert torch.equal(across(SLOPE)[:, :, 1:-1], torch.full((1, 16, 18), float(answer)))
    assert not along(SLOPE).any()
    turned = SLOPE.transpose(1, 2).contiguous()
    assert torch.equal(along(turned)[:, 1:-1], torch.full((1, 18, 16), float(answer)))
    assert torch.equal(length(SLOPE), across(SLOPE))


def test_scharr_depends_less_on_the_direction_than_sobel_and_prewitt() -> None:
    y, x = torch.meshgrid(*[torch.arange(-20.0, 21.0)] * 2, indexing="ij")

    def unevenness(name: str) -> float:
        found = []
        for angle in torch.linspace(0, math.pi / 2, 7):
            wave = torch.sin(0.6 * (x * angle.cos() + y * angle.sin()))[None]
            found.append(filters.parse(name)[0](wave)[:, 10:-10, 10:-10].max().item())
        return max(found) / min(found) - 1

    assert unevenness("scharr") < unevenness("sobel") < unevenness("prewitt")


def test_laplacian_of_a_parabola_is_two_and_of_a_slope_nothing() -> None:
    (laplacian,) = filters.parse("laplacian")
    assert not laplacian(SLOPE)[:, :, 1:-1].any()
    assert torch.equal(laplacian(SLOPE**2)[:, :, 1:-1], torch.full((1, 16, 18), 2.0))


@pytest.mark.parametrize(
    "name", ["gaussian", "gaussian:0.4", "gaussian:3", "box", "box:1", "box:7"]
)
def test_blurs_sum_to_one_and_are_symmetric(name: str) -> None:
    (kernel,) = filters.parse(name)[0].kernels
    assert kernel.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(kernel, kernel.T)
    torch.testing.assert_close(kernel, kernel.flip(0))


@pytest.mark.parametrize("sigma", [0.7, 1.5, 4.0])
def test_gaussian_spreads_a_point_by_sigma(sigma: float) -> None:
    kernel = filters.gaussian(sigma).double()
    t = torch.arange(len(kernel)) - len(kernel) // 2
    spread = (kernel.sum(0) * t**2).sum().sqrt().item()
    assert spread == pytest.approx(sigma, rel=0.03)  # the cut at 3 sigma takes 1.4 % of it


def test_filters_that_keep_a_plain_picture() -> None:
    plain = torch.full((3, 12, 12), 0.4)
    for each in filters.parse("gaussian,box,sharpen,sharpen:3,emboss"):
        torch.testing.assert_close(each(plain), plain, msg=each.label)
    for each in filters.parse("sobel,laplacian,gabor,gabor:5:30"):
        assert each(plain).abs().max() < 1e-5, each.label


def test_sharpen_undoes_some_of_a_blur() -> None:
    picture = drawn_picture(96)
    blurred = filters.apply(picture, filters.gaussian(0.6))
    sharpened = filters.apply(blurred, filters.sharpen(0.3))
    assert (sharpened - picture).square().mean() < 0.7 * (blurred - picture).square().mean()


def test_gabor_answers_to_its_own_stripes() -> None:
    x = torch.arange(64.0)
    upright = torch.cos(2 * math.pi * x / 8).expand(1, 64, 64)
    answers = {
        name: filters.parse(name)[0](upright)[:, 20:-20, 20:-20].abs().max().item()
        for name in ("gabor:8:0", "gabor:8:90", "gabor:8:45", "gabor:16:0", "gabor:4:0")
    }
    own = answers.pop("gabor:8:0")
    assert all(own > 2.5 * other for other in answers.values()), (own, answers)


def test_every_filter_on_every_backend_gives_the_same(backend: str) -> None:
    picture = drawn_picture(20)
    for each in filters.parse(",".join(filters.FILTERS)):
        expected = each(picture.double(), "torch").float()
        assert each(picture, backend).shape == expected.shape
        torch.testing.assert_close(each(picture, backend), expected, rtol=1e-4, atol=1e-4)


WRONG = (
    ("sobl", r"unknown kernel 'sobl': did you mean 'sobel'\?"),
    ("", "expects one name or more"),
    ("sobel,,,:", "unknown kernel ''"),
    ("gaussian:zero", "'gaussian:zero': expected 'gaussian:SIGMA' with numbers"),
    ("gaussian:0", "sigma expects a positive number, got 0"),
    ("gaussian:-2", "sigma expects a positive number, got -2"),
    ("gaussian:nan", "sigma expects a positive number, got nan"),
    ("gaussian:5000", "sigma expects 100 at most"),
    ("gaussian:1:2", "expected 'gaussian:SIGMA' at most"),
    ("sobel:3", "expected 'sobel' at most"),
    ("box:4", "odd number from 1 to 601 .* got 4"),
    ("box:2.5", "odd number .* got 2.5"),
    ("box:inf", "odd number .* got inf"),
    ("box:nan", "odd number .* got nan"),
    ("box:-3", "odd number .* got -3"),
    ("sharpen:0", "amount expects more than 0"),
    ("gabor:1", "wavelength from 2 to 100"),
    ("gabor:8:inf", "angle in degrees, got 8 and inf"),
)


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[text for text, _ in WRONG])
def test_bad_names_and_parameters(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        filters.parse(text)


def test_even_kernels_have_no_middle() -> None:
    with pytest.raises(ArgumentError, match=r"two odd sides, got shape \(2, 3\)"):
        filters.apply(SLOPE, torch.ones(2, 3))
    with pytest.raises(ArgumentError, match=r"\(c, h, w\), got \(16, 20\)"):
        filters.apply(SLOPE[0], torch.ones(3, 3))


# ---------------------------------------------------------------- pictures


def test_exif_orientation_is_respected(tmp_path: Path) -> None:
    picture = to_image(drawn_picture(48)).crop((0, 0, 48, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees to the right
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "upright.png", exif=exif)
    loaded = load_picture(tmp_path / "upright.png")
    assert loaded.shape == (3, 32, 48)
    assert to_image(loaded).tobytes() == picture.tobytes()


MODES = ("RGB", "L", "1", "P", "CMYK", "RGBA", "LA", "I;16", "I", "F")


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_every_kind(mode: str, tmp_path: Path) -> None:
    grey = np.tile(np.linspace(0, 1, 32), (16, 1))
    if mode in ("I;16", "I"):
        kind = np.uint16 if mode == "I;16" else np.int32
        image = Image.fromarray((grey * 65535).astype(kind))
    elif mode == "F":
        image = Image.fromarray(grey.astype(np.float32))
    else:
        image = Image.fromarray(np.uint8(grey * 255)).convert("RGB").convert(mode)
    assert image.mode == mode
    path = tmp_path / "picture.tif"
    image.save(path)
    loaded = load_picture(path)
    assert loaded.shape == (3, 16, 32)
    allowed = 0.5 if mode == "1" else 0.06  # black and white only; the rest is rounding, or CMYK
    assert (loaded.mean((0, 1)) - torch.linspace(0, 1, 32)).abs().max() < allowed


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (load_picture(tmp_path / "clear.png") == 1).all()


def test_large_pictures_are_reduced_and_small_ones_are_not(tmp_path: Path) -> None:
    Image.new("RGB", (300, 100)).save(tmp_path / "wide.png")
    assert load_picture(tmp_path / "wide.png", 150).shape == (3, 50, 150)
    assert load_picture(tmp_path / "wide.png", 1000).shape == (3, 100, 300)


# ---------------------------------------------------------------- the command


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    to_image(drawn_picture(64)).save(path)
    return path


def cells(path: Path) -> int:
    """How many columns of the sheet show something other than paper, in runs."""
    with Image.open(path) as image:
        ink = (np.asarray(image.convert("L"))[80:-40] < 250).any(axis=0)
    return int((np.diff(np.concatenate([[0], ink])) == 1).sum())


def test_the_sheet_has_a_cell_for_the_picture_and_each_filter(
    photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photo.with_name("new") / "sheet.png"
    arguments = ["filter", str(photo), "--kernel", "sobel,gaussian:2", "-o", str(out)]
    assert cli.main([*arguments, "--backend", "torch"]) == 0
    assert cells(out) == 3
    assert [path.name for path in out.parent.iterdir()] == ["sheet.png"]
    assert capsys.readouterr().out == f"sobel, gaussian:2 on backend 'torch': {out}\n"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_of_the_sheet(suffix: str, photo: Path) -> None:
    out = photo.with_suffix(".sheet" + suffix)
    assert cli.main(["filter", str(photo), "-k", "box", "-o", str(out)]) == 0
    signs = {".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".pdf": b"%PDF", ".svg": b"<?xml"}
    assert out.read_bytes().startswith(signs.get(suffix, b"RIFF"))


def test_list_shows_the_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["filter", "any", "--kernel", "list"]) == 0
    shown = capsys.readouterr().out.split()
    assert [line.split(":")[0] for line in shown] == list(filters.FILTERS)


MISTAKES = (
    (["{photo}", "-k", "sobl"], "did you mean 'sobel'?"),
    (["{photo}", "-k", "box:4"], "odd number"),
    (["{photo}", "--backend", "nubma"], "did you mean 'numba'?"),
    (["{photo}", "-o", "sheet.txt"], "expects one of .png"),
    (["{photo}.nowhere"], "does not exist; expected a picture"),
    (["{text}"], "expected a picture that Pillow can read"),
    (["{cut}"], "the picture is damaged"),
    (["{folder}"], "got a folder"),
)


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_mistakes_are_told_in_one_line(
    arguments: list[str], message: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, cut = photo.with_name("words.png"), photo.with_name("cut.png")
    text.write_text("not a picture", encoding="utf-8")
    cut.write_bytes(photo.read_bytes()[:200])
    places = {"photo": photo, "text": text, "cut": cut, "folder": photo.parent}
    filled = [each.format(**places) for each in arguments]
    out = [] if "-o" in filled else ["-o", str(photo.with_name("sheet.png"))]
    assert cli.main(["filter", *filled, *out]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not photo.with_name("sheet.png").exists()


def test_integer_pictures_are_refused() -> None:
    with pytest.raises(DtypeError):
        filters.apply(torch.ones(3, 8, 8, dtype=torch.uint8), filters.sobel_x())


def test_a_sheet_shows_zero_as_middle_grey_and_needs_no_contrast() -> None:
    figure = filter_sheet(torch.full((3, 9, 9), 0.3), filters.parse("sobel_x,sobel"))
    shown = [panel.images[0].get_array() for panel in figure.axes if panel.images]
    assert np.allclose(shown[1], 0.5)
    assert np.allclose(shown[2], 0.0)
