"""What a result says of its files, and `nst stylize --from`, which finds them again."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from small_run import CONTENT, SMALL, STYLE, picture

import nst
from nst.cli.main import main
from nst.networks.weights import obtain
from nst.outputs import read_settings

WORDS = [
    *("--size", "40", "--backend", "torch", "--iterations", "4", "--scales", "1"),
    *("--style-layers", "relu1_1,relu2_1", "--content-layers", "relu2_2", "-q"),
]


@pytest.fixture(autouse=True)
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """secret/photos has the pictures and weights; we stand in secret."""
    photos = tmp_path / "secret" / "photos"
    photos.mkdir(parents=True)
    for name, image in {"photo": CONTENT, "style": STYLE, "mask": picture(3)}.items():
        image.save(photos / f"{name}.png")
    save_file(obtain("builtin").state, photos / "net.safetensors")
    monkeypatch.chdir(tmp_path / "secret")
    return tmp_path


def paint(*more: str, out: str = "out.png") -> None:
    pictures = ["photos/photo.png", "photos/style.png", "--weights", "photos/net.safetensors"]
    files = ["--mask", "photos/mask.png", "--init", "photos/style.png"]
    assert main(["stylize", *pictures, *files, *WORDS, "-o", out, *more]) == 0


def digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def same_pixels(one: str, other: str) -> bool:
    with Image.open(one) as a, Image.open(other) as b:
        return np.array_equal(np.asarray(a), np.asarray(b))


# ---------------------------------------------------------------- what is kept


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_result_keeps_names_and_digests_and_no_path(studio: Path, suffix: str) -> None:
    shutil.copy("photos/photo.png", studio / "absolute.png")
    paths = [str(studio / "absolute.png"), "photos/style.png"]
    out = str(studio / "secret" / f"out.{suffix}")
    more = ["--network", "builtin", "--csv", str(studio / "l.csv"), "-o", out]
    assert main(["stylize", *paths, *WORDS, *more]) == 0
    settings = read_settings(out)
    assert settings["content"] == {"name": "absolute.png", "sha256": digest(paths[0])}
    assert settings["styles"] == [{"name": "style.png", "sha256": digest(paths[1])}]
    text = json.dumps(settings)
    assert str(studio) not in text
    assert "photos" not in text
    assert "secret" not in text


def test_mask_start_and_weights_are_kept_by_name_and_digest_as_well() -> None:
    paint()
    settings = read_settings("out.png")
    for name, file in (("mask", "mask.png"), ("init", "style.png"), ("weights", "net.safetensors")):
        assert settings[name] == {"name": file, "sha256": digest(f"photos/{file}")}
        assert settings["config"][name] == file


def test_remarks_name_files_without_their_folders(studio: Path) -> None:
    (studio / "secret" / "out.ckpt").write_text("of another run")
    result = nst.stylize(CONTENT, CONTENT, output=studio / "secret" / "out.png", **SMALL)
    kept = read_settings(studio / "secret" / "out.png")["notes"]
    assert kept == ["out.ckpt is there already: checkpoints go to out-2.ckpt"]
    assert str(studio) in result.notes[0]


def test_paths_are_kept_where_they_are_asked_for() -> None:
    paint("--keep-paths")
    settings = read_settings("out.png")
    assert settings["content"]["path"] == "photos/photo.png"
    assert settings["weights"]["path"] == "photos/net.safetensors"
    assert settings["config"]["mask"] == "photos/mask.png"


def test_a_resumed_run_knows_the_digests_of_its_pictures() -> None:
    def ctrl_c(step: Any) -> None:
        import signal

        signal.raise_signal(signal.SIGINT)

    options: dict[str, Any] = {**SMALL, "mask": "photos/mask.png", "output": "out.png"}
    broken = nst.stylize("photos/photo.png", "photos/style.png", callback=ctrl_c, **options)
    nst.stylize(resume=broken.checkpoint)
    settings = read_settings("out.png")
    for name, file in (("content", "photo.png"), ("mask", "mask.png")):
        assert settings[name] == {"name": file, "sha256": digest(f"photos/{file}")}


# ---------------------------------------------------------------- --from


def test_files_that_are_not_found_are_asked_for_by_name_and_digest(
    capsys: pytest.CaptureFixture[str], studio: Path
) -> None:
    paint()
    assert main(["stylize", "--from", "out.png", "-q", "-o", "again.png"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "nst: out.png keeps no paths; it was made of content photo.png (SHA-256 "
    )
    for name in ("photo.png", "style.png", "mask.png", "net.safetensors"):
        assert f"{name} (SHA-256 {digest(f'photos/{name}')[:12]}...)" in line
    flags = "CONTENT STYLE --mask PATH --init PATH --weights PATH"
    assert line.endswith(f"give nst stylize {flags} --from out.png")


def test_files_on_the_command_line_repeat_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    paint()
    given = ["photos/photo.png", "photos/style.png", "--mask", "photos/mask.png"]
    given += ["--init=photos/style.png", "--weights", "photos/net.safetensors"]
    assert main(["stylize", *given, "--from", "out.png", "-q", "-o", "again.png"]) == 0
    assert capsys.readouterr().err == ""
    assert same_pixels("out.png", "again.png")


def test_files_beside_the_result_are_found_by_name_if_their_digest_is_right(
    studio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(out="photos/out.png")
    monkeypatch.chdir(studio)
    assert main(["stylize", "--from", "secret/photos/out.png", "-q", "-o", "again.png"]) == 0
    assert same_pixels("secret/photos/out.png", "again.png")


def test_a_file_of_the_right_name_and_another_digest_is_not_taken_for_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    paint(out="photos/out.png")
    picture(9).save("photos/photo.png")
    assert main(["stylize", "--from", "photos/out.png", "-q", "-o", "again.png"]) == 2
    assert "content photo.png (SHA-256 " in capsys.readouterr().err


@pytest.mark.filterwarnings("default")  # which the command prints
def test_another_file_on_the_command_line_is_taken_and_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    paint(out="photos/out.png")
    picture(9).save("other.png")
    words = ["stylize", "other.png", "photos/style.png", "--from", "photos/out.png"]
    assert main([*words, "-q", "-o", "again.png"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nst: warning: other.png is not the content photo.png (SHA-256 ")
    assert f"got SHA-256 {digest('other.png')[:12]}...: the picture will be another" in line


def test_kept_relative_paths_lead_from_the_result_s_folder_too(
    studio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paint("--keep-paths")
    monkeypatch.chdir(studio)
    assert main(["stylize", "--from", "secret/out.png", "-q", "-o", "again.png"]) == 0
    assert capsys.readouterr().err == ""
    assert same_pixels("secret/out.png", "again.png")


@pytest.mark.filterwarnings("default")  # which the command prints
def test_a_kept_path_whose_file_has_changed_is_taken_and_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    paint("--keep-paths")
    picture(9).save("photos/mask.png")
    assert main(["stylize", "--from", "out.png", "-q", "-o", "again.png"]) == 0
    assert "photos/mask.png is not the mask mask.png (SHA-256 " in capsys.readouterr().err


def test_results_of_older_versions_which_kept_paths_alone_are_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paint("--keep-paths")
    settings = read_settings("out.png")
    older = settings | {"content": "photos/photo.png", "styles": ["photos/style.png"]}
    for name in ("mask", "init", "weights"):
        del older[name]
    del older["config"]["keep_paths"]
    monkeypatch.setattr("nst.outputs.read_settings", lambda path: older)
    assert main(["stylize", "--from", "out.png", "-q", "-o", "again.png"]) == 0
    assert same_pixels("out.png", "again.png")


def test_what_was_no_file_is_asked_for_without_a_digest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nst.stylize(CONTENT, "photos/style.png", output="photos/out.png", **SMALL)
    assert main(["stylize", "--from", "photos/out.png"]) == 2
    assert "made of content <Image>, not found here" in capsys.readouterr().err
