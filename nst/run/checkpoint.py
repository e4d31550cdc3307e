"""Checkpoints: an unfinished run in one file, from which it is resumed exactly.

A file holds the settings, the pictures at the size of the run, the network's name with a digest
of its weights, and `Run.state()`.  It needs nothing else: the pictures' own files may be gone.
Targets (the content's features, the style's statistics) are not kept, they are computed again
from the same pictures by the same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..config.options import TABLES, StyleConfig
from ..errors import CheckpointError, ConfigError
from ..networks.stacks import state_digest
from ..outputs.sealed import load_sealed, save_sealed
from ..pictures.sizing import Picture
from ..tables import OWN
from .inputs import Inputs
from .run import Run

VERSION = 4  # 3 had the digest of a network with other names of tensors
MARK = "nst checkpoint"


@dataclass
class Checkpoint:
    """What a file holds."""

    config: StyleConfig
    inputs: Inputs
    sources: dict[str, Any]  # the pictures' paths as they were given, for the metadata
    network: str
    digest: str
    state: dict[str, Any]


def digest_of(network: nn.Module) -> str:
    """A digest of a network's tensors, by which other weights of the same name are noticed."""
    return state_digest({key: t.detach().cpu() for key, t in network.state_dict().items()})


def save(path: Path, run: Run, config: StyleConfig, sources: dict[str, Any]) -> None:
    """Write the run to `path`, whole or not at all; `config` is the run's with its outputs."""
    inputs = run.inputs
    content = {
        "mark": MARK,
        "version": VERSION,
        "config": config.plain(),
        "sources": sources,
        "pictures": {
            "content": _plain_picture(inputs.content),
            "styles": [_plain_picture(style) for style in inputs.styles],
            "init": inputs.init,
            "mask": inputs.mask,
            "digests": inputs.digests,
        },
        "network": run.network.name,
        "digest": digest_of(run.network),
        "state": run.state(),
    }
    save_sealed(path, content)


def _plain_picture(picture: Picture) -> dict[str, Any]:
    return {name: getattr(picture, name) for name in ("rgb", "alpha", "name", "sha256")}


def load(path: Path, given: Mapping[str, Any] | None = None) -> Checkpoint:
    """Read a checkpoint; CheckpointError if it is not one, or of another version.

    `given` are options in whose place the run had objects of the user's own.
    """
    otherwise = "finish the run with the nst that began it, or start anew"
    content = load_sealed(path, MARK, VERSION, "a checkpoint of nst", otherwise)
    try:
        return _unpack(path, content, given or {})
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {error}") from None


def _unpack(path: Path, content: dict[str, Any], given: Mapping[str, Any]) -> Checkpoint:
    pictures, settings = content["pictures"], dict(content["config"])
    for name in TABLES:
        if str(settings[name]).startswith(OWN):
            if name not in given:
                raise CheckpointError(
                    f"{path} was made with a {name} of your own ({settings[name]}): give it again, "
                    f"nst.stylize(resume=..., {name}=...)"
                )
            settings[name] = given[name]
    inputs = Inputs(
        Picture(**pictures["content"]),
        [Picture(**style) for style in pictures["styles"]],
        pictures["init"],
        pictures["mask"],
        pictures.get("digests", {}),  # not there in the first files of this version
    )
    config = StyleConfig.of(settings.pop("preset"), **settings)
    state, sources = content["state"], content["sources"]
    return Checkpoint(config, inputs, sources, content["network"], content["digest"], state)


def restore(checkpoint: Checkpoint, run: Run) -> Run:
    """Put the checkpoint's state into a freshly prepared run, if its network is the same."""
    if digest_of(run.network) != checkpoint.digest:
        raise CheckpointError(
            f"the checkpoint was made with other weights of network {checkpoint.network}; "
            "give the same --weights, or start anew"
        )
    try:
        run.load_state(checkpoint.state)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the checkpoint is damaged: {error!r}; start anew") from None
    return run
