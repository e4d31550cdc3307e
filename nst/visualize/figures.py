"""What a network responds to, as figures; features.py computes what is drawn here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from fastconv.figures import GREY, Figure, drawing
from fastconv.figures import png as png  # for notebooks

from ..errors import PictureError
from .features import FeatureReader, Reconstruction, first_filters, strongest

MOST_MAPS = 64  # of a layer's feature maps: more would be too small to see


def feature_maps_figure(features: Tensor, title: str = "") -> Figure:
    """The feature maps (1, c, h, w) of a layer as a grid, the strongest 64 of more.

    Each map is shown on a scale of its own, from its least value to its 99.5th percentile: one
    scale for all would leave most of them black.
    """
    if features.dim() != 4 or features.shape[0] != 1 or features.numel() == 0:
        raise PictureError(f"features expect shape (1, c, h, w), got {tuple(features.shape)}")
    maps = features.detach().float().cpu().numpy()[0]
    strength = np.abs(maps).mean(axis=(1, 2))
    shown = np.sort(np.argsort(-strength, kind="stable")[:MOST_MAPS])
    columns = math.ceil(math.sqrt(len(shown)))
    rows = math.ceil(len(shown) / columns)
    cell = 1.15
    cell_h = max(0.2, cell * maps.shape[1] / maps.shape[2])
    height = rows * (cell_h + 0.2) + 0.45
    # No automatic layout: for 64 panels it takes longer than everything else.
    with drawing(max(3.0, cell * columns), height, layout=None) as figure:
        figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.5 / height, 0.06, 0.2 / cell_h)
        cells = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in cells:
            panel.axis("off")
        for panel, channel in zip(cells, shown):
            values = maps[channel]
            top = max(np.percentile(values, 99.5), values.min() + 1e-9)
            panel.imshow(values, cmap="magma", vmin=values.min(), vmax=top)
            panel.set_title(str(channel), fontsize=6.5, pad=1.5, color=GREY, loc="center")
        of_all = "" if len(shown) == len(maps) else f", the strongest {len(shown)}"
        about = f"{len(maps)} maps of {maps.shape[2]}x{maps.shape[1]}{of_all}"
        figure.suptitle(f"{title}: {about}" if title else about, fontsize=10)
    return figure


def gram_figure(gram: Tensor, title: str = "") -> Figure:
    """A Gram or covariance matrix (c, c) as a picture, on a symmetric logarithmic scale.

    A few channels are far stronger than the rest, so on a linear scale the matrix would look
    like a handful of crosses on nothing.
    """
    matrix = gram.detach().float().cpu().numpy()
    matrix = matrix[0] if matrix.ndim == 3 and matrix.shape[0] == 1 else matrix
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise PictureError(f"gram expects shape (c, c), got {tuple(gram.shape)}")
    with drawing(5.6, 4.9) as figure:
        from matplotlib.colors import SymLogNorm

        top = float(np.abs(matrix).max()) or 1.0
        is_signed = bool((matrix < 0).any())
        low, colours = (-top, "RdBu_r") if is_signed else (0.0, "magma")
        panel = figure.subplots()
        straight = top / 1000  # the scale is linear around 0
        norm = SymLogNorm(linthresh=straight, vmin=low, vmax=top)
        shown = panel.imshow(matrix, cmap=colours, norm=norm, interpolation="nearest")
        panel.set(xlabel="channel", ylabel="channel")
        panel.set_title(title or "Gram matrix")
        bar = figure.colorbar(shown, ax=panel, shrink=0.85)
        # the label of 0 has no space for others beside it
        bar.set_ticks([t for t in bar.get_ticks() if t == 0 or abs(t) > 4 * straight])
    return figure


def features_figure(reader: FeatureReader, pictures: Mapping[str, Any], maps: int = 4) -> Figure:
    """The same feature maps of several pictures side by side, a row for every layer.

    Shown are the channels that are strongest over all the pictures, each on one scale for all of
    them, so that what is bright here and dark there is a difference and not a matter of scaling.
    """
    if not pictures:
        raise PictureError("expected one picture or more to look at, got none")
    seen = {name: reader.features(source) for name, source in pictures.items()}
    layers, groups = reader.layers, len(seen)
    with drawing(0.95 * maps * groups + 1.3, 1.0 * len(layers) + 2.4) as figure:
        parts = figure.subfigures(1, groups)
        for group, (name, features) in zip(np.atleast_1d(parts), seen.items()):
            heights = [2.0, *[1.0] * len(layers)]
            grid = group.add_gridspec(len(layers) + 1, maps, height_ratios=heights)
            at_top = group.add_subplot(grid[0, :])
            at_top.imshow(_colours(reader.picture(pictures[name])))
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


def grams_figure(
    reader: FeatureReader, pictures: Mapping[str, Any], layers: Sequence[str] = ()
) -> Figure:
    """Gram matrices: a row per picture, a column per layer; each column on one scale.

    Channels stand in the order of their strength in the first picture.  The root is shown: a few
    channels are far stronger than the rest.
    """
    if not pictures:
        raise PictureError("expected one picture or more to look at, got none")
    chosen = list(layers or reader.layers)
    found = {name: reader.grams(source) for name, source in pictures.items()}
    first = next(iter(found.values()))
    with drawing(1.75 * (len(chosen) + 1), 1.85 * len(found) + 0.5) as figure:
        panels = figure.subplots(len(found), len(chosen) + 1, squeeze=False)
        for row, (name, grams) in zip(panels, found.items()):
            row[0].imshow(_colours(reader.picture(pictures[name])))
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


def filters_figure(reader: FeatureReader) -> Figure:
    """The first convolution's kernels as coloured tiles: grey is 0."""
    kernels = first_filters(reader).cpu()
    columns = 16 if len(kernels) > 32 else 8
    rows = -(-len(kernels) // columns)
    with drawing(0.5 * columns, 0.55 * rows + 0.35) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels:
            panel.axis("off")
        for panel, kernel in zip(panels, kernels):
            tile = kernel / (2 * float(kernel.abs().max()) or 1.0) + 0.5
            panel.imshow(tile.permute(1, 2, 0).numpy())
        figure.suptitle(f"{reader.name}: {len(kernels)} kernels of the first layer", fontsize=9)
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
    """The pictures (n, 3, s, s) that channels of a layer respond to most, with their numbers."""
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
