"""Plots and the table of a run: what is in them, and what is said when they cannot be made."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastconv.figures import SUFFIXES
from nst.errors import OutputError, PictureError
from nst.outputs.figure_files import save_figure
from nst.outputs.loss_plots import plot_losses, write_csv
from nst.visualize.figures import feature_maps_figure, gram_figure


def run(scales: tuple[int, ...] = (128, 181), steps: int = 20) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for scale in scales:
        for k in range(steps):
            style, content = 10 * math.exp(-k / 5) + 1, 0.5 + 0.1 * math.exp(-k / 5)
            rows.append(
                {
                    "iteration": len(rows) + 1,
                    "scale": scale,
                    "total": style + content,
                    "content": content,
                    "style": style,
                    "tv": 0.0,
                    "seconds": 0.1 * len(rows),
                    "style/relu1_1": style / 2,
                    "style/relu2_1": style / 2,
                    "content/relu4_2": content,
                }
            )
    return rows


@pytest.fixture
def _matplotlib() -> None:
    pytest.importorskip("matplotlib", reason="the extra `plot` is missing")


needs_matplotlib = pytest.mark.usefixtures("_matplotlib")


def drawn_words(path: Path) -> str:
    """An SVG figure's source: letters are drawn as shapes, but each text stands in a comment."""
    return path.read_text(encoding="utf-8")


@needs_matplotlib
def test_the_loss_plot_names_every_loss_layer_and_scale(tmp_path: Path) -> None:
    words = drawn_words(plot_losses(run(), tmp_path / "loss.svg"))
    for word in ("total", "content", "style", "style/relu1_1", "content/relu4_2", "128", "181"):
        assert f"<!-- {word} -->" in words
    assert "<!-- tv -->" not in words  # it is 0 throughout: nothing for a log scale to show


@needs_matplotlib
def test_one_scale_needs_no_marks(tmp_path: Path) -> None:
    words = drawn_words(plot_losses(run(scales=(977,)), tmp_path / "loss.svg"))
    assert "<!-- 977 -->" not in words


@needs_matplotlib
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_plot_is_written_in_every_format(tmp_path: Path, suffix: str) -> None:
    path = plot_losses(run(), tmp_path / f"new/loss{suffix}")
    assert path.stat().st_size > 2000
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    if suffix in (".png", ".jpg", ".webp"):
        with Image.open(path) as image:
            assert np.asarray(image.convert("L")).std() > 5


@needs_matplotlib
@pytest.mark.parametrize(
    "history",
    [
        run(steps=1)[:1],
        [{"iteration": 1, "total": 0.0}, {"iteration": 2, "total": 0.0}],
        [{"iteration": 1, "total": math.nan}, {"iteration": 2, "total": 3.0}],
        [{"iteration": 1, "total": 5.0}, {"iteration": 2, "total": math.inf, "style": None}],
    ],
    ids=["one row", "all zero", "nan", "infinity and gaps"],
)
def test_odd_histories_are_plotted_without_complaint(
    tmp_path: Path, history: list[dict[str, Any]]
) -> None:
    """Warnings are errors here: an empty log axis or legend would warn."""
    assert plot_losses(history, tmp_path / "loss.png").stat().st_size > 1000


@needs_matplotlib
def test_plotting_leaves_matplotlibs_settings_alone(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    plot_losses(run(), tmp_path / "loss.png")
    assert dict(matplotlib.rcParams) == before


def test_an_empty_history_and_an_unknown_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="one iteration or more"):
        plot_losses([], tmp_path / "loss.png")
    with pytest.raises(OutputError, match=r"expected one of \.png, .*, got '\.txt'"):
        plot_losses(run(), tmp_path / "loss.txt")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_matplotlib_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(OutputError, match=r"plots need the extra `plot`: pip install") as caught:
        plot_losses(run(), tmp_path / "loss.png")
    assert "\n" not in str(caught.value)


@needs_matplotlib
def test_an_unwritable_plot_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        plot_losses(run(), tmp_path / "file" / "loss.png")


# ---------------------------------------------------------------- the table


def test_the_table_holds_every_number(tmp_path: Path) -> None:
    rows = run()
    path = write_csv(rows, tmp_path / "loss.csv")
    with path.open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == list(rows[0])
    assert [{k: float(v) for k, v in row.items()} for row in read] == rows


def test_keys_that_appear_later_become_columns(tmp_path: Path) -> None:
    path = write_csv([{"iteration": 1}, {"iteration": 2, "tv": 0.5}], tmp_path / "loss.csv")
    assert path.read_text(encoding="utf-8").split() == ["iteration,tv", "1,", "2,0.5"]


# ---------------------------------------------------------------- features and Gram matrices


@needs_matplotlib
@pytest.mark.parametrize("shape", [(1, 1, 5, 5), (1, 7, 9, 16), (1, 100, 6, 6), (1, 3, 1, 1)])
def test_feature_maps_are_drawn(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = save_figure(feature_maps_figure(torch.rand(shape), "relu1_1"), tmp_path / "f.svg")
    words = drawn_words(path)
    about = f"relu1_1: {shape[1]} maps of {shape[3]}x{shape[2]}"
    assert about in words
    assert words.count("<image ") == min(shape[1], 64)
    assert ("the strongest 64" in words) == (shape[1] > 64)


@needs_matplotlib
def test_the_strongest_maps_are_the_ones_shown(tmp_path: Path) -> None:
    features = torch.zeros(1, 80, 4, 4)
    features[:, 10:74] = 1 + torch.rand(1, 64, 4, 4)
    words = drawn_words(save_figure(feature_maps_figure(features), tmp_path / "f.svg"))
    assert "<!-- 10 -->" in words
    assert "<!-- 73 -->" in words
    assert "<!-- 9 -->" not in words
    assert "<!-- 74 -->" not in words


@needs_matplotlib
@pytest.mark.parametrize("kind", ["gram", "covariance", "zero"])
def test_a_gram_matrix_is_drawn(tmp_path: Path, kind: str) -> None:
    features = torch.rand(12, 50) - (0.5 if kind == "covariance" else 0)
    matrix = features @ features.T * (0 if kind == "zero" else 1)
    path = save_figure(gram_figure(matrix, "relu1_1"), tmp_path / "g.png")
    with Image.open(path) as image:
        assert min(image.size) > 500


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 3), (0, 0), (5,)])
def test_what_is_no_gram_matrix_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PictureError, match=r"gram expects shape \(c, c\)"):
        gram_figure(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 3, 4, 4), (1, 0, 4, 4)])
def test_what_is_no_feature_map_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PictureError, match=r"features expect shape \(1, c, h, w\)"):
        feature_maps_figure(torch.zeros(shape))
