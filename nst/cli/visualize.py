"""`nst features` and `nst reconstruct`: what a network sees, and what it remembers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional

from ..config.options import BackendName, NetworkName, StyleLossName, flag, switch
from ..errors import ConfigError

Observer = Any  # nst.run.observer.Observer: importing it would make help wait for torch
ALL = "all"


@dataclass(frozen=True)
class Features:
    """Draw what a network sees: feature maps, Gram matrices, first filters, channels' favourites.

    One picture and one layer give all of the layer's maps; several pictures, or --layer all, give
    the strongest maps of each side by side.
    """

    pictures: Annotated[Positional[tuple[Path, ...]], flag(metavar="PICTURE ...")] = ()
    """The pictures; none for filters and channels."""
    layer: str = "relu3_1"
    """The layer, or `all`: every style and content layer."""
    output: Annotated[Path, flag(aliases=["-o"], metavar="PATH")] = Path("features.png")
    """Where to."""
    what: Literal["maps", "gram", "filters", "channels"] = "maps"
    """Feature maps, Gram matrices, the first layer's kernels, or what channels answer to most."""
    channels: Annotated[tuple[int, ...], flag(metavar="N ...")] = (0, 1, 2, 3, 4, 5, 6, 7)
    """Which channels of the layer, for --what channels."""
    network: NetworkName = "auto"
    """The network."""
    weights: Annotated[Path | None, flag(metavar="PATH")] = None
    """Weights from a file of your own."""
    size: Annotated[str, flag(aliases=["-s"], metavar="N|WxH")] = "256"
    """Size at which the network sees the pictures."""
    backend: BackendName = "auto"
    """What computes the convolutions."""

    def run(self, observer: Observer) -> list[str]:
        from ..outputs.atomic import check_apart
        from ..outputs.figure_files import check_figure_path, save_figure

        check_figure_path(self.output)
        check_apart({"output": self.output}, {str(path): path for path in self.pictures})
        needs_picture = self.what in ("maps", "gram")
        if needs_picture != bool(self.pictures):
            wanted = "one picture or more" if needs_picture else "no picture"
            raise ConfigError(f"--what {self.what} expects {wanted}, got {len(self.pictures)}")
        if needs_picture and len(self.pictures) == 1 and self.layer != ALL:
            return [f"wrote {self._one_layer(observer)}"]
        return [f"wrote {save_figure(self._figure(observer), self.output)}"]

    def _one_layer(self, observer: Observer) -> Path:
        from ..losses.style import gram
        from ..outputs.figure_files import save_figure
        from ..visualize.features import feature_reader
        from ..visualize.figures import feature_maps_figure, gram_figure

        reader = feature_reader((self.layer,), observer, size=self.size, **self._network())
        remark(observer, self.pictures, self.output, self.size)
        features = reader.features(self.pictures[0])[self.layer]
        title = f"{reader.name} {self.layer}"
        if self.what == "gram":
            return save_figure(gram_figure(gram(features), title), self.output)
        return save_figure(feature_maps_figure(features, title), self.output)

    def _figure(self, observer: Observer) -> Any:
        from ..visualize import figures as figures
        from ..visualize.features import favourites, feature_reader

        if self.what == "channels" and self.layer == ALL:
            raise ConfigError("--what channels expects one layer, got all")
        layers = () if self.layer == ALL or self.what == "filters" else (self.layer,)
        reader = feature_reader(layers, observer, size=self.size, **self._network())
        remark(observer, self.pictures, self.output, self.size)
        if self.what == "filters":
            return figures.filters_figure(reader)
        if self.what == "channels":
            found = favourites(reader, self.layer, self.channels)
            return figures.favourites_figure(found, self.layer, self.channels)
        draw = figures.grams_figure if self.what == "gram" else figures.features_figure
        return draw(reader, _named(self.pictures))

    def _network(self) -> dict[str, Any]:
        return {"network": self.network, "weights": self.weights, "backend": self.backend}


def remark(observer: Observer, pictures: Sequence[Path], output: Path, size: str = "") -> None:
    """Remarks on what might surprise: what is done with pictures, a folder that is made.

    Called when all is checked: a mistake is told in one line, without remarks before it.
    """
    from ..outputs.atomic import folders_to_make
    from ..pictures.sizing import load_picture, parse_size

    sides = parse_size(size) if size else None
    found = [load_picture(path, sides).remarks for path in dict.fromkeys(pictures)]
    for line in [*(line for remarks in found for line in remarks), *folders_to_make([output])]:
        observer.note(line)


def _named(pictures: tuple[Path, ...]) -> dict[str, Path]:
    """Pictures by their names; of two alike, the second is called name (2)."""
    found: dict[str, Path] = {}
    for path in pictures:
        name, count = path.stem, 1
        while name in found:
            count += 1
            name = f"{path.stem} ({count})"
        found[name] = path
    return found


@dataclass(frozen=True)
class Reconstruct:
    """From noise, find pictures that a layer cannot tell from this one: its content, its style."""

    picture: Annotated[Positional[Path], flag(metavar="PICTURE")]
    """The picture."""
    layers: Annotated[tuple[str, ...], flag(metavar="LAYER ...")] = ()
    """The layers, one reconstruction each; the network's usual style and content layers if none."""
    what: Literal["content", "style", "both"] = "both"
    """Content: the features in their places. Style: their statistics, which makes a texture."""
    cumulative: Annotated[FlagCreatePairsOff[bool], switch()] = False
    """Style from all layers up to each, as in the paper's figure, instead of each layer alone."""
    output: Annotated[Path, flag(aliases=["-o"], metavar="PATH")] = Path("reconstructions.png")
    """Where to: one sheet."""
    size: Annotated[str, flag(aliases=["-s"], metavar="N|WxH")] = "192"
    """Size of the reconstructions."""
    iterations: Annotated[int, flag(aliases=["-i"])] = 100
    """Loss evaluations for each at its first scale."""
    style_loss: StyleLossName = "wasserstein"
    """How the statistics are compared; gatys is the paper's."""
    seed: int = 0
    """Seed of the noise."""
    network: NetworkName = "auto"
    """The network."""
    weights: Annotated[Path | None, flag(metavar="PATH")] = None
    """Weights from a file of your own."""
    backend: BackendName = "auto"
    """What computes the convolutions."""

    def run(self, observer: Observer) -> list[str]:
        from ..outputs.atomic import check_apart
        from ..outputs.figure_files import check_figure_path
        from ..pictures.sizing import load_picture, parse_size
        from ..visualize.features import cumulative, feature_reader, reconstruct

        check_figure_path(self.output)
        check_apart({"output": self.output}, {"the picture": self.picture})
        original = load_picture(self.picture, parse_size(self.size))
        same: dict[str, Any] = {"backend": self.backend, "size": self.size}
        # Read once: weights for all, and a wrong layer is reported before anything is computed.
        reader = feature_reader(
            self.layers, observer, network=self.network, weights=self.weights, **same
        )
        remark(observer, [self.picture], self.output, self.size)
        layers = self.layers or reader.layers
        same |= {"iterations": (self.iterations,), "seed": self.seed}
        same |= {"style_loss": self.style_loss}
        rows: list[list[Any]] = []
        lines: list[str] = []
        try:
            for part in ("content", "style") if self.what == "both" else (self.what,):
                steps = self.cumulative and part == "style"
                rows.append([])
                for chosen in cumulative(layers) if steps else [(layer,) for layer in layers]:
                    words = f"{part} of {', '.join(chosen)}"
                    observer.note(words)
                    now = reconstruct(original, chosen, part, observer, reader.weights, **same)
                    rows[-1].append(now)
                    lines.append(f"{words}: loss {now.first:.3g} -> {now.last:.3g}")
        except KeyboardInterrupt:
            if rows[0]:
                observer.note(f"{self._sheet(rows)} has what was done")
            raise
        return [*lines, f"wrote {self._sheet(rows)}"]

    def _sheet(self, rows: list[list[Any]]) -> Path:
        from ..outputs.figure_files import save_figure
        from ..visualize.figures import reconstructions_figure

        return save_figure(reconstructions_figure([row for row in rows if row]), self.output)
