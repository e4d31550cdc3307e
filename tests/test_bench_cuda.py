"""`make bench-cuda` without a card: what it says, and that all but the clock and the card runs."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.delitem(sys.modules, "bench_cuda", raising=False)
    return importlib.import_module("bench_cuda")


def test_without_a_card_one_line_says_so(bench, capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench.main(["-o", str(tmp_path / "cuda.md")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("bench-cuda: no CUDA card in reach of torch; this benchmark needs one\n")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def on_cpu(bench, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Every call is made, on the CPU and small; the clock says 2 ms for all but fastconv, 1 ms."""

    def medians(calls, rounds=0):
        for call in calls.values():
            call(0)
            call(1)
        return {label: 1.0 + (not label.startswith("fastconv")) for label in calls}

    small = {
        "DEVICE": "cpu",
        "LAYERS": ((16, 1), (16, 2)),
        "STACKS": (32,),
        "ERRORS_AT": 16,
        "PRODUCT": 8,
        "COPIED": 8,
        "ROTATED_BYTES": 1 << 12,
        "medians": medians,
        "check_card": lambda: None,
        "simt_layer": lambda conv, xs: lambda number: torch.relu(conv(xs[number % len(xs)])),
        "as_graph": lambda step: step,
    }
    for name, value in small.items():
        monkeypatch.setattr(bench if hasattr(bench, name) else bench.cuda_calls, name, value)
    return bench


def test_every_row_is_written(on_cpu, capsys, tmp_path: Path) -> None:
    target = tmp_path / "new" / "cuda.md"
    assert on_cpu.main(["-o", str(target)]) == 0
    text = target.read_text("utf-8")
    assert text.count("\n## ") == 6
    for precision in ("fp32", "tf32", "bf16"):
        assert text.count(f"conv4_2 {precision} |") == 5  # layers twice, gradients, errors
        assert f"| 32 px {precision} | 1.000 | 2.000 (2.00x) |" in text
    assert "rows were not begun" not in text
    errors = text.split("## Relative L2 errors")[1]
    assert all(float(line.split("|")[2]) < 1e-2 for line in errors.splitlines() if "| conv" in line)


def test_a_deadline_leaves_rows_out_and_says_so(on_cpu, tmp_path: Path) -> None:
    target = tmp_path / "cuda.md"
    assert on_cpu.main(["--seconds", "0", "-o", str(target)]) == 0
    assert "rows were not begun: the time was up." in target.read_text("utf-8")


def test_precision_is_the_same_on_both_sides_and_put_back(bench) -> None:
    from fastconv import current_precision

    before = torch.backends.cudnn.allow_tf32
    with bench.at_precision("tf32"):
        assert torch.backends.cudnn.allow_tf32
        assert current_precision() == "tf32"
    with bench.at_precision("fp32"):
        assert not torch.backends.cudnn.allow_tf32
        assert current_precision() == "fp32"
    assert torch.backends.cudnn.allow_tf32 == before
