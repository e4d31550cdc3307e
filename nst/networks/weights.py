"""Where a network's weights come from: an installed package, a file, torchvision's cache or server.

Every way ends in the same `Weights`: tensors under our layer names (`conv1_1.weight`), their
shapes checked against the network.  No network is ever replaced by another: `auto` is VGG19 with
its authors' weights (vgg19.py), or with a file the network that the file is for.

Of what is downloaded only the part below the classifier is kept, in torchvision's own cache
folder: of its VGG19 80 MB instead of 548, as safetensors with a digest that is checked on loading.
A complete file that torchvision left there is used too, and left alone.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError, WeightsError
from ..files import LARGEST_WEIGHTS, check_file, sha256_of
from .builtin import ABOUT_BUILTIN, builtin_state
from .stacks import State, cut_stack, layer_names, state_digest
from .table import NETWORKS, Kind, kind_of
from .vgg19 import ABOUT_VGG19, vgg19_state

AUTO = "vgg19"  # the network that `auto` stands for

CONNECT_SECONDS = 10.0
Downloading = Callable[[int, int], None]  # bytes so far, bytes in all (0 if unknown)


@dataclass(frozen=True)
class Published:
    """A file on torchvision's server; its name ends in the first digits of its SHA-256."""

    url: str
    megabytes: int

    @property
    def filename(self) -> str:
        return self.url.rsplit("/", 1)[1]

    @property
    def digest(self) -> str:
        return self.filename.removesuffix(".pth").rsplit("-", 1)[1]


# Written out rather than asked of torchvision, whose import takes a second; a test compares.
SERVER = "https://download.pytorch.org/models/"
PUBLISHED = {
    "vgg19-torchvision": Published(SERVER + "vgg19-dcbb9e9d.pth", 548),
    "vgg16": Published(SERVER + "vgg16-397923af.pth", 528),
    "resnet50": Published(SERVER + "resnet50-0676ba61.pth", 98),
}


@dataclass(frozen=True)
class Weights:
    """The tensors of a network under our names, and where they come from in words."""

    network: str | Kind
    state: State
    source: str

    @property
    def kind(self) -> Kind:
        """The row of the network."""
        return kind_of(self.network)


def obtain(
    name: str | Kind,
    path: Path | None = None,
    downloading: Downloading = lambda done, total: None,
) -> Weights:
    """The weights for `--network name --weights path`."""
    if isinstance(name, Kind) or ":" in name or (name in NETWORKS and NETWORKS[name].trained):
        return _own(kind_of(name), path)
    if path is not None:
        return from_file(name, path)
    name = AUTO if name == "auto" else name
    if name == "builtin":
        return Weights(name, builtin_state(), ABOUT_BUILTIN)
    if name == "vgg19":
        return Weights(name, vgg19_state(), ABOUT_VGG19)
    return published(name, downloading)


def expected_kind(name: str | Kind, path: Path | None) -> Kind:
    """The network that `obtain` will give, as far as is known without fetching anything."""
    if path is not None and isinstance(name, str):
        return from_file(name, path).kind
    return kind_of(AUTO if name == "auto" else name)


def _own(kind: Kind, path: Path | None) -> Weights:
    """A network that comes with its weights."""
    if not kind.trained:
        raise ConfigError(
            f"network {kind.name}: expected a Kind with trained=True, whose stack has its weights"
        )
    if path is not None:
        raise ConfigError(f"network {kind.name} has weights of its own; leave --weights out")
    return Weights(kind, {}, kind.about)


def cache_folder() -> Path:
    """torchvision's cache: TORCH_HOME, or ~/.cache/torch, and there hub/checkpoints."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def _part(row: Published, folder: Path) -> Path:
    return folder / f"nst-{row.filename.removesuffix('.pth')}.safetensors"


def published(name: str, downloading: Downloading) -> Weights:
    """torchvision's weights: our part of them, the complete file, or the server's."""
    row, folder = PUBLISHED[name], cache_folder()
    part = _part(row, folder)
    if part.exists():
        return Weights(
            name, _checked(name, _read_part(part)), f"torchvision's weights ({part.name})"
        )
    complete = folder / row.filename
    if complete.exists():
        _check_digest(complete, row)
        state = _below_classifier(name, read_state(complete))
    else:
        state = _download(name, row, folder, downloading)
    _keep_part(part, state)
    return Weights(name, _checked(name, state), f"torchvision's weights ({row.filename})")


def from_file(name: str, path: Path) -> Weights:
    """Weights in a user's file; with `auto` the network is recognised from the file."""
    state = read_state(path)
    network = recognise(state, path) if name == "auto" else name
    return Weights(network, _checked(network, state, path), f"file {path.name}")


def read_state(path: Path) -> State:
    """The tensors of a .safetensors or .pth file; code in a .pth is refused, never run."""
    check_file(path, WeightsError, "weights file", LARGEST_WEIGHTS)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: object = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(
            f"weights file {path} holds more than tensors, or is damaged; it is not loaded "
            "because that could run code: expected a state_dict, or .safetensors"
        ) from None
    except (EOFError, KeyError, IndexError, zipfile.BadZipFile):  # their messages do not help
        raise WeightsError(
            f"weights file {path} is damaged, or holds no weights: expected .pth or .safetensors"
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"weights file {path} cannot be read: {reason}") from None
    except Exception as error:  # safetensors' own error type cannot be imported by name
        raise WeightsError(f"weights file {path} cannot be read: {error}") from None
    return _tensors(loaded, path)


def _tensors(loaded: object, path: Path) -> State:
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict):
        raise WeightsError(f"weights file {path}: expected a state_dict, got {type(loaded)}")
    state = {str(k): v for k, v in loaded.items() if isinstance(v, Tensor)}
    if state and all(key.startswith("module.") for key in state):  # saved from DataParallel
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return state


def recognise(state: State, path: Path) -> str:
    """The network whose layers the file holds, recognised by layers that only that one has."""
    marks = {"resnet50": "layer1.0.conv3.weight", "vgg19": "features.16.weight"}
    marks |= {"vgg16": "features.17.weight"}
    for name, mark in marks.items():
        if mark in state:
            return name
    if "block4_3.conv3.weight" in state:  # by `nst train`, under our own names
        return "resnet50"
    if "conv1_1.weight" in state:
        channels = state["conv1_1.weight"].shape[0]
        return "builtin" if channels == 32 else f"vgg19x{channels / 64:g}"
    raise WeightsError(
        f"weights file {path} is of no known network; expected torchvision's names for "
        f"{', '.join(marks)} (for example {marks['vgg19']})"
    )


def _checked(name: str, state: State, path: Path | None = None) -> State:
    """The state under our names, complete, finite, of the right shapes for the whole network."""
    where = f"weights file {path}" if path else "weights"
    state = _our_names(name, state)
    for layer, module in cut_stack(name, layer_names(name)):
        for key, expected in module.state_dict().items():
            if key.endswith("num_batches_tracked"):
                continue
            full = f"{layer}.{key}"
            if full not in state:
                raise WeightsError(f"{where}: network {name} expects {full}, which is missing")
            if state[full].shape != expected.shape:
                raise WeightsError(
                    f"{where}: network {name} expects {full} of shape {tuple(expected.shape)}, "
                    f"got {tuple(state[full].shape)}"
                )
    state = {key: tensor.float() for key, tensor in state.items() if tensor.is_floating_point()}
    for key, tensor in state.items():
        if not bool(tensor.isfinite().all()):  # otherwise the losses would be found NaN, much later
            raise WeightsError(
                f"{where}: {key} holds NaN or infinity, in float32; fetch or export the file again"
            )
    return state


def _our_names(name: str, state: State) -> State:
    theirs = {theirs: ours for ours, theirs in kind_of(name).layout().items()}
    renamed: State = {}
    for key, tensor in state.items():
        for prefix in (".".join(key.split(".")[:n]) for n in (2, 1)):
            if prefix in theirs:
                renamed[theirs[prefix] + key[len(prefix) :]] = tensor
                break
        else:
            renamed[key] = tensor
    wanted = set(layer_names(name))
    return {key: tensor for key, tensor in renamed.items() if key.split(".")[0] in wanted}


def _below_classifier(name: str, state: State) -> State:
    prefixes = tuple(theirs + "." for theirs in kind_of(name).layout().values())
    return {key: tensor.contiguous() for key, tensor in state.items() if key.startswith(prefixes)}


def _download(name: str, row: Published, folder: Path, downloading: Downloading) -> State:
    """Fetch the complete file beside the cache, check it, and return what is worth keeping."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(suffix=".part", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            digest = _fetch(row, file.write, downloading)
        if not digest.startswith(row.digest):
            raise WeightsError(
                f"{row.url} arrived damaged: SHA-256 expected {row.digest}..., got {digest[:8]}"
            )
        return _below_classifier(name, read_state(Path(temporary)))
    except (urllib.error.URLError, OSError) as error:
        raise WeightsError(_how_to_get(name, row, folder, error)) from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def _fetch(row: Published, write: Callable[[bytes], int], downloading: Downloading) -> str:
    digest, done = hashlib.sha256(), 0
    with urllib.request.urlopen(row.url, timeout=CONNECT_SECONDS) as answer:
        total = int(answer.headers.get("Content-Length") or 0)
        while block := answer.read(1 << 20):
            write(block)
            digest.update(block)
            done += len(block)
            downloading(done, total)
    return digest.hexdigest()


def _how_to_get(name: str, row: Published, folder: Path, error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return (
        f"the weights of {name} cannot be fetched ({reason}); download {row.url} "
        f"({row.megabytes} MB, SHA-256 {row.digest}...) and put it into {folder}, or give "
        "--weights PATH, or use the built-in network with --network builtin"
    )


def _check_digest(path: Path, row: Published) -> None:
    found = sha256_of(path)
    if not found.startswith(row.digest):
        raise WeightsError(
            f"{path} is damaged: SHA-256 expected {row.digest}..., got {found[:8]}; delete it and "
            f"fetch it again from {row.url}, or use --network builtin"
        )


def _keep_part(part: Path, state: State) -> None:
    """Write the kept part; a cache that cannot be written is no reason to stop."""
    from safetensors.torch import save_file

    temporary = part.with_name(f"{part.name}.{os.getpid()}.part")
    try:
        save_file(state, temporary, metadata={"sha256": state_digest(state)})
        os.replace(temporary, part)
    except OSError:
        temporary.unlink(missing_ok=True)


def _read_part(part: Path) -> State:
    from safetensors import safe_open

    state = read_state(part)
    with safe_open(part, framework="pt") as file:
        expected = (file.metadata() or {}).get("sha256", "")
    if state_digest(state) != expected:
        raise WeightsError(f"{part} is damaged: its digest does not match; delete it")
    return state
