"""The labelled sheet of `fastconv filter`: a picture, what each filter makes of it, and kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..figures import INK, Figure, drawing
from .filters import Filter

_PER_INCH = 11  # characters of a title
_MOST_NUMBERS = 5  # larger kernels are shown as a picture only
_MIDDLE: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6}


def filter_sheet(
    picture: Tensor, filters: Sequence[Filter], backend: str | None = None, title: str = ""
) -> Figure:
    """A cell for the picture (3, h, w) and one for every filter, with its kernel beside it."""
    cells = len(filters) + 1
    height, width = picture.shape[1:]
    columns = min(cells, 3 if width >= height else 4)
    rows = math.ceil(cells / columns)
    across = 3.6 if width >= height else 2.7
    with drawing(columns * across, rows * (across * height / width + 0.3)) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels:
            panel.axis("off")
        panels[0].imshow(_shown(picture, "picture"))
        panels[0].set_title(_shortened(title or "picture", int(across * _PER_INCH)))
        for panel, each in zip(panels[1:], filters):
            values = _shown(each(picture, backend), each.kind)
            panel.imshow(values, cmap="gray", vmin=0, vmax=1)
            panel.set_title(f"{each.label}{_KIND[each.kind]}")
            _draw_kernels(panel, each)
    return figure


def _shortened(name: str, most: int) -> str:
    """A long name without its middle: its beginning and its size say most."""
    if len(name) <= most:
        return name
    return f"{name[: most // 2]}…{name[len(name) - (most - most // 2 - 1) :]}"


_KIND = {"picture": "", "signed": "  (grey: 0)", "magnitude": "  (length of x and y)"}


def _shown(values: Tensor, kind: str) -> np.ndarray[Any, Any]:
    """As a picture in [0, 1]: as it is; with 0 in the middle; or from 0 up."""
    if kind == "picture":
        return values.clamp(0, 1).permute(1, 2, 0).numpy()
    strength = values[0].abs().double()
    # The strongest thousandth is cut off: one sharp edge would leave all else dim.
    top = float(np.quantile(strength.numpy(), 0.999)) or float(strength.max())
    top = max(top, 1e-4)  # below, it is what rounding leaves of an even picture
    shown = values[0] / (2 * top) + 0.5 if kind == "signed" else values[0] / top
    return shown.clamp(0, 1).numpy()


def _draw_kernels(panel: Any, each: Filter) -> None:
    """The kernels in the lower left corner: small ones with their numbers."""
    for at, kernel in enumerate(each.kernels):
        inset = panel.inset_axes((0.02 + 0.27 * at, 0.02, 0.25, 0.25), anchor="SW")
        top = float(kernel.abs().max())
        inset.imshow(kernel.numpy(), cmap="RdBu_r", vmin=-top, vmax=top)
        inset.set(xticks=[], yticks=[])
        for spine in inset.spines.values():
            spine.set(visible=True, color=INK, linewidth=0.8)
        if torch.allclose(kernel, kernel[0, 0]):
            text = f"all 1/{kernel.numel()}"
            inset.text(0.5, 0.5, text, transform=inset.transAxes, **_MIDDLE, color="white")
        elif max(kernel.shape) <= _MOST_NUMBERS:
            for (u, v), value in np.ndenumerate(kernel.numpy()):
                colour = "white" if abs(value) > 0.6 * top else INK
                inset.text(v, u, _few_digits(float(value)), **_MIDDLE, color=colour)


def _few_digits(value: float) -> str:
    """What fits into a cell: 12, -1, .25, 0 for what is less than half a hundredth."""
    if value == int(value):
        return f"{value:.0f}"
    sign, digits = "-" if value < 0 else "", f"{abs(value):.2f}".rstrip("0").rstrip(".")
    return f"{sign}{digits.removeprefix('0')}" if digits != "0" else "0"
