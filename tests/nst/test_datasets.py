"""Pictures to train on, in the true formats of their datasets."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from patterns import options, pattern

from nst.errors import ConfigError
from nst.training import TrainOptions
from nst.training.datasets import load
from nst.training.objectives import exemplar, labels
from nst.training.torchvision_import import import_torchvision


def test_pictures_in_a_folder_are_one_class_each_named_by_their_files(folder: Path) -> None:
    pictures = load(options(folder))
    assert pictures.names == [f"p{i}" for i in range(6)]
    assert pictures.images.shape == (6, 3, 48, 48)
    assert pictures.images.dtype == torch.uint8
    assert exemplar(pictures, options(folder)).targets.tolist() == list(range(6))


def test_sub_folders_are_classes_and_a_class_of_one_picture_is_learnt_not_evaluated(
    tmp_path: Path,
) -> None:
    for name, count in (("many", 5), ("one", 1)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(count):
            pattern(i).save(tmp_path / "data" / name / f"{i}.jpg")
    pictures = load(options(tmp_path / "data"))
    task = labels(pictures, options(tmp_path / "data", held_out=0.4))
    assert task.classes == ["many", "one"]
    assert len(task.test) == 2
    assert set(task.targets[task.test].tolist()) == {0}
    assert sorted([*task.train.tolist(), *task.test.tolist()]) == list(range(6))


def test_grey_cmyk_palette_and_alpha_pictures_become_rgb(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for mode, suffix in (("L", "jpg"), ("CMYK", "jpg"), ("P", "gif"), ("RGBA", "png")):
        pattern(3).convert(mode).save(tmp_path / "data" / f"{mode}.{suffix}")
    pictures = load(options(tmp_path / "data"))
    grey = pictures.images[pictures.names.index("L")].int()
    assert pictures.images.shape == (4, 3, 48, 48)
    assert (grey[0] - grey[1]).abs().max() <= 1
    assert (grey[0] - grey[2]).abs().max() <= 1


def test_damaged_pictures_are_left_out_and_told_of(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "b.png").write_bytes((folder / "p0.png").read_bytes()[:60])
    (folder / "empty.png").touch()
    told: list[str] = []
    pictures = load(options(folder), told.append)
    assert pictures.names == [f"p{i}" for i in range(6)]
    assert told[0].startswith("3 of 9 pictures left out; the first: ")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "found 0 files"),
        ({"a.jpg": b"nothing"}, "found 1 files of such names, and none that can be read"),
        ({"notes.txt": b"text"}, "found 0 files"),
    ],
)
def test_a_folder_without_pictures_is_the_users_mistake(
    tmp_path: Path, files: dict[str, bytes], expected: str
) -> None:
    (tmp_path / "data").mkdir()
    for name, content in files.items():
        (tmp_path / "data" / name).write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        load(options(tmp_path / "data"))


def test_data_that_is_neither_a_dataset_nor_a_folder_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cifar100, caltech101 or a folder"):
        load(options(tmp_path / "nowhere"))


def cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """CIFAR-100's three pickles with 7 + 3 pictures in 100 classes; returns the rows."""
    home = root / "cifar-100-python"
    home.mkdir(parents=True)
    rows = np.random.default_rng(0).integers(0, 256, (10, 3072), np.uint8)
    names = [f"class{i}" for i in range(100)]
    content = {
        "train": {"data": rows[:7], "fine_labels": [0, 1, 2, 3, 4, 5, 99]},
        "test": {"data": rows[7:], "fine_labels": [1, 2, 99]},
        "meta": {"fine_label_names": names},
    }
    sums = {}
    for name, value in content.items():
        data = pickle.dumps(value)
        (home / name).write_bytes(data)
        sums[name] = hashlib.md5(data).hexdigest()
    dataset = import_torchvision("torchvision.datasets").CIFAR100
    monkeypatch.setattr(dataset, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(dataset, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": sums["meta"]})
    return rows


def test_cifar100_is_read_with_its_own_test_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = cifar100(tmp_path, monkeypatch)
    chosen = TrainOptions("cifar100", data_root=tmp_path, objective="labels")
    pictures = load(chosen)
    assert pictures.images.shape == (10, 3, 32, 32)
    assert torch.equal(pictures.images[8].flatten(), torch.from_numpy(rows[8]))
    assert pictures.labels.tolist() == [0, 1, 2, 3, 4, 5, 99, 1, 2, 99]
    assert len(pictures.classes) == 100
    task = labels(pictures, chosen)
    assert task.test.tolist() == [7, 8, 9]
    assert task.train.tolist() == list(range(7))


def test_cifar100_that_is_damaged_or_missing_is_the_users_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar100(tmp_path, monkeypatch)
    (tmp_path / "cifar-100-python" / "train").write_bytes(b"other")
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match=r"CIFAR100 cannot be read .* --download"):
            load(TrainOptions("cifar100", data_root=root))


def test_caltech101_is_read_with_its_grey_pictures(tmp_path: Path) -> None:
    home = tmp_path / "caltech101" / "101_ObjectCategories"
    for name, count, mode in (("accordion", 2, "RGB"), ("BACKGROUND_Google", 1, "RGB"),
                              ("yin_yang", 3, "L")):  # fmt: skip
        (home / name).mkdir(parents=True)
        for i in range(1, count + 1):
            pattern(i).convert(mode).save(home / name / f"image_{i:04}.jpg")
    (tmp_path / "caltech101" / "Annotations").mkdir()
    pictures = load(TrainOptions("caltech101", data_root=tmp_path, image_size=16))
    assert pictures.images.shape == (5, 3, 32, 32)
    assert pictures.classes == ["accordion", "yin_yang"]
    assert pictures.labels.tolist() == [0, 0, 1, 1, 1]
