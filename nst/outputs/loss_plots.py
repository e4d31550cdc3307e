"""Plots of a run: losses over the iterations, feature maps, Gram matrices; and its CSV table.

matplotlib is imported inside the functions, through `_figure`: it is an extra, and slow to load.
Figures are made without pyplot, so nothing here touches a notebook's or a window's state.

A history is a list of rows {iteration, scale, total, content, style, tv, seconds, ...}; keys
with a slash ('style/relu1_1', 'content/relu4_2') are the losses of single layers.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..errors import OutputError, PictureError
from .atomic import atomic_path

Row = Mapping[str, Any]
History = Sequence[Row]

SUFFIXES = (".png", ".svg", ".pdf", ".jpg", ".webp")
_LINES = {
    "total": "#222222", "content": "#1f77b4", "style": "#d62728", "color": "#9467bd",
    "tv": "#7f7f7f",
}  # fmt: skip
_MOST_MAPS = 64  # of a layer's feature maps: more would be too small to see
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "nst",  # the same plot gives the same file
}


def plot_losses(history: History, path: str | os.PathLike[str]) -> Path:
    """Content, style and total loss over the iterations (log scale), and a panel per layer.

    Dashed lines mark where a new scale of the pyramid begins.
    """
    if not history:
        raise PictureError("expected one iteration or more to plot, got none")
    layers = [key for key in _columns(history) if "/" in key]
    with _figure(path, (9, 6.6 if layers else 3.8)) as figure:
        panels = figure.subplots(2 if layers else 1, 1, sharex=True, squeeze=False)[:, 0]
        for name, colour in _LINES.items():
            _draw_line(
                panels[0], history, name, color=colour, linewidth=2 if name == "total" else 1.5
            )
        panels[0].set_title("Loss", loc="left", fontweight="bold")
        if layers:
            shades = _layer_colours(layers)
            for name in layers:
                dash = "--" if name.startswith("content") else "-"
                _draw_line(
                    panels[1], history, name, color=shades[name], linestyle=dash, linewidth=1.2
                )
            panels[1].set_title("Loss per layer", loc="left", fontweight="bold")
        for panel in panels:
            _finish_panel(panel, history)
        panels[-1].set_xlabel("iteration")
    return Path(path)


def _draw_line(panel: Any, history: History, name: str, **look: Any) -> None:
    """One loss; what a log axis cannot show (0, nan, a missing value) leaves a gap."""
    values = [_number(row.get(name)) for row in history]
    if not any(value > 0 for value in values):
        return
    x = [row["iteration"] for row in history]
    y = [value if value > 0 and math.isfinite(value) else math.nan for value in values]
    marker = "o" if len(history) < 3 else ""
    panel.plot(x, y, label=name, marker=marker, markersize=3, **look)


def _number(value: Any) -> float:
    return math.nan if value is None or value == "" else float(value)


def _layer_colours(layers: Sequence[str]) -> dict[str, Any]:
    import matplotlib

    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(layers)))
    return dict(zip(layers, shades))


def _finish_panel(panel: Any, history: History) -> None:
    if panel.lines:
        panel.set_yscale("log")
        panel.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    panel.margins(x=0.01)
    boundaries = _boundaries(history)
    for iteration, scale in boundaries if len(boundaries) > 1 else ():
        panel.axvline(iteration, color="#9a9a9a", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        panel.annotate(
            f"{scale}",
            (iteration, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            va="top",
            fontsize=7.5,
            color="#6a6a6a",
        )


def _boundaries(history: History) -> list[tuple[int, Any]]:
    """(iteration, scale) where each scale begins."""
    starts, before = [], object()
    for row in history:
        scale = row.get("scale")
        if scale is not None and scale != before:
            starts.append((row["iteration"], scale))
            before = scale
    return starts


# ---------------------------------------------------------------- the table


def write_csv(history: History, path: str | os.PathLike[str]) -> Path:
    """One line per row of the history; every key that occurs is a column, empty where it lacks."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, _columns(history), restval="")
        table.writeheader()
        table.writerows(history)
    return Path(path)


def _columns(history: History) -> list[str]:
    """Every key once, in the order in which they first occur."""
    return list(dict.fromkeys(key for row in history for key in row))


# ---------------------------------------------------------------- what a layer sees


def feature_grid(features: torch.Tensor, path: str | os.PathLike[str], title: str = "") -> Path:
    """The feature maps (1, c, h, w) of a layer as a grid, the strongest 64 of more.

    Each map is shown on a scale of its own, from its least value to its 99.5th percentile: one
    scale for all would leave most of them black.
    """
    maps = features.detach().float().cpu().numpy()
    if maps.ndim != 4 or maps.shape[0] != 1 or maps.size == 0:
        raise PictureError(f"features expect shape (1, c, h, w), got {tuple(features.shape)}")
    maps = maps[0]
    strength = np.abs(maps).mean(axis=(1, 2))
    shown = np.sort(np.argsort(-strength, kind="stable")[:_MOST_MAPS])
    columns = math.ceil(math.sqrt(len(shown)))
    rows = math.ceil(len(shown) / columns)
    cell = 1.15
    cell_h = max(0.2, cell * maps.shape[1] / maps.shape[2])
    height = rows * (cell_h + 0.2) + 0.45
    # No automatic layout: for 64 panels it takes longer than everything else.
    with _figure(path, (max(3.0, cell * columns), height), layout=None) as figure:
        figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.5 / height, 0.06, 0.2 / cell_h)
        cells = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in cells:
            panel.axis("off")
        for panel, channel in zip(cells, shown):
            values = maps[channel]
            top = np.percentile(values, 99.5)
            panel.imshow(
                values, cmap="magma", vmin=values.min(), vmax=max(top, values.min() + 1e-9)
            )
            panel.set_title(str(channel), fontsize=6.5, pad=1.5, color="#555555")
        of_all = "" if len(shown) == len(maps) else f", the strongest {len(shown)}"
        about = f"{len(maps)} maps of {maps.shape[2]}x{maps.shape[1]}{of_all}"
        figure.suptitle(f"{title}: {about}" if title else about, fontsize=10)
    return Path(path)


def gram_picture(gram: torch.Tensor, path: str | os.PathLike[str], title: str = "") -> Path:
    """A Gram or covariance matrix (c, c) as a picture, on a symmetric logarithmic scale.

    A few channels are far stronger than the rest, so on a linear scale the matrix would look
    like a handful of crosses on nothing.
    """
    matrix = gram.detach().float().cpu().numpy()
    matrix = matrix[0] if matrix.ndim == 3 and matrix.shape[0] == 1 else matrix
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise PictureError(f"gram expects shape (c, c), got {tuple(gram.shape)}")
    with _figure(path, (5.6, 4.9)) as figure:
        from matplotlib.colors import SymLogNorm

        top = float(np.abs(matrix).max()) or 1.0
        is_signed = bool((matrix < 0).any())
        low, colours = (-top, "RdBu_r") if is_signed else (0.0, "magma")
        panel = figure.subplots()
        straight = top / 1000  # the scale is linear around 0
        norm = SymLogNorm(linthresh=straight, vmin=low, vmax=top)
        shown = panel.imshow(matrix, cmap=colours, norm=norm, interpolation="nearest")
        panel.grid(False)
        panel.set(xlabel="channel", ylabel="channel")
        panel.set_title(title or "Gram matrix", loc="left", fontweight="bold")
        bar = figure.colorbar(shown, ax=panel, shrink=0.85)
        # the label of 0 has no room for others beside it
        bar.set_ticks([t for t in bar.get_ticks() if t == 0 or abs(t) > 4 * straight])
    return Path(path)


# ---------------------------------------------------------------- figures


def check_plot(path: Path) -> None:
    """OutputError if a figure cannot be written to `path`, or not here."""
    if path.suffix.lower() not in SUFFIXES:
        got = f"'{path.suffix}'" if path.suffix else "no suffix"
        raise OutputError(f"{path}: expected one of {', '.join(SUFFIXES)}, got {got}")
    if find_spec("matplotlib") is None:
        raise OutputError(f"{path}: plots need the extra `plot`: pip install 'fastconv-nst[plot]'")


class _figure:  # used like a function, in a with statement
    """A figure that is written to `path`, whole or not at all, when the block ends well."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        inches: tuple[float, float],
        layout: Literal["constrained"] | None = "constrained",
    ) -> None:
        self.path, self.inches, self.layout = Path(path), inches, layout
        check_plot(self.path)

    def __enter__(self) -> Any:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._settings = matplotlib.rc_context(_STYLE)
        self._settings.__enter__()
        self._drawing = Figure(figsize=self.inches, layout=self.layout)
        FigureCanvasAgg(self._drawing)
        return self._drawing

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                drawn = io.BytesIO()
                kind_of_file = self.path.suffix[1:].lower()
                self._drawing.savefig(drawn, dpi=150, facecolor="white", format=kind_of_file)
                with atomic_path(self.path) as temporary:
                    temporary.write_bytes(drawn.getbuffer())
        finally:
            self._settings.__exit__(kind, error, trace)
