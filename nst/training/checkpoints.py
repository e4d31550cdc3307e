"""Checkpoints of training: everything that a run needs to go on exactly, but the pictures."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, OutputError
from ..outputs.atomic import atomic_path
from .datasets import Pictures
from .loop import Training
from .options import MAY_CHANGE

MARK, VERSION = "nst training", 1


def path_of(output: Path) -> Path:
    """The checkpoint that belongs to a network's file."""
    return output.with_suffix(".ckpt")


def save(training: Training) -> None:
    """Write the run beside its output, whole or not at all."""
    path = path_of(training.options.output)
    content = {
        "mark": MARK,
        "version": VERSION,
        "options": training.options.plain(),
        "pictures": fingerprint(training.pictures),
        "state": training.state(),
    }
    try:
        with atomic_path(path) as temporary:
            torch.save(content, temporary)
    except RuntimeError as error:  # torch reports a full disk as one
        raise OutputError(f"{path}: cannot be written: {str(error).splitlines()[0]}") from None


def restore(training: Training) -> None:
    """Put the checkpoint beside the output into a fresh run of the same settings and pictures."""
    path = path_of(training.options.output)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist; leave --resume out to begin anew")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        mark, version = content.get("mark"), content.get("version")
    except (
        OSError, EOFError, RuntimeError, ValueError, KeyError, AttributeError,
        pickle.UnpicklingError, zipfile.BadZipFile,
    ):  # fmt: skip
        raise CheckpointError(f"checkpoint {path} is damaged or is not a checkpoint") from None
    if mark != MARK or version != VERSION:
        raise CheckpointError(
            f"{path} is not a training checkpoint of version {VERSION}; begin anew without --resume"
        )
    _check_same(path, content, training)
    training.load_state(content["state"])


def _check_same(path: Path, content: dict[str, Any], training: Training) -> None:
    mine = training.options.plain()
    for key, theirs in content["options"].items():
        if key not in MAY_CHANGE and mine.get(key) != theirs:
            raise CheckpointError(
                f"checkpoint {path} was trained with {key.replace('_', '-')} {theirs}, not "
                f"{mine.get(key)}; give the same, or begin anew without --resume"
            )
    if content["pictures"] != fingerprint(training.pictures):
        raise CheckpointError(
            f"checkpoint {path} was trained on other pictures; give the same --data, or begin "
            "anew without --resume"
        )


def fingerprint(pictures: Pictures) -> str:
    """A digest of the pictures' names and labels; not of their pixels, whose size may grow."""
    digest = hashlib.sha256()
    for name, label in zip(pictures.names, pictures.labels.tolist(), strict=True):
        digest.update(f"{label}:{name}\n".encode())
    return digest.hexdigest()
