"""What a run leaves on the disk: frames and checkpoints while it runs, the rest at its end."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.options import StyleConfig
from ..errors import ConfigError, OutputError
from ..outputs import FrameWriter, animate, animator_for, check_writable
from ..outputs.atomic import check_folder
from ..run import checkpoint as checkpoints
from .progress import Observer

if TYPE_CHECKING:
    from ..api import Result
    from ..run.run import Run, Step

ANIMATION_FRAMES = 60  # about; 5 seconds at 12 frames per second


def check_outputs(
    config: StyleConfig, hw: tuple[int, int] = (1, 1), resumed: Path | None = None
) -> None:
    """Find out before the work, not after it, that a file cannot be written."""
    if config.output is not None:
        check_writable(config.output, config.bits, hw)
    if config.save_every and config.output is None:
        raise ConfigError("save_every puts its frames beside the result: give output as well")
    if config.animate is not None:
        animator_for(config.animate, config.fps)
    if config.plot is not None:
        from ..outputs.loss_plots import check_plot

        check_plot(config.plot)
    for path in (config.animate, config.plot, config.csv, checkpoint_path(config)):
        if path is not None:
            check_folder(path)
    if config.checkpoint is not None and config.checkpoint != free_path(config, resumed):
        raise OutputError(
            f"{config.checkpoint} is there already: choose another name for the checkpoint, or go "
            f"on with it, if it is one: nst stylize --resume {config.checkpoint}"
        )


def free_path(config: StyleConfig, resumed: Path | None) -> Path | None:
    """The checkpoint's path, with a number in it where another file has its name."""
    path = first = checkpoint_path(config)
    number = 1
    while path is not None and first is not None and path.exists() and not _same(path, resumed):
        number += 1
        path = first.with_name(f"{first.stem}-{number}{first.suffix}")
    return path


def _same(path: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(path) == os.path.realpath(other)


def checkpoint_path(config: StyleConfig) -> Path | None:
    """Where the run keeps itself: as told, or beside the result, or nowhere."""
    if config.checkpoint is not None:
        return config.checkpoint
    return None if config.output is None else config.output.with_suffix(".ckpt")


class FrameKeeper(Observer):
    """Writes frames named by iteration; for an animation alone, into a folder that is removed."""

    def __init__(self, config: StyleConfig) -> None:
        self.config = config
        self.folder: Path | None = None
        self.scratch: Path | None = None
        if config.save_every and config.output is not None:
            self.folder = config.output.with_name(f"{config.output.stem}-frames")
            stem = config.output.stem
        else:
            self.scratch, stem = Path(tempfile.mkdtemp(prefix="nst-frames-")), "frame"
        self.writer = FrameWriter(self.folder or self.scratch or Path(), stem)

    def step(self, step: Step) -> None:
        every = self.config.save_every or max(1, round(step.iterations / ANIMATION_FRAMES))
        last = step.iteration == step.iterations
        if step.iteration == 1 or step.iteration % every == 0 or last:
            self.writer.save(step.iteration, step.picture)

    def animate(self) -> None:
        """Make the animation, if one was asked for."""
        if self.config.animate is not None and self.writer.paths:
            animate(self.writer.paths, self.config.animate, self.config.fps)

    def close(self) -> None:
        """Clear up the frames that were only for an animation."""
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)


class CheckpointKeeper(Observer):
    """Keeps the run every few minutes, and when it is interrupted; removes it at the end.

    It writes over no file but that which was resumed, and removes none but its own.
    """

    def __init__(
        self, run: Run, sources: dict[str, Any], resumed: Path | str | None = None
    ) -> None:
        begun = None if resumed is None else Path(resumed)
        path, usual = free_path(run.config, begun), checkpoint_path(run.config)
        assert path is not None, "made only where there is a place for it"
        if path != usual:
            run.note(f"{usual} is there already: checkpoints go to {path}")
        self.path, self.sources = path, sources
        self.is_there = _same(path, begun)
        self.minutes, self.last = run.config.checkpoint_minutes, time.monotonic()

    def step(self, step: Step) -> None:
        if time.monotonic() - self.last < 60 * self.minutes:
            return
        try:
            self.save(step.run)
        except OutputError as error:  # a run of hours does not end for want of a precaution
            step.run.note(f"no checkpoint: {error}")
            self.minutes = math.inf
        self.last = time.monotonic()

    def save(self, run: Run) -> Path:
        checkpoints.save(self.path, run, self.sources)
        self.is_there = True
        return self.path

    def remove(self) -> None:
        """Of a finished run nothing stays."""
        if self.is_there:
            self.path.unlink(missing_ok=True)


def write_tables(result: Result) -> None:
    """The table and the plot, where they were asked for."""
    config = result.config
    if config.csv is not None:
        from ..outputs.loss_plots import write_csv

        write_csv(result.losses, config.csv)
    if config.plot is not None:
        from ..outputs.loss_plots import plot_losses

        plot_losses(result.losses, config.plot)
