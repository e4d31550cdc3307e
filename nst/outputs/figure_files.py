"""Figures (fastconv/figures.py draws them) as files: checked before the work, written whole."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from fastconv.figures import SUFFIXES, Figure, write

from ..errors import OutputError
from .atomic import atomic_path, check_folder


def check_figure_path(path: str | os.PathLike[str]) -> Path:
    """`path`, if a figure can be written to it: checked before anything is computed."""
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        got = f"'{target.suffix}'" if target.suffix else "no suffix"
        raise OutputError(f"{target}: expected one of {', '.join(SUFFIXES)}, got {got}")
    if find_spec("matplotlib") is None:
        raise OutputError(
            f"{target}: plots need the extra `plot`: pip install 'fastconv-nst[plot]'"
        )
    check_folder(target)
    return target


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure, whole or not at all, in the format that the suffix names."""
    target = check_figure_path(path)
    with atomic_path(target) as temporary:
        write(figure, temporary, target.suffix, dpi=150)
    return target
