"""Receptive fields: the part of the picture that one element of a layer can see.

Going down the layers, with kernel k, stride s and padding p, from r = 1, step = 1, start = 0:

    r <- r + (k - 1) step        start <- start - p step        step <- s step

r is the field's side in pixels, `step` how far the fields of neighbours are apart, and the field
of element i reaches from start + i step to start + i step + r - 1.  Dilation widens k.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from ..errors import ArgumentError
from ..figures import BLUE, GREEN, INK, ORANGE, RED, Figure, drawing

_YELLOW = "#f5d90a"
Window = tuple[str, int, int, int]  # name, kernel, stride, padding


def _vgg19() -> Iterable[Window]:
    for block, convolutions in enumerate((2, 2, 4, 4, 4), start=1):
        for nth in range(1, convolutions + 1):
            yield f"conv{block}_{nth}", 3, 1, 1
        yield f"pool{block}", 2, 2, 0


VGG19: tuple[Window, ...] = tuple(_vgg19())
STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")


@dataclass(frozen=True)
class Field:
    """The receptive field of a layer's elements, in pixels of the picture."""

    name: str
    size: int
    step: int
    start: int

    def reach(self, i: int) -> tuple[int, int]:
        """First and last row (or column) that element i sees; both may lie outside the picture."""
        first = self.start + i * self.step
        return first, first + self.size - 1


def receptive_fields(layers: Iterable[Window] = VGG19) -> list[Field]:
    """The field of every layer (name, kernel, stride, padding), in their order."""
    fields, size, step, start = [], 1, 1, 0
    for name, kernel, stride, padding in layers:
        if kernel < 1 or stride < 1 or padding < 0:
            raise ArgumentError(
                f"receptive_fields: {name} expects kernel and stride >= 1 and padding >= 0, "
                f"got {kernel}, {stride}, {padding}"
            )
        size, start, step = size + (kernel - 1) * step, start - padding * step, step * stride
        fields.append(Field(name, size, step, start))
    return fields


def receptive_table(fields: Iterable[Field]) -> str:
    """A line per layer: how much it sees, and how far apart its elements look."""
    lines = [f"{'layer':<10}{'sees':>10}{'every':>8}"]
    lines += [f"{f.name:<10}{f'{f.size} px':>10}{f'{f.step} px':>8}" for f in fields]
    return "\n".join(lines)


def receptive_figure(picture: Tensor, names: Iterable[str] = STYLE_LAYERS) -> Figure:
    """The fields of the named layers of VGG19 around the middle of a picture (3, h, w)."""
    from matplotlib.patches import Rectangle

    known = {field.name: field for field in receptive_fields()}
    chosen = list(names)
    for name in chosen:
        if name not in known:
            raise ArgumentError(f"unknown layer {name!r}: choices: {', '.join(known)}")
    if not isinstance(picture, Tensor) or picture.dim() != 3 or picture.shape[0] != 3:
        raise ArgumentError("receptive_figure: picture expects a tensor (3, h, w)")
    height, width = picture.shape[1:]
    colours = (RED, ORANGE, _YELLOW, GREEN, BLUE)
    with drawing(9.2, 4.6) as figure:
        at_picture, bars = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.15, 1]})
        at_picture.imshow(picture.clamp(0, 1).permute(1, 2, 0).numpy())
        for nth, name in enumerate(chosen):
            field, colour = known[name], colours[nth % len(colours)]
            top = field.reach(round((height / 2 - field.start - field.size / 2) / field.step))[0]
            left = field.reach(round((width / 2 - field.start - field.size / 2) / field.step))[0]
            corner = (left - 0.5, top - 0.5)
            at_picture.add_patch(
                Rectangle(corner, field.size, field.size, fill=False, edgecolor=colour, linewidth=2)
            )
            if field.size < 20:  # its label would hide it; the bars show the colours
                continue
            label = f"{name}: {field.size}"
            at_picture.annotate(
                label, (left, top + field.size), xytext=(3, 3), textcoords="offset points",
                fontsize=8, color=INK if colour == _YELLOW else "white",
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.2},
            )  # fmt: skip
        at_picture.set(title=f"one element's view, on {width}x{height} px", xticks=[], yticks=[])
        shown = [field for field in known.values() if field.name.startswith("conv")]
        marked = [
            colours[chosen.index(f.name) % len(colours)] if f.name in chosen else "#c9c9c9"
            for f in shown
        ]
        bars.barh([f.name for f in shown], [f.size for f in shown], color=marked)
        for nth, field in enumerate(shown):
            bars.text(field.size + 3, nth, str(field.size), va="center", fontsize=7.5)
        bars.invert_yaxis()
        bars.set(title="receptive field, pixels", xlim=(0, max(f.size for f in shown) * 1.12))
        bars.tick_params(axis="y", length=0, labelsize=8)
    return figure
