"""The `fastconv` command as a user calls it: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from fastconv import cli, registry


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(words)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_package_is_the_command(capsys) -> None:
    program = [sys.executable, "-m", "fastconv", "--version"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert done.stdout == capsys.readouterr().out


HEAVY = ("torch", "numpy", "PIL", "numba", "matplotlib")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["filter", "--help"]], ids=" ".join)
def test_help_waits_for_no_large_import(words: list[str]) -> None:
    program = [sys.executable, "-X", "importtime", "-m", "fastconv", *words]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "fastconv.cli" in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send there")
def test_ctrl_c_while_torch_is_imported_ends_in_one_line(tmp_path: Path) -> None:
    slow = tmp_path / "torch"
    slow.mkdir()
    (slow / "__init__.py").write_text("import time\nprint('now', flush=True)\ntime.sleep(60)\n")
    program = [sys.executable, "-m", "fastconv", "info"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(program, env=environment, **pipes) as running:
        assert running.stdout.readline() == "now\n"
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=30)
    assert (running.returncode, told) == (130, "fastconv: interrupted\n")


def test_the_systems_errors_are_told_without_their_numbers(
    capsys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def gone(path: str, size: int) -> None:
        raise FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr("fastconv.tools.pictures.load_picture", gone)
    code, _, err = run(capsys, "filter", "gone.jpg", "-o", str(tmp_path / "sheet.png"))
    assert (code, err) == (2, "fastconv: gone.jpg: No such file or directory\n")


def test_filter_says_that_a_picture_does_not_exist(capsys, tmp_path: Path) -> None:
    code, _, err = run(capsys, "filter", "gone.jpg", "-o", str(tmp_path / "sheet.png"))
    assert (code, err) == (2, "fastconv: gone.jpg does not exist; expected a picture's file\n")


def test_info_tells_every_backend_and_what_auto_takes(capsys) -> None:
    code, out, _ = run(capsys, "info")
    assert code == 0
    for name in registry.TABLE:
        assert f"\n  {name} " in out
    assert "'auto' takes 'native'" in out
    assert "kernels ready after" in out


def test_check_prints_the_worst_error_of_each_kind(capsys) -> None:
    code, out, _ = run(capsys, "check", "--backend", "native", "--cases", "20", "--seed", "7")
    assert code == 0
    for kind in ("forward", "grad_input", "grad_weight", "grad_bias"):
        assert kind in out
    assert out.endswith("all within tolerance\n")


def test_check_ends_with_1_on_a_miss(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    naive = registry.load("naive")
    right = naive.forward
    monkeypatch.setattr(naive, "forward", lambda *a: right(*a) * 1.01)
    code, out, _ = run(capsys, "check", "--backend", "naive", "--cases", "12")
    assert code == 1
    assert "MISSED by input" in out


def test_bench_writes_its_figures_beside_torchs(capsys, tmp_path: Path) -> None:
    target = tmp_path / "new" / "bench.json"
    words = ("--size", "16", "--seconds", "0.001", "--backend", "native", "--json", str(target))
    code, out, _ = run(capsys, "bench", *words)
    assert code == 0
    rows = json.loads(target.read_text("utf-8"))["rows"]
    assert {row["operation"] for row in rows} == {"forward", "grad_input", "grad_weight"}
    assert all({"torch", "torch cl", "native"} == set(row["milliseconds"]) for row in rows)
    assert out.count("conv5_1") == 3


def test_bench_leaves_stdout_to_the_json_when_asked(capsys) -> None:
    words = ("--size", "16", "--seconds", "0.001", "--backend", "torch", "--json", "-")
    code, out, err = run(capsys, "bench", *words)
    assert code == 0
    assert json.loads(out)["machine"]["torch"] == torch.__version__
    assert "conv1_1" in err


def test_demo_saves_a_sheet_and_leaves_nothing_else(capsys, tmp_path: Path) -> None:
    code, out, _ = run(capsys, "demo", "-o", str(tmp_path / "sheet.png"))
    assert code == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > sheet.height
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    for name in registry.TABLE:
        assert f"\n{name} " in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("check", "--backend", "nubma"), "did you mean 'numba'?"),
        (("check", "--backend", "native", "--device", "cuda"), "torch sees no such device"),
        (("bench", "--backend", "fast"), "unknown backend 'fast'"),
        (("demo", "-o", "/proc/nowhere/sheet.png"), "/proc/nowhere/sheet.png: cannot be written"),
        (("demo", "-o", "sheet.xyz"), "--out expects a name in .png"),
        (("filter", "-o", "sheet.png"), "filter expects a picture"),
        (("filter", "a.png", "-o", "./a.png"), "--out would replace the picture"),
        (("bench", "--json", "."), ".: cannot be written: it is a folder"),
    ],
)
def test_a_mistake_gets_one_line_and_2(capsys, words: tuple[str, ...], told: str) -> None:
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is such a device here")
    code, _, err = run(capsys, *words)
    assert code == 2
    assert err.startswith("fastconv: ")
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("chek",),
        ("check", "--cases", "0"),
        ("filter", "a.png", "--size", "abc"),
        ("bench", "--size", "15"),
        ("bench", "--seconds", "nan"),
    ],
)
def test_words_that_are_no_command_end_with_2(capsys, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("fastconv: ")
    assert told.endswith("--help tells all options)\n")
    assert len(told.splitlines()) == 1


def test_ctrl_c_ends_with_130(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastconv.tools.demo.run", interrupted)
    code, _, err = run(capsys, "demo")
    assert (code, err) == (130, "fastconv: interrupted\n")
