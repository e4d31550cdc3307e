"""Checkpoints of training: everything that a run needs to go on exactly, but the pictures."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..outputs.sealed import load_sealed, save_sealed
from .datasets import Pictures
from .loop import Training
from .options import MAY_CHANGE

MARK, VERSION = "nst training", 2  # 1 had no digest


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
    save_sealed(path, content)


def restore(training: Training) -> None:
    """Put the checkpoint beside the output into a fresh run of the same settings and pictures."""
    path = path_of(training.options.output)
    if not os.path.lexists(path):
        raise CheckpointError(f"checkpoint {path} does not exist; leave --resume out to begin anew")
    otherwise = "begin anew without --resume"
    content = load_sealed(path, MARK, VERSION, "a training checkpoint of nst", otherwise)
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
