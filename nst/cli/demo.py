"""`nst demo`: the whole way, on pictures that the project draws itself, without any download.

Each style is painted with the built-in network, and from there with VGG19: a third of the
iterations, at full size only, do once the picture is near.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..api import Stylizer
from ..networks.weights import obtain
from ..outputs import compare_sheet, save_picture
from ..pictures.sizing import load_picture, parse_size
from ..run.observer import Observer
from ..run.result import Result
from ..samples import mosaic, scene, swirls


def demo(out: Path, size: str, iterations: int, backend: str, observer: Observer) -> list[str]:
    """Draw, stylise with both networks, lay side by side; returns the lines to print."""
    side = parse_size(size)
    content = _keep(out / "content.png", scene(side, seed=0))
    styles = {"swirls": swirls(side, seed=0), "mosaic": mosaic(side, seed=0)}
    networks = {name: obtain(name) for name in ("builtin", "vgg19")}  # read once for both styles
    same: dict[str, Any] = {"observer": observer, "size": size, "backend": backend}
    sheet: list[tuple[Path, str]] = []
    lines: list[str] = []
    for name, drawn in styles.items():
        style = _keep(out / f"{name}.png", drawn)
        built_in, vgg19 = out / f"result-{name}-builtin.png", out / f"result-{name}.png"
        seen = _plots(out) if name == "swirls" else {}
        fast = Stylizer(style, weights=networks["builtin"], iterations=iterations, **same)
        coarse = fast(content, output=built_in, **seen)
        lines.append(_told(f"{name}, built-in network", coarse))
        start: dict[str, Any] = {
            "init": coarse.rgb,
            "scales": 1,
            "iterations": max(1, iterations // 3),
        }
        fine = Stylizer(style, weights=networks["vgg19"], **start, **same)(content, output=vgg19)
        lines.append(_told(f"{name}, VGG19 from there", fine))
        sheet += [(content, "content"), (style, name)]
        sheet += [(built_in, "built-in network"), (vgg19, "VGG19")]
    compare_sheet(sheet, out / "comparison.png", per_row=4)  # a line for each style
    lines.append(f"result      {out / 'result-swirls.png'}, {out / 'result-mosaic.png'}")
    lines.append(f"side by side  {out / 'comparison.png'}")
    lines.append(f"losses      of swirls, built-in: {out / 'losses.png'}, {out / 'losses.csv'}")
    lines.append(f"animation   of swirls, built-in: {out / 'progress.gif'}")
    return lines


def _plots(out: Path) -> dict[str, Any]:
    return {
        "plot": out / "losses.png",
        "csv": out / "losses.csv",
        "animate": out / "progress.gif",
    }


def _told(what: str, result: Result) -> str:
    """A line on a finished run; one that was interrupted ends the demo."""
    if result.interrupted:
        raise KeyboardInterrupt
    return f"{what}: {len(result.losses)} iterations, {result.seconds:.1f} s"


def _keep(path: Path, drawn: object) -> Path:
    return save_picture(path, load_picture(drawn).rgb)
