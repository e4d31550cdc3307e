"""Where a run's files go, checked before the run."""

from __future__ import annotations

import os
from pathlib import Path

from ..config.options import StyleConfig
from ..errors import ConfigError, OutputError
from .atomic import check_folder
from .figure_files import check_figure_path
from .frames import animator_for, frame_name
from .writers import check_writable


def check_outputs(
    config: StyleConfig, hw: tuple[int, int] = (1, 1), resumed: Path | None = None
) -> None:
    """OutputError now for a file that could not be written at the end."""
    if config.output is not None:
        check_writable(config.output, config.bits, hw)
    if config.save_every and config.output is None:
        raise ConfigError("save_every puts its frames beside the result: give output as well")
    if config.animate is not None:
        animator_for(config.animate, config.fps)
    if config.plot is not None:
        check_figure_path(config.plot)
    for path in (config.animate, config.csv, checkpoint_path(config), _a_frame(config)):
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
    while path and first and os.path.exists(path) and not same_file(path, resumed):
        number += 1
        path = first.with_name(f"{first.stem}-{number}{first.suffix}")
    return path


def same_file(path: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(path) == os.path.realpath(other)


def frames_folder(config: StyleConfig) -> Path | None:
    """Where the frames are kept, beside the result; None if they are not, or only for a while."""
    if not config.save_every or config.output is None:
        return None
    return config.output.with_name(f"{config.output.stem}-frames")


def _a_frame(config: StyleConfig) -> Path | None:
    folder = frames_folder(config)
    return folder and folder / frame_name(folder.name.removesuffix("-frames"), 0)


def checkpoint_path(config: StyleConfig) -> Path | None:
    """The checkpoint's path: the option, or beside the result, or none."""
    if config.checkpoint is not None:
        return config.checkpoint
    return None if config.output is None else config.output.with_suffix(".ckpt")
