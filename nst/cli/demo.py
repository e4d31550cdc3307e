"""`nst demo`: the whole way, on pictures that the project draws itself, without any download."""

from __future__ import annotations

from pathlib import Path

from ..api import stylize
from ..outputs import compare_sheet, save_picture
from ..pictures.sizing import load_picture, parse_size
from ..run.observer import Observer
from ..samples import mosaic, scene, swirls


def demo(out: Path, size: str, iterations: int, backend: str, observer: Observer) -> list[str]:
    """Draw, stylise twice, lay side by side; returns what to tell, line by line."""
    side = parse_size(size)
    content = _keep(out / "content.png", scene(side, seed=0))
    styles = {"swirls": swirls(side, seed=0), "mosaic": mosaic(side, seed=0)}
    sheet: list[tuple[Path, str]] = []
    lines: list[str] = []
    for name, drawn in styles.items():
        style = _keep(out / f"{name}.png", drawn)
        first = name == "swirls"
        result = stylize(
            content,
            style,
            observer=observer,
            output=out / f"result-{name}.png",
            size=size,
            iterations=iterations,
            network="builtin",
            backend=backend,
            plot=out / "losses.png" if first else None,
            csv=out / "losses.csv" if first else None,
            animate=out / "progress.gif" if first else None,
        )
        sheet += [(content, "content"), (style, name)]
        sheet += [(out / f"result-{name}.png", f"content as {name}")]
        if result.interrupted:
            raise KeyboardInterrupt
        lines.append(f"{name}: {len(result.losses)} iterations, {result.seconds:.1f} s")
    compare_sheet(sheet, out / "comparison.png", per_row=3)  # a line for each style
    lines.append(f"result      {out / 'result-swirls.png'}, {out / 'result-mosaic.png'}")
    lines.append(f"side by side  {out / 'comparison.png'}")
    lines.append(f"losses      of swirls: {out / 'losses.png'}, {out / 'losses.csv'}")
    lines.append(f"animation   of swirls: {out / 'progress.gif'}")
    return lines


def _keep(path: Path, drawn: object) -> Path:
    return save_picture(path, load_picture(drawn).rgb)
