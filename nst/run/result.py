"""What a run gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ..config.options import StyleConfig
from ..losses.term import groups
from ..outputs import save_picture
from ..outputs.writers import to_pixels
from .provenance import config_of, files_of, notes_of
from .run import Run


@dataclass(frozen=True)
class Result:
    """What a run gives."""

    rgb: Tensor  # (1, 3, h, w) in [0, 1]
    alpha: Tensor | None  # the content's, (1, 1, h, w)
    losses: list[dict[str, float]]  # one row per iteration
    config: StyleConfig
    network: str  # its name, and where its weights come from
    computed: str  # by which backend, where, and in which precision
    seconds: float  # of computing
    notes: list[str]  # what the run had to say
    settings: dict[str, Any]  # all that is kept in a file's metadata
    interrupted: bool = False
    checkpoint: Path | None = None  # where an interrupted run can be resumed from
    frames: Path | None = None  # the folder of frames, if there is one

    @classmethod
    def of(
        cls, run: Run, config: StyleConfig, sources: dict[str, Any], interrupted: bool
    ) -> Result:
        """The result of a run as it stands; `config` is the run's with its outputs."""
        network = f"{run.network.name}: {run.engine.source}"
        return cls(
            rgb=run.final_picture(),
            alpha=run.inputs.content.alpha,
            losses=run.history,
            config=config,
            network=network,
            computed=run.setup.computed,
            seconds=run.seconds,
            notes=run.notes,
            settings=_settings(run, config, sources, network),
            interrupted=interrupted,
        )

    @property
    def image(self) -> Image.Image:
        """The picture for Pillow, with the content's alpha."""
        return Image.fromarray(to_pixels(self.rgb, self.alpha))

    def save(self, path: Path | str) -> Path:
        """Write the picture with its settings, in the format of the suffix."""
        config = self.config
        return save_picture(path, self.rgb, self.alpha, self.settings, config.quality, config.bits)


def _settings(
    run: Run, config: StyleConfig, sources: dict[str, Any], network: str
) -> dict[str, Any]:
    from .. import __version__

    return {
        "nst": __version__,
        **files_of(run, config, sources),
        "network": network,
        "computed": run.setup.computed,
        "config": config_of(config),
        "iterations": len(run.history),
        "seconds": round(run.seconds, 2),
        "losses": groups(run.history[-1]) if run.history else {},
        "notes": notes_of(run, config, sources),
    }
