"""What a result says of the files that it was made of: names and SHA-256, and paths on request.

A path tells strangers how somebody's folders are called, and is of no use elsewhere.  A name and a
digest are enough to find the file again, and to know that it is the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..config.options import OUTPUT_PATHS, StyleConfig
from .run import Run

INPUT_PATHS = ("mask", "init", "weights")  # options that name a file which is read


def files_of(run: Run, config: StyleConfig, sources: dict[str, Any]) -> dict[str, Any]:
    """The content, the styles, and what other files a run has read, each as a dict."""
    inputs, keep = run.inputs, config.keep_paths
    styles = zip(sources["styles"], inputs.styles)
    found: dict[str, Any] = {
        "content": _described(sources["content"], inputs.content.sha256, keep),
        "styles": [_described(source, style.sha256, keep) for source, style in styles],
    }
    digests = inputs.digests | {"weights": run.engine.weights_sha256}
    for name in INPUT_PATHS:
        value = getattr(config, name)
        if value is not None and not isinstance(value, str):  # a word to start from
            source = str(value) if isinstance(value, Path) else f"<{type(value).__name__}>"
            found[name] = _described(source, digests.get(name, ""), keep)
    return found


def config_of(config: StyleConfig) -> dict[str, Any]:
    """The settings in plain values, paths by their names unless they are to be kept."""
    plain = config.plain()
    if not config.keep_paths:
        for name, value in _paths(config).items():
            plain[name] = value.name
    return plain


def notes_of(run: Run, config: StyleConfig, sources: dict[str, Any]) -> list[str]:
    """The remarks of a run, without the folders of the files that it knows."""
    if config.keep_paths:
        return run.notes
    paths = [*_paths(config).values(), Path(sources["content"]), *map(Path, sources["styles"])]
    folders = {str(path.parent) for path in paths} - {"."}
    notes = run.notes
    for folder in sorted(folders, key=len, reverse=True):
        notes = [note.replace(folder.rstrip(os.sep) + os.sep, "") for note in notes]
    return notes


def _paths(config: StyleConfig) -> dict[str, Path]:
    values = {name: getattr(config, name) for name in (*OUTPUT_PATHS, *INPUT_PATHS)}
    return {name: value for name, value in values.items() if isinstance(value, Path)}


def _described(source: str, sha256: str, keep_path: bool) -> dict[str, str]:
    """A file as it is kept; what was no file (a tensor, for one) has neither digest nor path."""
    described = {"name": Path(source).name}
    if sha256:
        described["sha256"] = sha256
    if keep_path and not source.startswith("<"):
        described["path"] = source
    return described
