"""The study of docs/builtin.md: networks in the built-in layout, measured on the same pairs.

    python docs/study.py out/ [--networks exemplar=builtin mine=mine.safetensors untrained]
                              [--pairs photo.jpg:painting.jpg scene:mosaic] [--size 192]

Every pair is painted with several content weights.  Prints a Markdown table of style @ structure
(nst.visualize.measure: style 0 is the style itself, structure 1 the content's) and of the style
where the line between two of them crosses a structure; the pictures of the first weight go to
out/, side by side too.  `untrained` are the random weights of nst.training.untrained.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import save_file

import nst
from nst.pictures.sizing import Picture, fit_style, load_picture
from nst.samples import SAMPLES
from nst.training.untrained import untrained_state
from nst.visualize.measure import Score, score

STRUCTURES = (0.7, 0.8, 0.9)


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


def style_at(structure: float, scores: list[Score]) -> str:
    """Style by the line between the two scores on either side; nothing beyond their ends."""
    ordered = sorted(scores, key=lambda found: found.structure)
    for low, high in pairwise(ordered):
        if low.structure <= structure <= high.structure and low.structure < high.structure:
            part = (structure - low.structure) / (high.structure - low.structure)
            return f"{low.style + part * (high.style - low.style):.3f}"
    return ""


def beside(images: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (sum(image.width for image in images), images[0].height))
    x = 0
    for image in images:
        sheet.paste(image, (x, 0))
        x += image.width
    return sheet


def main() -> None:
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    weights = [f"{weight:g}" for weight in options.content_weights]
    heads = ["network", "content", "style", *weights, *(f"at {s:g}" for s in STRUCTURES)]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    painted: dict[str, list[Image.Image]] = {pair: [] for pair in options.pairs}
    for word in options.networks:
        name, path = weights_of(word, options.folder)
        for pair in options.pairs:
            labels = [Path(x).stem for x in pair.split(":")]
            images, scores = _front(options, path, pair)
            images[0].save(options.folder / f"{name}-{'-'.join(labels)}.png")
            painted[pair].append(images[0])
            cells = [f"{found.style:.3f} @ {found.structure:.2f}" for found in scores]
            cells += [style_at(structure, scores) for structure in STRUCTURES]
            print(f"| {' | '.join([name, *labels, *cells])} |", flush=True)
    for pair, images in painted.items():
        labels = [Path(x).stem for x in pair.split(":")]
        beside(images).save(options.folder / f"beside-{'-'.join(labels)}.png")


def _front(
    options: argparse.Namespace, path: Path | None, pair: str
) -> tuple[list[Image.Image], list[Score]]:
    """The pair's pictures and scores, one per content weight."""
    first, second = (picture(name) for name in pair.split(":"))
    content, images = load_picture(first, options.size), []
    for weight in options.content_weights:
        result = nst.stylize(
            first,
            second,
            network="builtin",
            weights=path,
            size=options.size,
            iterations=(options.iterations,),
            content_layers=tuple(options.content_layers),
            content_weight=weight,
            color_weight=options.color_weight,
        )
        images.append(result.image)
    return images, [measured(image, content, second) for image in images]


def _options() -> argparse.Namespace:
    usual = nst.StyleConfig()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", default=["exemplar=builtin", "untrained"])
    parser.add_argument("--pairs", nargs="+", default=["scene:mosaic", "scene:swirls"])
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--iterations", type=int, default=80)
    parser.add_argument("--content-layers", nargs="+", default=[])
    parser.add_argument("--content-weights", nargs="+", type=float, default=[0.02, 0.1, 0.4])
    parser.add_argument("--color-weight", type=float, default=usual.color_weight)
    return parser.parse_args()


if __name__ == "__main__":
    main()
