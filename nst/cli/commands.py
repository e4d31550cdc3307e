"""The smaller commands: each a dataclass of options, whose `run` returns the lines to print."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional

from ..config.options import BackendName, flag, switch
from ..errors import ConfigError
from ..networks.table import NETWORKS
from .train import Train
from .visualize import Features, Reconstruct, remark

Observer = Any  # nst.run.observer.Observer: importing it would make help wait for torch


@dataclass(frozen=True)
class Show:
    """Print the settings that nst kept in a picture."""

    picture: Annotated[Positional[Path], flag(metavar="PICTURE")]
    """A picture that nst wrote."""

    def run(self, observer: Observer) -> list[str]:
        from ..outputs import read_settings

        return [json.dumps(read_settings(self.picture), indent=2, ensure_ascii=False)]


@dataclass(frozen=True)
class Animate:
    """Make a .gif or .mp4 of a folder of frames."""

    frames: Annotated[Positional[Path], flag(metavar="FOLDER")]
    """The folder that --save-every filled."""
    output: Annotated[Path, flag(aliases=["-o"], metavar="PATH")] = Path("animation.gif")
    """Where to: .gif or .mp4."""
    fps: float = 12.0
    """Frames per second."""

    def run(self, observer: Observer) -> list[str]:
        from ..outputs import animate
        from ..outputs.atomic import folders_to_make

        new = folders_to_make([self.output])
        path = animate(self.frames, self.output, self.fps)
        for line in new:  # after what may be refused: a mistake is told in one line
            observer.note(line)
        return [f"wrote {path}"]


@dataclass(frozen=True)
class Compare:
    """Lay pictures side by side on one sheet."""

    pictures: Annotated[Positional[tuple[Path, ...]], flag(metavar="PICTURE ...")]
    """For example content, style and result."""
    output: Annotated[Path, flag(aliases=["-o"], metavar="PATH")] = Path("comparison.png")
    """Where to."""
    labels: Annotated[tuple[str, ...], flag(metavar="TEXT ...")] = ()
    """What stands under them; the files' names if not given."""

    columns: Annotated[int, flag(aliases=["-c"], metavar="N")] = 0
    """Pictures in a row; rows of equal length, four at most, if not given."""
    difference: Annotated[FlagCreatePairsOff[bool], switch(aliases=["-d"])] = False
    """Tell how far each is from the first, and show the differences, amplified, as well."""

    def run(self, observer: Observer) -> list[str]:
        from ..outputs import check_writable, compare_sheet
        from ..outputs.atomic import check_apart

        check_writable(self.output)
        check_apart({"output": self.output}, {str(path): path for path in self.pictures})
        if self.labels and len(self.labels) != len(self.pictures):
            raise ConfigError(
                f"labels expects one text per picture, {len(self.pictures)}, got {len(self.labels)}"
            )
        if self.columns < 0:
            raise ConfigError(f"columns expects at least 1, got {self.columns}")
        labels = self.labels or tuple(path.stem for path in self.pictures)
        sheet: list[tuple[Any, str]] = list(zip(self.pictures, labels))
        lines = self._apart(sheet) if self.difference else []
        remark(observer, self.pictures, self.output)
        path = compare_sheet(sheet, self.output, per_row=self.columns or None)
        return [*lines, f"wrote {path}"]

    def _apart(self, sheet: list[tuple[Any, str]]) -> list[str]:
        """The differences in words; their pictures go to the end of the sheet."""
        from ..outputs import amplified, differences

        if len(sheet) < 2:
            raise ConfigError(f"difference expects two pictures or more, got {len(sheet)}")
        found = differences(sheet[0][0], [picture for picture, _ in sheet[1:]])
        pictures, factor = amplified(found)
        labels = [label for _, label in sheet]
        sheet += [
            (picture, f"{label} (x {factor:.3g})") for picture, label in zip(pictures, labels[1:])
        ]
        return [
            f"{label} from {labels[0]}: {difference.words}"
            for label, difference in zip(labels[1:], found)
        ]


@dataclass(frozen=True)
class NetworkTable:
    """Print a network layer by layer: shape, parameters, work, memory, convolution kernel."""

    name: Annotated[Positional[str], flag(metavar="NETWORK", help=", ".join(NETWORKS))]
    size: Annotated[str, flag(aliases=["-s"], metavar="N|WxH")] = "512"
    """Size of the picture."""
    backend: BackendName = "auto"
    """What computes the convolutions."""

    def run(self, observer: Observer) -> list[str]:
        from ..networks.survey import table
        from ..pictures.sizing import parse_size

        size = parse_size(self.size)
        hw = (size, size) if isinstance(size, int) else (size[1], size[0])
        return table(self.name.lower(), hw, self.backend)


@dataclass(frozen=True)
class Demo:
    """Draw a scene and two paintings, and bring them together with both networks."""

    out: Annotated[Path, flag(aliases=["-o"], metavar="FOLDER")] = Path("out")
    """Folder for all that it writes."""
    size: Annotated[str, flag(aliases=["-s"], metavar="N|WxH")] = "320"
    """Size of the result."""
    iterations: Annotated[int, flag(aliases=["-i"])] = 120
    """Loss evaluations of the built-in network at the first scale; VGG19 has a third."""
    backend: BackendName = "auto"
    """What computes the convolutions."""

    def run(self, observer: Observer) -> list[str]:
        from .demo import demo

        return demo(self.out, self.size, self.iterations, self.backend, observer)


COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": Demo,
    "show": Show,
    "animate": Animate,
    "compare": Compare,
    "network": NetworkTable,
    "features": Features,
    "reconstruct": Reconstruct,
    "train": Train,
}
