"""The lessons as figures: a gradient's difference, digits, a loss curve, learned kernels."""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError
from ..figures import BLUE, GREEN, GREY, ORANGE, RED, Figure, drawing
from .gradients import LayerReport
from .layer import Array
from .network import History, Labels, Network


def gradient_figure(report: LayerReport) -> Figure:
    """Per parameter: what backward claims, what differences give, and how far they are apart.

    The third column is in powers of ten of the largest element: -9 says that nine digits agree.
    The worst element is framed; elements at kinks, which have no derivative, are white.
    """
    from matplotlib.patches import Rectangle

    count = len(report.reports)
    with drawing(9, 1.9 * count + 0.4) as figure:
        panels = figure.subplots(count, 3, squeeze=False)
        for row, (name, each) in zip(panels, report.reports.items()):
            claimed, numeric = each.gradient.numpy(), each.numeric.numpy()
            top = float(np.abs(numeric).max()) or 1.0
            apart = np.log10(np.maximum(np.abs(claimed - numeric) / top, 1e-16))
            for panel, values in zip(row[:2], (claimed, numeric)):
                shown = panel.imshow(_flat(values), cmap="RdBu_r", vmin=-top, vmax=top,
                                     aspect="auto", interpolation="nearest")  # fmt: skip
            figure.colorbar(shown, ax=row[1])
            apart[each.kinks.numpy()] = np.nan
            found = row[2].imshow(_flat(apart), cmap="inferno", vmin=-12, vmax=0,
                                  aspect="auto", interpolation="nearest")  # fmt: skip
            figure.colorbar(found, ax=row[2])
            at = np.ravel_multi_index(each.worst, claimed.shape)
            i, j = divmod(int(at), _flat(claimed).shape[1])
            row[2].add_patch(
                Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="#39d353", linewidth=1.8)
            )
            row[0].set_title(f"{name} {claimed.shape}\nby backward")
            row[1].set_title("by differences")
            verdict = "" if each.passed else "  WRONG"
            row[2].set_title(
                f"relative difference, powers of ten\nworst {each.relative_error:.0e}{verdict}"
            )
            for panel in row:
                panel.set(xticks=[], yticks=[])
    return figure


def _flat(values: Array) -> Array:
    """Any shape as a matrix: pictures' rows side by side, kernels one below the other."""
    return values.reshape(1, -1) if values.ndim < 2 else values.reshape(values.shape[0], -1)


def learning_figure(history: History) -> Figure:
    """The loss of every step with its running mean, and the accuracy on unseen pictures."""
    if not history.losses:
        raise ArgumentError("learning_figure: expected a history with one step or more, got none")
    losses = np.array(history.losses)
    width = max(1, min(10, len(losses) // 4))
    mean = np.convolve(losses, np.full(width, 1 / width), mode="valid")
    with drawing(8.6, 2.8) as figure:
        at_loss, at_accuracy = figure.subplots(1, 2)
        steps = np.arange(1, len(losses) + 1)
        at_loss.plot(steps, losses, color="#c9c9c9", linewidth=1, label="each batch")
        at_loss.plot(steps[width - 1 :], mean, color=BLUE, linewidth=2, label=f"mean of {width}")
        at_loss.axhline(np.log(10), color=GREY, linewidth=0.8, linestyle="--")
        at_loss.text(len(losses), np.log(10), "guessing: log 10", ha="right", va="bottom",
                     fontsize=8, color=GREY)  # fmt: skip
        at_loss.set(title="loss", xlabel="step", ylim=(0, max(losses.max() * 1.05, 2.6)))
        at_loss.legend(loc="center right")
        if history.accuracies:
            at, parts = zip(*history.accuracies)
            at_accuracy.plot(at, parts, color=GREEN, linewidth=2, marker="o")
            for step, part in history.accuracies:
                place = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
                at_accuracy.annotate(f"{part:.1%}", (step, part), fontsize=8, **place)
        at_accuracy.set(title="accuracy on unseen pictures", xlabel="step", ylim=(0, 1.12))
        at_accuracy.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    return figure


def digits_figure(x: Array, labels: Labels, network: Network | None = None) -> Figure:
    """The first 40 digits; with a network, what it takes them for, in red where it is wrong."""
    count = min(len(x), 40)
    if not count or len(labels) != len(x):
        raise ArgumentError(
            f"digits_figure: expected as many labels as pictures, got {len(labels)} and {len(x)}"
        )
    said = labels if network is None else network.forward(x[:count]).argmax(axis=1)
    columns = min(count, 10)
    rows = -(-count // columns)
    with drawing(0.62 * columns, 0.78 * rows) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels:
            panel.axis("off")
        for panel, picture, label, answer in zip(panels, x[:count], labels, said):
            panel.imshow(picture[0], cmap="gray_r", vmin=0, vmax=1)
            is_right = label == answer
            text = str(answer) if is_right else f"{answer}, not {label}"
            panel.set_title(text, fontsize=8, pad=2, loc="center",
                            color=GREY if is_right else RED)  # fmt: skip
    return figure


def kernels_figure(network: Network, picture: Array) -> Figure:
    """The kernels of a network's first convolution, and what each sees in a picture (1, h, w)."""
    first = network.layers[0]
    if "weight" not in first.parameters or first.parameters["weight"].ndim != 4:
        raise ArgumentError(f"kernels_figure: expected a convolution first, got {first.name}")
    weight, maps = first.parameters["weight"], np.maximum(first.forward(picture[None])[0], 0)
    top, count = float(np.abs(weight).max()), len(weight)
    with drawing(0.95 * (count + 1), 2.3) as figure:
        panels = figure.subplots(2, count + 1)
        for panel in panels.ravel():
            panel.axis("off")
        panels[1, 0].imshow(picture[0], cmap="gray_r", vmin=0, vmax=1)
        panels[1, 0].set_title("picture", color=ORANGE)
        for nth in range(count):
            panels[0, nth + 1].imshow(weight[nth, 0], cmap="RdBu_r", vmin=-top, vmax=top)
            panels[0, nth + 1].set_title(f"kernel {nth}")
            panels[1, nth + 1].imshow(maps[nth], cmap="magma", vmin=0)
    return figure
