"""The curves of a training run: a CSV table, a plot, and TensorBoard if it is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastconv import UnsupportedError
from fastconv.figures import Figure, drawing

from ..outputs.figure_files import save_figure
from ..outputs.loss_plots import write_csv

COLUMNS = ("epoch", "step", "size", "learning_rate", "loss", "test_loss", "top1", "top5", "seconds")


def write_curves(rows: list[dict[str, float]], output: Path) -> None:
    """OUTPUT.csv and, with matplotlib, OUTPUT.png; both anew each time, so they are always whole.

    rows have the keys COLUMNS, one per evaluation.
    """
    numbers = [{key: f"{row[key]:.6g}" for key in COLUMNS} for row in rows]
    write_csv(numbers, output.with_suffix(".csv"), COLUMNS)
    try:
        figure = curves_figure(rows)
    except UnsupportedError:  # the plot is an extra; the table holds the same
        return
    save_figure(figure, output.with_suffix(".png"))


def curves_figure(rows: list[dict[str, float]]) -> Figure:
    """Losses and hits over the epochs."""
    with drawing(8, 3.4) as figure:
        losses, hits = figure.subplots(1, 2)
        epochs = [row["epoch"] for row in rows]
        _draw(losses, epochs, rows, {"loss": "training", "test_loss": "evaluation"}, "loss")
        _draw(hits, epochs, rows, {"top1": "top-1", "top5": "top-5"}, "recognised")
        hits.set_ylim(0, 1)
    return figure


def _draw(
    axes: Any, epochs: list[float], rows: list[dict[str, float]], lines: dict[str, str], title: str
) -> None:
    for key, label in lines.items():
        axes.plot(epochs, [row[key] for row in rows], label=label, marker=".")
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    axes.legend()


class Board:
    """TensorBoard's writer, or nothing."""

    def __init__(self, folder: Path | None, note: Callable[[str], None]) -> None:
        self.writer: Any = None
        if folder is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                note("tensorboard is not installed (pip install tensorboard): no curves for it")
                return
            self.writer = SummaryWriter(folder)

    def add(self, row: dict[str, float]) -> None:
        """The losses and hits of one evaluation."""
        if self.writer is not None:
            for key in ("loss", "test_loss", "top1", "top5", "learning_rate"):
                self.writer.add_scalar(key, row[key], int(row["step"]))

    def close(self) -> None:
        """Write out what is still in memory."""
        if self.writer is not None:
            self.writer.close()
