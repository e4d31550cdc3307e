"""What nst says: help pages, hints, limits, and labels in every script."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont
from small_run import CONTENT, STYLE, picture

from nst.cli.main import ABOUT, main
from nst.errors import ConfigError, LayerError, PictureError
from nst.networks.stacks import check_layers
from nst.outputs import animate, compare_sheet, sheet
from nst.pictures.sizing import load_picture, parse_size
from nst.run.pyramid import levels

SMALL = [
    *("--size", "40", "--network", "builtin", "--backend", "torch", "-i", "1", "--scales", "1"),
    *("--style-layers", "relu1_1", "--content-layers", "relu1_1"),
]


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    CONTENT.save("content.png")
    STYLE.save("style.png")
    return tmp_path


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


# ---------------------------------------------------------------- the command line


def test_quiet_prints_nothing_but_errors(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["stylize", "content.png", "style.png", *SMALL, "-o", "new/out.png"]
    assert main([*words, "-q"]) == 0
    assert capfd.readouterr() == ("", "")
    assert main(["stylize", "content.png", "none.png", "-q"]) == 2
    assert "none.png does not exist" in capfd.readouterr().err
    assert main(words) == 0
    assert len(capfd.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize("name", ABOUT)
def test_help_shows_no_default_that_is_nothing(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    page = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for nothing in ("None)", "(default: )", "(default: '')"):
        assert nothing not in page
    if name not in ("show", "demo", "network", "animate"):
        assert "(default: " in page


@pytest.mark.parametrize("name", ABOUT)
def test_an_option_has_a_no_form_only_where_a_preset_or_a_file_may_turn_it_on(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    forms = {word.strip(",") for word in capsys.readouterr().out.split() if "--no-" in word}
    assert forms == ({"--no-normalize", "--no-keep-paths"} if name == "stylize" else set())


def test_normalize_can_be_turned_on_and_off() -> None:
    words = ["stylize", "content.png", "style.png", *SMALL, "-q", "-o"]
    assert main([*words, "1.png", "--no-normalize"]) == 0
    assert main([*words, "2.png", "--preset", "gatys", "--normalize"]) == 0


def test_a_file_that_is_no_picture_has_no_settings(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.txt").write_text("hello")
    line = told(["show", "notes.txt"], capsys)
    assert line == "nst: notes.txt: expected a picture written by nst, got no picture"


def test_a_damaged_picture_has_no_settings_either(capsys: pytest.CaptureFixture[str]) -> None:
    Path("half.png").write_bytes(Path("content.png").read_bytes()[:60])
    assert "half.png: expected a picture written by nst, got " in told(["show", "half.png"], capsys)


def test_weights_that_are_a_folder_are_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    line = told(["stylize", "content.png", "style.png", "--weights", "."], capsys)
    assert line == "nst: weights file . is a folder; name a file in it"


# ---------------------------------------------------------------- numbers and names


def test_one_scale_expects_one_number_of_iterations() -> None:
    with pytest.raises(ConfigError, match=r"^iterations expects one number, got 3, for there is"):
        levels((40, 40), 1, (1, 2, 3), 1)
    with pytest.raises(ConfigError, match=r"expects one number or 2, one per scale, got 3$"):
        levels((40, 40), 2, (1, 2, 3), 1)


@pytest.mark.parametrize(
    ("network", "layer", "nearest"),
    [
        ("vgg19", "relu9_9", "relu5_4"),
        ("vgg19", "relu2_5", "relu2_2"),
        ("vgg19", "conv3_0", "conv3_1"),
        ("vgg19", "ReLU4_9", "relu4_4"),
        ("vgg19", "rel3_7", "relu3_4"),
        ("vgg19", "relu41", "relu4_1"),
        ("builtin", "relu9_9", "relu5_1"),
        ("resnet50", "block7_2", "block4_2"),
        ("resnet50", "blok2_9", "block2_4"),
    ],
)
def test_the_hint_for_a_layer_is_the_nearest_of_its_kind(
    network: str, layer: str, nearest: str
) -> None:
    with pytest.raises(LayerError, match=f"no layer '{layer}': did you mean '{nearest}'\\?"):
        check_layers(network, [layer])


def test_a_word_that_is_like_no_layer_gets_the_choices_alone() -> None:
    with pytest.raises(LayerError, match="no layer 'sky': choices: conv1_1"):
        check_layers("vgg19", ["sky"])


@pytest.mark.parametrize("size", ["100000", "100000x100000"])
def test_a_limit_in_pixels_is_told_with_pixels(size: str) -> None:
    words = r"178,956,970 pixels at most, got 10,000,000,000 \(100000x100000\)"
    with pytest.raises(ConfigError, match=words):
        parse_size(size)


def test_a_picture_beyond_the_limit_is_told_in_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nst.pictures.decoding.LARGEST_PIXELS", 1000)
    with pytest.raises(PictureError, match=r"at most 1,000 pixels, got 1,200 \(40x30\)"):
        load_picture("content.png")


def test_a_frame_of_another_shape_is_named_by_its_file(tmp_path: Path) -> None:
    for number, size in enumerate([(40, 30), (30, 40), (40, 30)], start=1):
        picture(number, *size).save(tmp_path / f"run-{50 * number:06}.png")
    with pytest.raises(PictureError, match=r"^run-000100\.png: expected the shape of the last"):
        animate([tmp_path / f"run-{n:06}.png" for n in (50, 100, 150)], tmp_path / "a.gif")
    with pytest.raises(PictureError, match=r"^frame 2: expected the shape of the last"):
        animate([picture(1), picture(2, 40, 30), picture(3)], tmp_path / "a.gif")


# ---------------------------------------------------------------- labels


def drawn(label: str, folder: Path) -> np.ndarray:
    path = compare_sheet([(CONTENT, label)], folder / "sheet.png", height=200)
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    "label", ["\u5199\u771f", "\u3042\u3044", "\uc0ac\uc9c4", "caf\u00e9 \u5199"]
)
def test_a_label_that_no_font_can_write_is_the_picture_s_number(
    label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheet, "FONTS", ("of-no-system.ttf",))
    assert np.array_equal(drawn(label, tmp_path), drawn("picture 1", tmp_path))


@pytest.mark.parametrize("label", ["caf\u00e9", "\u041f\u0435\u0439\u0437\u0430\u0436", "\u03a9"])
def test_a_label_beyond_english_is_written_in_a_font_that_has_it(
    label: str, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="brings the font")
    mine = drawn(label, tmp_path)
    assert not np.array_equal(mine, drawn("picture 1", tmp_path))
    boxes = ImageFont.load_default(20).getmask("\U0010ffff" * len(label))
    assert bytes(boxes) != b"", "Pillow's own font would draw boxes"
    other = label[:-1] + ("\u00e8" if label.startswith("c") else "\u0416")
    assert not np.array_equal(mine, drawn(other, tmp_path)), "which are all alike"


@pytest.mark.skipif(sys.platform != "linux", reason="looks for fonts where Linux keeps them")
def test_a_font_of_the_system_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="brings the font")
    font = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    (tmp_path / "share" / "fonts").mkdir(parents=True)
    (tmp_path / "share" / "fonts" / "NotoSansCJK-Regular.ttc").write_bytes(font.read_bytes())
    monkeypatch.setattr(sheet, "_of_matplotlib", list)
    monkeypatch.setattr(sheet, "FONTS", ("NotoSansCJK-Regular.ttc",))
    number = drawn("picture 1", tmp_path)
    assert np.array_equal(drawn("\u03a9\u0416", tmp_path), number)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert not np.array_equal(drawn("\u03a9\u0416", tmp_path), number)
