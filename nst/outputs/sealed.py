"""torch files that carry a digest of their content, for checkpoints of runs and of training.

A flipped bit in the pixels or in an optimiser's memory changes no structure: torch loads it, and
the run continues with wrong numbers.  So every value is hashed when it is written and when it is
read, with its type, and tensors with their dtype and shape.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import CheckpointError, OutputError
from ..files import check_file
from .atomic import atomic_path

SEAL = "sha256"


def save_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write `content` and its digest to `path`, whole or not at all."""
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            _save(content | {SEAL: digest(content)}, file)
    except RuntimeError as error:
        raise OutputError(f"{path}: cannot be written: {str(error).splitlines()[0]}") from None


def _save(content: dict[str, Any], file: BinaryIO) -> None:
    """torch.save, which hides the reason behind a RuntimeError where the disk is full."""
    try:
        torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load_sealed(path: Path, mark: str, version: int, what: str, otherwise: str) -> dict[str, Any]:
    """The content of a file whose `mark` and `version` are these, or CheckpointError.

    `what` such a file is and what to do `otherwise`, about an older one, are words for messages.
    """
    check_file(path, CheckpointError, "checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever a damaged file makes of pickle and zip
        raise CheckpointError(f"checkpoint {path} is damaged or is not a checkpoint") from None
    if not isinstance(content, dict) or content.get("mark") != mark:
        raise CheckpointError(f"{path} is not {what}")
    if content.get("version") != version:
        raise CheckpointError(
            f"checkpoint {path} is of version {content.get('version')}, this nst reads version "
            f"{version}; {otherwise}"
        )
    seal = content.pop(SEAL, None)
    try:
        sound = seal == digest(content)
    except TypeError:  # a type that was never written
        sound = False
    if not sound:
        raise CheckpointError(
            f"checkpoint {path} is damaged: its content is not what was written; start anew"
        )
    return content


def digest(value: Any) -> str:
    """SHA-256 of nested dicts, lists and tuples of numbers, words and tensors.

    >>> digest({"a": 1}) == digest({"a": 1.0})
    False
    """
    found = hashlib.sha256()
    _feed(found, value)
    return found.hexdigest()


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        found.update(f"tensor {value.dtype} {tuple(value.shape)}:".encode())
        plain = value.detach().cpu().contiguous().reshape(-1)
        found.update(memoryview(plain.view(torch.uint8).numpy()))
    elif isinstance(value, dict):
        found.update(f"dict {len(value)}:".encode())
        for key, inner in value.items():
            _feed(found, key)
            _feed(found, inner)
    elif isinstance(value, list | tuple):
        found.update(f"{type(value).__name__} {len(value)}:".encode())
        for inner in value:
            _feed(found, inner)
    elif value is None or isinstance(value, bool | int | float | str):
        found.update(f"{type(value).__name__} {value!r};".encode())
    else:
        raise TypeError(f"a checkpoint holds no {type(value).__name__}")
