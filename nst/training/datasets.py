"""Pictures to learn from, decoded and shrunk once into one uint8 tensor in memory.

A folder of pictures, a folder of classes (a sub-folder each), CIFAR-100 or Caltech101 through
torchvision's own readers.  1,000 pictures at 160 pixels are 77 MB.
"""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, PictureError
from ..files import missing_folder, shown
from ..networks.hardware import check_fits
from ..pictures.decoding import from_path
from ..pictures.sizing import resize
from .options import TrainOptions
from .torchvision_import import import_torchvision

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif")
Note = Callable[[str], None]


@dataclass(frozen=True)
class Pictures:
    """All pictures of a dataset; `test` are the indices that it sets apart itself, if it does."""

    images: Tensor  # (n, 3, side, side), uint8
    labels: Tensor  # (n,)
    classes: list[str]
    names: list[str]
    about: str
    test: Tensor | None = None


def load(options: TrainOptions, note: Note = lambda text: None) -> Pictures:
    """The pictures of `--data`, twice the size of the crops so that a crop has detail."""
    side = 2 * options.image_size
    reader = DATASETS.get(options.data.lower())
    if reader is not None:
        return reader(options, side)
    return from_folder(Path(options.data), side, note)


def from_folder(folder: Path, side: int, note: Note = lambda text: None) -> Pictures:
    """Pictures in a folder, or in its sub-folders, which are then the classes.

    Those that cannot be read are left out and reported.
    """
    if missing := missing_folder(folder):
        known = ", ".join(DATASETS)
        raise ConfigError(
            f"data expects {known} or a folder of pictures; {shown(folder)} {missing}"
        )
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and _pictures_in(p))
    found = [(path, i) for i, c in enumerate(classes) for path in _pictures_in(folder / c)]
    if not found:
        classes, found = [folder.name], [(path, 0) for path in _pictures_in(folder)]
    check_fits(  # the tensors one by one, and then all in one
        2 * 3 * side**2 * len(found),
        f"keeping {len(found)} pictures of {side}x{side} pixels",
        lambda limit: "choose a smaller --image-size, or fewer pictures",
    )
    images, labels, names, bad = [], [], [], []
    for path, label in found:
        try:
            images.append(_shrunk(from_path(path).rgb, side))
        except PictureError as error:
            bad.append(str(error))
            continue
        labels.append(label)
        names.append(path.stem)
    if bad:
        note(f"{len(bad)} of {len(found)} pictures left out; the first: {bad[0]}")
    if not images:
        raise ConfigError(
            f"{folder}: expected pictures ({', '.join(SUFFIXES)}), in it or one folder below; "
            f"found {len(found)} files of such names, and none that can be read"
        )
    about = f"{len(images)} pictures of the folder '{folder.resolve().name}'"
    return Pictures(torch.stack(images), torch.tensor(labels), classes, names, about)


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def _shrunk(rgb: Tensor, side: int) -> Tensor:
    """The middle square of (1, 3, h, w) at side x side, as uint8 (3, side, side)."""
    h, w = rgb.shape[-2:]
    short = min(h, w)
    top, left = (h - short) // 2, (w - short) // 2
    square = rgb[..., top : top + short, left : left + short]
    return resize(square, (side, side))[0].mul(255).round().byte()


def _cifar100(options: TrainOptions, side: int) -> Pictures:
    """CIFAR-100: 32 x 32 pixels, 100 classes, its own test part; kept at its own size."""
    parts = [
        _opened("CIFAR100", options, train=train, download=options.download)
        for train in (True, False)
    ]
    images = torch.cat([torch.from_numpy(part.data).permute(0, 3, 1, 2) for part in parts])
    targets = torch.tensor([label for part in parts for label in part.targets])
    test = torch.arange(len(parts[0].data), len(images))
    names = [f"{parts[0].classes[t]}-{i}" for i, t in enumerate(targets.tolist())]
    return Pictures(images.contiguous(), targets, list(parts[0].classes), names, "CIFAR-100", test)


def _caltech101(options: TrainOptions, side: int) -> Pictures:
    """Caltech101: about 9,000 photographs in 101 classes, some grey.

    torchvision finds the files; it would read them with scipy, for annotations not asked for.
    """
    dataset = _opened("Caltech101", options, download=options.download)
    classes, targets = list(dataset.categories), list(dataset.y)
    home = Path(dataset.root) / "101_ObjectCategories"
    paths = [
        home / classes[label] / f"image_{number:04}.jpg"
        for label, number in zip(targets, dataset.index, strict=True)
    ]
    images = torch.stack([_shrunk(from_path(path).rgb, side) for path in paths])
    names = [f"{path.parent.name}-{path.stem}" for path in paths]
    return Pictures(images, torch.tensor(targets), classes, names, "Caltech101")


def _opened(name: str, options: TrainOptions, **arguments: Any) -> Any:
    datasets = import_torchvision("torchvision.datasets")
    try:
        return getattr(datasets, name)(root=str(options.data_root), **arguments)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, tarfile.TarError) as error:
        raise ConfigError(
            f"{name} cannot be read from '{options.data_root}' "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            "give its folder with --data-root, or --download to fetch it"
        ) from None


DATASETS: dict[str, Callable[[TrainOptions, int], Pictures]] = {
    "cifar100": _cifar100,
    "caltech101": _caltech101,
}
