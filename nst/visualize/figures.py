"""What a network sees, as figures; `looking.py` computes what is drawn here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fastconv.figures import GREY, SUFFIXES, Figure, drawing, write
from fastconv.figures import png as png  # for notebooks

from ..errors import OutputError, PictureError
from ..outputs.atomic import atomic_path, check_folder
from .features import Eyes, Reconstruction, first_filters, strongest


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure, whole or not at all, in the format that the suffix names."""
    target = check_figure_path(path)
    with atomic_path(target) as temporary:
        write(figure, temporary, target.suffix)
    return target


def check_figure_path(path: str | os.PathLike[str]) -> Path:
    """`path`, if a figure can be written to it: asked before the computing begins."""
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        got = f"'{target.suffix}'" if target.suffix else "no suffix"
        raise OutputError(f"{target}: expected one of {', '.join(SUFFIXES)}, got {got}")
    check_folder(target)
    return target


def features_figure(eyes: Eyes, pictures: Mapping[str, Any], maps: int = 4) -> Figure:
    """The same feature maps of several pictures side by side, a row for every layer.

    Shown are the channels that are strongest over all the pictures, each on one scale for all of
    them, so that what is bright here and dark there is a difference and not a matter of scaling.
    """
    if not pictures:
        raise PictureError("expected one picture or more to look at, got none")
    seen = {name: eyes.see(source) for name, source in pictures.items()}
    layers, groups = eyes.network.layers, len(seen)
    with drawing(0.95 * maps * groups + 1.3, 1.0 * len(layers) + 2.4) as figure:
        parts = figure.subfigures(1, groups)
        for group, (name, features) in zip(np.atleast_1d(parts), seen.items()):
            heights = [2.0, *[1.0] * len(layers)]
            grid = group.add_gridspec(len(layers) + 1, maps, height_ratios=heights)
            at_top = group.add_subplot(grid[0, :])
            at_top.imshow(_colours(eyes.picture(pictures[name])))
            at_top.set_title(name, loc="center")
            at_top.axis("off")
            for row, layer in enumerate(layers, start=1):
                several = [each[layer] for each in seen.values()]
                for column, channel in enumerate(strongest(several, maps)):
                    panel = group.add_subplot(grid[row, column])
                    top = max(float(np.percentile(f[0, channel].cpu(), 99.5)) for f in several)
                    values = features[layer][0, channel].cpu().numpy()
                    panel.imshow(values, cmap="magma", vmin=0, vmax=max(top, 1e-9))
                    panel.set(xticks=[], yticks=[])
                    panel.set_title(f"{layer} no. {channel}", fontsize=6.5, color=GREY, pad=2)
    return figure


def grams_figure(eyes: Eyes, pictures: Mapping[str, Any], layers: Sequence[str] = ()) -> Figure:
    """Gram matrices: a row per picture, a column per layer; each column on one scale.

    Channels stand in the order of their strength in the first picture.  The root is shown: a few
    channels are far stronger than the rest.
    """
    if not pictures:
        raise PictureError("expected one picture or more to look at, got none")
    chosen = list(layers) or eyes.network.layers
    found = {name: eyes.grams(source) for name, source in pictures.items()}
    first = next(iter(found.values()))
    with drawing(1.75 * (len(chosen) + 1), 1.85 * len(found) + 0.5) as figure:
        panels = figure.subplots(len(found), len(chosen) + 1, squeeze=False)
        for row, (name, grams) in zip(panels, found.items()):
            row[0].imshow(_colours(eyes.picture(pictures[name])))
            row[0].set_title(name)
            row[0].axis("off")
            for panel, layer in zip(row[1:], chosen):
                order = first[layer].diagonal().argsort(descending=True)
                top = max(float(each[layer].abs().max()) for each in found.values())
                matrix = grams[layer][order][:, order].abs().sqrt().cpu().numpy()
                panel.imshow(matrix, cmap="magma", vmin=0, vmax=max(top, 1e-12) ** 0.5)
                panel.set(xticks=[], yticks=[])
                panel.set_title(f"{layer}  {len(matrix)}²", fontsize=8)
        figure.supxlabel(
            "roots of the entries, as the largest would leave all else dark; "
            "strongest channels of the first picture first",
            fontsize=7.5,
        )
    return figure


def filters_figure(eyes: Eyes) -> Figure:
    """The first convolution's kernels as coloured tiles: grey is 0, colour what it looks for."""
    kernels = first_filters(eyes).cpu()
    columns = 16 if len(kernels) > 32 else 8
    rows = -(-len(kernels) // columns)
    with drawing(0.5 * columns, 0.55 * rows + 0.35) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels:
            panel.axis("off")
        for panel, kernel in zip(panels, kernels):
            tile = kernel / (2 * float(kernel.abs().max()) or 1.0) + 0.5
            panel.imshow(tile.permute(1, 2, 0).numpy())
        figure.suptitle(f"{eyes.name}: {len(kernels)} kernels of the first layer", fontsize=9)
    return figure


def reconstructions_figure(rows: Sequence[Sequence[Reconstruction]]) -> Figure:
    """Rows of reconstructions, each after its original, as in the paper's figure."""
    if not rows or not all(rows):
        raise PictureError("expected one reconstruction or more to draw, got none")
    columns = max(map(len, rows)) + 1
    height, width = rows[0][0].original.shape[2:]
    with drawing(1.75 * columns, (1.75 * height / width + 0.4) * len(rows)) as figure:
        panels = figure.subplots(len(rows), columns, squeeze=False)
        for panel in panels.ravel():
            panel.axis("off")
        for panel, row in zip(panels[:, 0], rows):
            panel.imshow(_colours(row[0].original))
            panel.set_title(f"{row[0].part} of this")
        for row_panels, row in zip(panels, rows):
            for panel, each in zip(row_panels[1:], row):
                panel.imshow(_colours(each.rgb))
                more = f"to {each.layers[-1]}" if len(each.layers) > 1 else each.layers[0]
                panel.set_title(more, fontsize=8.5)
    return figure


def favourites_figure(pictures: Tensor, layer: str, channels: Sequence[int]) -> Figure:
    """The pictures (n, 3, s, s) that channels of a layer answer to most, with their numbers."""
    columns = min(len(pictures), 8)
    rows = -(-len(pictures) // columns)
    with drawing(1.2 * columns, 1.38 * rows + 0.3) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels:
            panel.axis("off")
        for panel, picture, channel in zip(panels, pictures, channels):
            panel.imshow(_colours(picture[None]))
            panel.set_title(f"no. {channel}", fontsize=8, loc="center", color=GREY)
        figure.suptitle(f"what channels of {layer} answer to most", fontsize=9)
    return figure


def steps_figure(pictures: Mapping[str, Tensor]) -> Figure:
    """Pictures (1, 3, h, w), two or three in a row, each with its name: a run's steps."""
    if not pictures:
        raise PictureError("expected one picture or more to draw, got none")
    height, width = next(iter(pictures.values())).shape[2:]
    columns = min(len(pictures), 2 if len(pictures) in (2, 4) else 3)
    rows, wide = -(-len(pictures) // columns), 9.6 / columns
    with drawing(wide * columns, (wide * height / width + 0.3) * rows) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels:
            panel.axis("off")
        for panel, (name, picture) in zip(panels, pictures.items()):
            panel.imshow(_colours(picture))
            panel.set_title(name)
    return figure


def _colours(rgb: Tensor) -> np.ndarray[Any, Any]:
    return rgb[0].detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
