"""Figures: one look, and a picture or bytes out of each.

matplotlib is an extra and slow to load, so it is imported when the first figure is drawn.  Figures
are made without pyplot: nothing here touches a notebook's or a window's state.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from .errors import ArgumentError, UnsupportedError

Figure = Any  # matplotlib.figure.Figure, where it is installed

SUFFIXES = (".png", ".jpg", ".pdf", ".svg", ".webp")
INK, GREY, PAPER = "#222222", "#8a8a8a", "#ffffff"
BLUE, ORANGE, GREEN, RED = "#2f6fb0", "#e08a1e", "#3a9150", "#c8382c"
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "fastconv",  # the same figure gives the same file
}


@contextmanager
def drawing(width: float, height: float, layout: Any = "constrained") -> Iterator[Figure]:
    """A new figure of so many inches, in the house style within the block."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Drawing
    except ImportError as error:
        raise UnsupportedError(
            "figures need matplotlib: pip install 'fastconv-nst[plot]'"
        ) from error
    with matplotlib.rc_context(_STYLE):
        figure = Drawing(figsize=(width, height), layout=layout)
        FigureCanvasAgg(figure)
        yield figure


def write(figure: Figure, path: Path, suffix: str, dpi: int = 120) -> None:
    """Write `figure` to `path` in the format that `suffix` names."""
    figure.savefig(path, dpi=dpi, facecolor=PAPER, format=check_suffix(suffix)[1:])


def check_suffix(suffix: str) -> str:
    """`suffix` in small letters, if a figure can be written so."""
    if suffix.lower() not in SUFFIXES:
        got = f"'{suffix}'" if suffix else "no suffix"
        raise ArgumentError(f"a figure's file expects one of {', '.join(SUFFIXES)}, got {got}")
    return suffix.lower()


def png(figure: Figure, dpi: int = 80) -> bytes:
    """The figure as a PNG file's bytes, with 256 colours at most: small in a notebook."""
    buffer = io.BytesIO()
    picture(figure, dpi).quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def picture(figure: Figure, dpi: int = 80) -> Image.Image:
    """The figure as a PIL picture."""
    figure.set_dpi(dpi)
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    return Image.frombuffer("RGBA", (width, height), bytes(figure.canvas.buffer_rgba())).convert(
        "RGB"
    )


def gif(frames: Sequence[Image.Image], milliseconds: int = 300, last: int = 1500) -> bytes:
    """Frames as an animated GIF's bytes, endless; the last one stands for a while."""
    if not frames:
        raise ArgumentError("an animation expects one frame or more, got none")
    palette = frames[-1].quantize(64, dither=Image.Dither.NONE)
    few = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [milliseconds] * (len(frames) - 1) + [last]
    buffer = io.BytesIO()
    few[0].save(buffer, "GIF", save_all=True, append_images=few[1:], duration=times, loop=0)
    return buffer.getvalue()
