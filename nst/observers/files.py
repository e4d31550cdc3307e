"""What a run leaves on the disk: frames and checkpoints while it runs, the rest at its end."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from ..config.options import StyleConfig
from ..errors import OutputError
from ..outputs.frames import FrameWriter, animate
from ..outputs.loss_plots import plot_losses, write_csv
from ..outputs.paths import (
    check_outputs,
    checkpoint_path,
    frames_folder,
    free_path,
    same_file,
)
from ..run import checkpoint as checkpoints
from ..run.observer import Observer
from ..run.run import Run
from ..run.step import Step

__all__ = ["CheckpointKeeper", "FrameKeeper", "check_outputs", "write_tables"]

ANIMATION_FRAMES = 60  # about; 5 seconds at 12 frames per second


class FrameKeeper(Observer):
    """Writes frames named by iteration; for an animation alone, into a folder that is removed."""

    def __init__(self, config: StyleConfig) -> None:
        self.config = config
        self.folder = frames_folder(config)
        self.scratch: Path | None = None
        if self.folder is not None and config.output is not None:
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
        self,
        run: Run,
        config: StyleConfig,
        sources: dict[str, Any],
        resumed: Path | str | None = None,
    ) -> None:
        begun = None if resumed is None else Path(resumed)
        path, usual = free_path(config, begun), checkpoint_path(config)
        assert path is not None, "made only where there is a place for it"
        if path != usual:
            run.note(f"{usual} is there already: checkpoints go to {path}")
        self.run, self.config, self.path, self.sources = run, config, path, sources
        self.is_there = same_file(path, begun)
        self.minutes, self.last = config.checkpoint_minutes, time.monotonic()

    def step(self, step: Step) -> None:
        if time.monotonic() - self.last < 60 * self.minutes:
            return
        try:
            self.save()
        except OutputError as error:  # no reason to end a run of hours
            self.run.note(f"no checkpoint: {error}")
            self.minutes = math.inf
        self.last = time.monotonic()

    def save(self) -> Path:
        checkpoints.save(self.path, self.run, self.config, self.sources)
        self.is_there = True
        return self.path

    def remove(self) -> None:
        """A finished run needs no checkpoint."""
        if self.is_there:
            self.path.unlink(missing_ok=True)


def write_tables(losses: list[dict[str, float]], config: StyleConfig) -> None:
    """The table and the plot, where they were asked for."""
    if config.csv is not None:
        write_csv(losses, config.csv)
    if config.plot is not None:
        plot_losses(losses, config.plot)
