"""The study of docs/builtin.md: networks in the built-in layout, measured on the same pairs.

    python docs/study.py out/ [--networks trained=builtin mine=mine.safetensors untrained]
                              [--pairs photo.jpg:painting.jpg scene:mosaic] [--size 192]

Prints a Markdown table (nst.measure: style 0 is the style itself, structure 1 the content's) and
leaves the pictures in the folder.  `untrained` are the random weights of nst.training.untrained.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import save_file

import nst
from nst.images import Picture, fit_style, load_picture
from nst.measure import Score, score
from nst.samples import SAMPLES
from nst.training.untrained import untrained_state


def picture(name: str) -> Any:
    """A drawn sample by its name, or a file."""
    return SAMPLES[name](512, 0) if name in SAMPLES else Path(name)


def weights_of(word: str, folder: Path) -> tuple[str, Path | None]:
    """(name, weights file) of NAME, NAME=builtin or NAME=FILE."""
    name, _, where = word.partition("=")
    if name == "untrained":
        path = folder / "untrained.safetensors"
        save_file(untrained_state(), path)
        return name, path
    return name, None if where in ("", "builtin") else Path(where)


def measured(result: Image.Image, content: Picture, style: Any) -> Score:
    fitted = fit_style(load_picture(style), content.hw)
    return score(load_picture(result).rgb, content.rgb, fitted.rgb)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", default=["trained=builtin", "untrained"])
    parser.add_argument("--pairs", nargs="+", default=["scene:mosaic", "scene:swirls"])
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--scales", type=int, default=2)
    parser.add_argument("--pooling", default="auto")
    parser.add_argument("--content-layers", nargs="+", default=[])
    parser.add_argument("--content-weight", type=float, default=nst.StyleConfig().content_weight)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| network | content | style | style | structure |\n|---|---|---|---|---|")
    for word in options.networks:
        name, path = weights_of(word, options.folder)
        for pair in options.pairs:
            first, second = pair.split(":")
            result = nst.stylize(
                picture(first),
                picture(second),
                network="builtin",
                weights=path,
                size=options.size,
                iterations=(options.iterations,),
                scales=options.scales,
                pooling=options.pooling,
                content_layers=tuple(options.content_layers),
                content_weight=options.content_weight,
            ).image
            found = measured(result, load_picture(picture(first), options.size), picture(second))
            labels = [Path(x).stem for x in (first, second)]
            result.save(options.folder / f"{name}-{'-'.join(labels)}.png")
            row = f"| {name} | {labels[0]} | {labels[1]} |"
            print(f"{row} {found.style:.3f} | {found.structure:.3f} |", flush=True)


if __name__ == "__main__":
    main()
