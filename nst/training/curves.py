"""The curves of a training run: a CSV table, a plot, and TensorBoard if it is installed."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..outputs.atomic import atomic_path

COLUMNS = ("epoch", "step", "size", "learning_rate", "loss", "test_loss", "top1", "top5", "seconds")


def write_curves(rows: list[dict[str, float]], output: Path) -> None:
    """OUTPUT.csv and, with matplotlib, OUTPUT.png; both anew each time, so they are always whole.

    rows have the keys COLUMNS, one per evaluation.
    """
    with atomic_path(output.with_suffix(".csv")) as temporary, temporary.open("w") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{row[key]:.6g}" for key in COLUMNS} for row in rows)
    try:
        from matplotlib.figure import Figure
    except ImportError:  # the plot is an extra; the table holds the same
        return
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    losses, hits = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    _draw(losses, epochs, rows, {"loss": "training", "test_loss": "evaluation"}, "loss")
    _draw(hits, epochs, rows, {"top1": "top-1", "top5": "top-5"}, "recognised")
    hits.set_ylim(0, 1)
    with atomic_path(output.with_suffix(".png")) as temporary:
        figure.savefig(temporary, dpi=120)


def _draw(
    axes: Any, epochs: list[float], rows: list[dict[str, float]], lines: dict[str, str], title: str
) -> None:
    for key, label in lines.items():
        axes.plot(epochs, [row[key] for row in rows], label=label, marker=".")
    axes.set_title(title, loc="left")
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


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
