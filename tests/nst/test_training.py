"""Training: views, the loop, resume, and the exported file."""

from __future__ import annotations

import csv
import math
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from patterns import options, pattern
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn import functional as F

import nst
from fastconv import Normalize
from nst.cli.main import main
from nst.errors import CheckpointError, ConfigError, OutputError, WeightsError
from nst.networks.table import IMAGENET_MEAN, IMAGENET_STD
from nst.networks.weights import obtain
from nst.training import Watcher, train
from nst.training.augment import MILD, STRONG, Dice, Strength, middle, views
from nst.training.datasets import Pictures, load
from nst.training.export import QUIETEST, exported_state
from nst.training.loop import Training, worst_classes
from nst.training.model import Classifier
from nst.training.objectives import exemplar, labels

# ---------------------------------------------------------------- views and objectives


@pytest.mark.parametrize("strength", [STRONG, MILD])
def test_views_are_pictures_that_follow_from_the_seed(strength: Strength) -> None:
    images = torch.randint(0, 256, (9, 3, 40, 40), dtype=torch.uint8)
    first = views(images, 24, strength, Dice(5))
    assert first.shape == (9, 3, 24, 24)
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(first, views(images, 24, strength, Dice(5)))
    assert not torch.equal(first, views(images, 24, strength, Dice(6)))


def test_a_view_without_any_change_is_the_picture_itself() -> None:
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    nothing = Strength(1, 1, 0, 0, 0, 0, 0, 0, 0, mirror=False)
    assert torch.allclose(views(images, 32, nothing, Dice(0)), images / 255, atol=2e-3)
    assert torch.allclose(middle(images, 32), images / 255)


def test_labels_needs_two_classes_and_exemplar_two_pictures(folder: Path) -> None:
    pictures = load(options(folder))
    with pytest.raises(ConfigError, match="--objective exemplar"):
        labels(pictures, options(folder))
    one = Pictures(pictures.images[:1], pictures.labels[:1], ["a"], ["a"], "one picture")
    with pytest.raises(ConfigError, match="2 pictures or more, got 1"):
        exemplar(one, options(folder))


def test_the_worst_classes_are_told_with_what_they_are_taken_for() -> None:
    guessed, targets = torch.tensor([0, 0, 2, 2, 2, 2]), torch.tensor([0, 0, 1, 1, 2, 1])
    (row,) = worst_classes(guessed, targets, ["cat", "dog", "wolf"])
    assert row == {"class": "dog", "right": 0.0, "taken_for": "wolf", "pictures": 3}


# ---------------------------------------------------------------- the loop


class Recorder(Watcher):
    """Keeps all that it is told; may interrupt like Ctrl-C."""

    def __init__(self, stop_at: int = 0) -> None:
        self.losses: list[float] = []
        self.evaluations: list[dict[str, float]] = []
        self.stop_at = stop_at

    def step(self, row: dict[str, float]) -> None:
        self.losses.append(row["loss"])
        if len(self.losses) == self.stop_at:
            signal.raise_signal(signal.SIGINT)

    def evaluated(self, row: dict[str, float]) -> None:
        self.evaluations.append(row)


def test_the_loss_falls_and_the_pictures_are_recognised(folder: Path) -> None:
    watcher = Recorder()
    chosen = options(folder, epochs=40, batch_size=6, evaluate_every=20, learning_rate=1e-2)
    done = train(chosen, watcher)
    assert len(watcher.losses) == 40
    assert sum(watcher.losses[-8:]) < 0.85 * sum(watcher.losses[:8])
    assert watcher.evaluations[-1]["test_loss"] < math.log(6)  # by chance
    with chosen.output.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["epoch"]) for row in rows] == [20, 40]
    assert done.rows == watcher.evaluations


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_an_interrupted_run_resumes_to_what_the_unbroken_one_gives(
    folder: Path, schedule: str
) -> None:
    whole = options(folder, output=folder.parent / "whole.safetensors", schedule=schedule)
    broken = replace(whole, output=folder.parent / "broken.safetensors")
    first, second, unbroken = Recorder(stop_at=5), Recorder(), Recorder()
    train(whole, unbroken)
    assert train(broken, first).interrupted
    assert not broken.output.exists()
    train(replace(broken, resume=True), second)
    assert first.losses + second.losses == unbroken.losses
    resumed, straight = load_file(broken.output), load_file(whole.output)
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[key], straight[key]) for key in straight)


def test_a_checkpoint_of_other_settings_pictures_or_none_is_refused(folder: Path) -> None:
    chosen = options(folder, epochs=1)
    with pytest.raises(CheckpointError, match="does not exist"):
        train(replace(chosen, resume=True))
    train(chosen)
    with pytest.raises(CheckpointError, match=r"trained with learning-rate 0\.002, not 0\.1"):
        train(replace(chosen, resume=True, learning_rate=0.1))
    (folder / "p5.png").unlink()
    with pytest.raises(CheckpointError, match="other pictures"):
        train(replace(chosen, resume=True))
    chosen.output.with_suffix(".ckpt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        train(replace(chosen, resume=True))


def test_the_labels_objective_learns_two_classes(tmp_path: Path) -> None:
    for name in ("even", "odd"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for i in range(8):
        pattern(i).save(tmp_path / "data" / ("odd" if i % 2 else "even") / f"{i}.png")
    watcher = Recorder()
    chosen = options(tmp_path / "data", objective="labels", epochs=30, held_out=0.25,
                     batch_size=6, learning_rate=1e-2, evaluate_every=30)  # fmt: skip
    train(chosen, watcher)
    assert sum(watcher.losses[-10:]) < 0.85 * sum(watcher.losses[:10])


def test_training_runs_on_the_naive_backend_with_the_same_losses(folder: Path) -> None:
    small = options(folder, epochs=1, image_size=16, width=0.03125)
    ours, torchs = Recorder(), Recorder()
    train(replace(small, backend="naive"), ours)
    train(small, torchs)
    assert ours.losses == pytest.approx(torchs.losses, rel=1e-3)


def test_resnet50_is_trained_and_loads(folder: Path) -> None:
    chosen = options(folder, arch="resnet50", width=1.0, epochs=1, image_size=32, first_size=32)
    done = train(chosen)
    assert done.path is not None
    from nst.networks.weights import from_file

    assert from_file("resnet50", done.path).network == "resnet50"


def test_options_out_of_range_are_the_users_mistake(folder: Path) -> None:
    for changes, expected in (
        ({"epochs": 0}, "epochs expects 1 or more, got 0"),
        ({"cooldown": 2.0}, "cooldown expects a number from 0 to 1, got 2.0"),
        ({"learning_rate": math.nan}, "learning-rate expects"),
        ({"arch": "resnet50"}, "expected --width 1"),
        ({"output": Path("net.pth")}, "in .safetensors"),
    ):
        with pytest.raises(ConfigError, match=expected):
            options(folder, **changes)


# ---------------------------------------------------------------- the exported file


def test_export_folds_batch_norm_and_gives_each_channel_a_mean_of_one(folder: Path) -> None:
    training = Training(options(folder, width=0.125), load(options(folder)))
    for _ in range(4):
        training.advance()
    state = exported_state(training)
    training.model.eval()
    images = training.pictures.images.float() / 255
    x = y = Normalize(IMAGENET_MEAN, IMAGENET_STD)(images)
    for name, layer in zip(training.model.names, training.model.layers, strict=True):
        with torch.no_grad():
            x = layer(x)
        if name.startswith("conv"):
            y = F.conv2d(y, state[f"{name}.weight"], state[f"{name}.bias"], padding=1).relu()
        if name.startswith("pool"):
            y = F.max_pool2d(y, 2)
        if name.startswith("relu"):
            mean = x.mean((0, 2, 3))
            scale = mean.clamp_min(QUIETEST * mean.mean().item())
            assert torch.allclose(y * scale.view(1, -1, 1, 1), x, rtol=1e-3, atol=1e-4)


def test_two_trainings_with_the_same_seed_write_the_same_file(folder: Path) -> None:
    written = []
    for name in ("one", "other"):
        chosen = options(folder, epochs=1, output=folder.parent / f"{name}.safetensors")
        train(chosen)
        written.append(chosen.output.read_bytes())
    assert written[0] == written[1]
    with safe_open(folder.parent / "one.safetensors", framework="pt") as file:
        assert list(file.metadata()).count("seed") == 1
    assert obtain("auto", folder.parent / "one.safetensors").network == "vgg19x0.0625"


def test_a_signal_within_a_step_lets_it_finish(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = options(folder, output=folder.parent / "whole.safetensors")
    broken = replace(whole, output=folder.parent / "broken.safetensors")
    train(whole)
    clip, calls = torch.nn.utils.clip_grad_norm_, []

    def interrupted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM if hasattr(signal, "SIGTERM") else signal.SIGINT)
        return clip(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.utils, "clip_grad_norm_", interrupted)
        assert train(broken).interrupted
    assert len(calls) == 3
    train(replace(broken, resume=True))
    resumed, straight = load_file(broken.output), load_file(whole.output)
    assert all(torch.equal(resumed[key], straight[key]) for key in straight)


def test_the_network_does_not_replace_the_weights_that_it_starts_from(folder: Path) -> None:
    chosen = options(folder)
    with pytest.raises(OutputError, match="output would replace the weights to start from"):
        train(replace(chosen, start=str(chosen.output)))


@pytest.mark.parametrize("width", [0.05, 0.1, 0.3, 0.35, 0.7, 0.9])
def test_networks_of_any_width_load(folder: Path, width: float) -> None:
    done = train(options(folder, width=width, epochs=1, batch_size=6))
    assert obtain("auto", done.path).state["conv1_1.weight"].shape[0] == round(64 * width)


def test_a_network_of_half_width_loads_and_stylises(folder: Path) -> None:
    done = train(options(folder, width=0.5, epochs=1, batch_size=6))
    assert done.path is not None
    assert done.path.stat().st_size <= 8 * 2**20
    result = nst.stylize(
        pattern(1, 64), pattern(2, 64), weights=done.path, size=48, scales=1, iterations=(4,)
    )
    assert result.rgb.shape == (1, 3, 48, 48)
    assert result.losses[-1]["total"] < result.losses[0]["total"]


def test_a_network_of_another_width_is_recognised_by_its_file(folder: Path) -> None:
    done = train(options(folder, width=0.125, epochs=1))
    result = nst.stylize(
        pattern(1, 64), pattern(2, 64), weights=done.path, size=48, scales=1, iterations=(3,)
    )
    assert "vgg19x0.125" in result.network
    with pytest.raises(WeightsError, match="shape"):
        nst.stylize(pattern(1), pattern(2), network="builtin", weights=done.path)


# ---------------------------------------------------------------- the command


def test_nst_train_writes_a_network_its_curves_and_a_checkpoint(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = folder.parent / "mine.safetensors"
    words = f"train --data {folder} -o {output} --width 0.0625 -s 16 -e 2 -b 3 --threads 1"
    assert main(words.split()) == 0
    told = capsys.readouterr()
    assert f"wrote {output}" in told.out
    assert "6 pictures of the folder 'plain': exemplar" in told.err
    for suffix in (".safetensors", ".ckpt", ".csv", ".png"):
        assert output.with_suffix(suffix).stat().st_size > 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train --data nowhere", "expects cifar100, caltech101 or a folder of pictures"),
        ("train --data cifar100 --data-root nowhere", "CIFAR100 cannot be read from 'nowhere'"),
        ("train --data nowhere -e 0", "epochs expects 1 or more, got 0"),
        ("train", "--data"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2(
    words: str, expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- starting from weights


def test_training_starts_as_the_very_network_that_a_file_holds(folder: Path) -> None:
    first = train(options(folder, epochs=2))
    assert first.path is not None
    kept = load_file(first.path)
    run = Training(options(folder, start=str(first.path), seed=7), load(options(folder)))
    model = run.model.eval()
    assert isinstance(model, Classifier)
    rgb = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    x = y = model.normalize(rgb)
    with torch.no_grad():
        for name, layer in zip(model.names, model.layers, strict=True):
            x = layer(x)
            if name.startswith("conv"):
                weight, bias = (kept[f"{name}.{part}"].float() for part in ("weight", "bias"))
                y = F.conv2d(y, weight, bias, padding=1).relu()
            elif name.startswith("pool"):
                y = F.max_pool2d(y, 2)
    torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-3 * float(y.abs().max()))


def test_training_from_weights_of_another_width_says_which_shape_it_expects(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"conv1_1 expects shape \(4, 3, 3, 3\), got .*--width"):
        Training(options(folder, start="builtin"), load(options(folder)))
    with pytest.raises(ConfigError, match="start expects arch vgg19"):
        options(folder, start="builtin", arch="resnet50", width=1.0)


def test_less_colour_changes_leave_views_nearer_to_their_pictures(folder: Path) -> None:
    plain = torch.full((8, 3, 16, 16), 40, dtype=torch.uint8)
    plain[:, 0] = 200

    def hue_error(factor: float) -> float:
        strength = replace(STRONG.with_colour(factor), light=0.0, blur=0.0, erase=0.0)
        return float((views(plain, 16, strength, Dice(3)) - plain.float() / 255).abs().mean())

    assert hue_error(0.0) < 1e-4
    assert hue_error(0.3) < hue_error(1.0)
    assert exemplar(load(options(folder)), options(folder, color=0.0)).strength.grey == 0
