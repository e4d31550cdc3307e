"""The losses of a run: a plot over the iterations, and a CSV table.

A history is a list of rows {iteration, scale, seconds, total, ...}: total and the groups of terms
(content, style, ...), and with a slash ('style/relu1_1') the losses of single layers.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.figures import BLUE, GREEN, GREY, INK, ORANGE, RED, Figure, drawing

from ..errors import PictureError
from .atomic import atomic_path
from .figure_files import check_figure_path, save_figure

LossRow = Mapping[str, Any]
History = Sequence[LossRow]

COLOURS = (BLUE, RED, "#9467bd", GREY, GREEN, ORANGE)  # of the groups of terms, in their order
AXIS = ("iteration", "scale", "seconds", "balance")  # what a row holds beside losses


def plot_losses(history: History, path: str | os.PathLike[str]) -> Path:
    """The figure of the losses, written to `path`."""
    target = check_figure_path(path)  # before anything is drawn
    return save_figure(losses_figure(history), target)


def losses_figure(history: History) -> Figure:
    """The total and its groups of terms over the iterations (log scale), and a panel per layer.

    Dashed lines mark where a new scale of the pyramid begins.
    """
    if not history:
        raise PictureError("expected one iteration or more to plot, got none")
    names = [key for key in _columns(history) if key not in AXIS]
    layers = [name for name in names if "/" in name]
    groups = [name for name in names if "/" not in name and name != "total"]
    with drawing(9, 6.6 if layers else 3.8) as figure:
        panels = figure.subplots(2 if layers else 1, 1, sharex=True, squeeze=False)[:, 0]
        _draw_line(panels[0], history, "total", color=INK, linewidth=2)
        for nth, name in enumerate(groups):
            _draw_line(panels[0], history, name, color=COLOURS[nth % len(COLOURS)], linewidth=1.5)
        panels[0].set_title("Loss")
        if layers:
            shades, first = _layer_colours(layers), layers[0].partition("/")[0]
            for name in layers:
                dash = "--" if len(groups) > 1 and name.startswith(f"{first}/") else "-"
                look = {"color": shades[name], "linestyle": dash, "linewidth": 1.2}
                _draw_line(panels[1], history, name, **look)
            panels[1].set_title("Loss per layer")
        for panel in panels:
            _finish_panel(panel, history)
        panels[-1].set_xlabel("iteration")
    return figure


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
    panel.grid(color="#e6e6e6")
    panel.set_axisbelow(True)
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


def write_csv(history: History, path: str | os.PathLike[str], columns: Iterable[str] = ()) -> Path:
    """One line per row of the history; every key that occurs is a column, empty where it lacks."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [*columns] or _columns(history), restval="")
        table.writeheader()
        table.writerows(history)
    return Path(path)


def _columns(history: History) -> list[str]:
    """Every key once, in the order in which they first occur."""
    return list(dict.fromkeys(key for row in history for key in row))
