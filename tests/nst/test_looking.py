"""What a network sees: features, filters, reconstructions, favourites; and the two commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastconv import figures
from nst.cli import main as cli
from nst.errors import ConfigError, LayerError, OutputError, PictureError
from nst.losses.style import gram, mean_and_covariance
from nst.networks.table import kind_of
from nst.outputs.figure_files import save_figure
from nst.samples import scene, swirls
from nst.visualize import features as looking
from nst.visualize import figures as drawn

SIZE = 48
SAME = {"network": "builtin", "size": SIZE, "backend": "torch"}
PICTURES = {"scene": scene(64), "swirls": swirls(64)}


@pytest.fixture(scope="module")
def reader() -> looking.FeatureReader:
    return looking.feature_reader(("relu1_1", "relu2_1", "conv2_1"), **SAME)


def titles(figure: figures.Figure) -> list[str]:
    return [panel.get_title(loc=where) for panel in figure.axes for where in ("left", "center")]


def test_the_usual_layers_are_all_of_style_and_content() -> None:
    usual = looking.feature_reader(**SAME).layers
    kind = kind_of("builtin")
    assert set(usual) == {*kind.style_layers, *kind.content_layers}
    assert list(usual) == sorted(usual)  # in the network's order


def test_grams_are_those_of_the_features(reader: looking.FeatureReader) -> None:
    picture = PICTURES["scene"]
    features = reader.features(picture)
    assert features["relu2_1"].shape[2:] == (SIZE * 3 // 8, SIZE // 2)
    torch.testing.assert_close(reader.grams(picture)["relu2_1"], gram(features["relu2_1"]))


def test_the_strongest_channels_come_first() -> None:
    f = torch.zeros(1, 5, 2, 2)
    f[0, 3], f[0, 1] = 4.0, -7.0
    assert looking.strongest([f, f], 2) == [1, 3]


def test_features_figure_shows_the_same_channels_of_both(reader: looking.FeatureReader) -> None:
    figure = drawn.features_figure(reader, PICTURES, maps=3)
    maps = [title for title in titles(figure) if " no. " in title]
    assert len(maps) == 2 * 3 * 3
    assert maps[:9] == maps[9:]
    assert {"scene", "swirls"} <= set(titles(figure))


def test_grams_figure_has_one_scale_per_layer(reader: looking.FeatureReader) -> None:
    figure = drawn.grams_figure(reader, PICTURES, ("relu1_1", "relu2_1"))
    tops = [panel.images[0].get_clim()[1] for panel in figure.axes]
    assert tops[1] == tops[4]
    assert tops[2] == tops[5]
    assert tops[1] != tops[2]


def test_every_filter_of_the_first_layer_is_a_tile(reader: looking.FeatureReader) -> None:
    kernels = looking.first_filters(reader)
    assert kernels.shape == (32, 3, 3, 3)
    tiles = [p.images[0].get_array() for p in drawn.filters_figure(reader).axes if p.images]
    assert len(tiles) == 32
    strongest = float(kernels[5].abs().max())
    np.testing.assert_allclose(
        tiles[5], kernels[5].permute(1, 2, 0).numpy() / (2 * strongest) + 0.5, atol=1e-6
    )


def test_content_of_an_early_layer_comes_back_from_noise() -> None:
    found = looking.reconstruct(PICTURES["scene"], ["relu1_1"], iterations=(60,), **SAME)
    assert found.rgb.shape == found.original.shape
    assert found.last < found.first / 20
    off = (found.rgb - found.original).square().mean().sqrt().item()
    assert off < 0.05  # noise is 0.35 away


def test_style_of_a_layer_comes_back_but_not_the_picture() -> None:
    style = PICTURES["swirls"]
    found = looking.reconstruct(style, ["relu1_1"], "style", iterations=(60,), **SAME)
    assert found.last < found.first / 5
    off = (found.rgb - found.original).square().mean().sqrt().item()
    assert off > 0.1  # another picture, of the same colours:
    ours = mean_and_covariance(found.rgb)[0]
    torch.testing.assert_close(ours, mean_and_covariance(found.original)[0], atol=0.06, rtol=0)


def test_same_seed_same_reconstruction() -> None:
    twice = [
        looking.reconstruct(PICTURES["scene"], ["relu1_1"], iterations=(3,), seed=s, **SAME).rgb
        for s in (1, 1, 2)
    ]
    assert torch.equal(twice[0], twice[1])
    assert not torch.equal(twice[0], twice[2])


def test_cumulative_layers() -> None:
    assert looking.cumulative(["a", "b", "c"]) == [("a",), ("a", "b"), ("a", "b", "c")]


def test_a_channel_answers_more_to_its_favourite_than_to_the_others(
    reader: looking.FeatureReader,
) -> None:
    channels = (0, 3, 9)
    found = looking.favourites(reader, "conv2_1", channels, side=32, steps=40)
    assert found.shape == (3, 3, 32, 32)
    assert found.min() >= 0
    assert found.max() <= 1
    with torch.no_grad():
        answers = reader.features_of(found)["conv2_1"].mean((2, 3))[:, list(channels)]
    assert (answers.argmax(0) == torch.arange(3)).all()


def test_figures_of_reconstructions_and_steps() -> None:
    rgb = torch.rand(1, 3, 8, 12)
    row = [looking.Reconstruction("style", ("relu1_1", "relu2_1"), rgb, rgb, 1.0, 0.1)]
    assert titles(drawn.reconstructions_figure([row]))[::2] == ["style of this", "to relu2_1"]
    figure = drawn.steps_figure({"1": rgb, "51": rgb})
    assert titles(figure)[::2] == ["1", "51"]


def test_mistakes_are_told(reader: looking.FeatureReader) -> None:
    with pytest.raises(ConfigError, match="part expects content or style, got 'both'"):
        looking.reconstruct(PICTURES["scene"], ["relu1_1"], "both", **SAME)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="one layer or more"):
        looking.reconstruct(PICTURES["scene"], [], **SAME)
    with pytest.raises(LayerError, match="no layer 'relu9_1'"):
        looking.feature_reader(("relu9_1",), **SAME)
    with pytest.raises(LayerError, match="read at relu1_1, conv2_1, relu2_1, not at relu3_1"):
        looking.favourites(reader, "relu3_1", (0,))
    for wrong in ((), (64,), (-1,)):
        with pytest.raises(ConfigError, match="channels 0 to 63"):
            looking.favourites(reader, "conv2_1", wrong)
    with pytest.raises(PictureError, match="one picture or more"):
        drawn.features_figure(reader, {})
    with pytest.raises(OutputError, match="got no suffix"):
        save_figure(None, "figure")


# ---------------------------------------------------------------- the commands


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "a.png", tmp_path / "b" / "a.png"]
    paths[1].parent.mkdir()
    for path, picture in zip(paths, PICTURES.values()):
        Image.fromarray(np.asarray(picture)).save(path)
    return [str(path) for path in paths]


COMMON = ["--network", "builtin", "--size", "32", "--backend", "torch"]


@pytest.mark.parametrize(
    "words",
    [
        ["--layer", "all"],
        ["--layer", "relu2_1"],
        ["--layer", "all", "--what", "gram"],
    ],
    ids=" ".join,
)
def test_features_of_two_pictures(words: list[str], files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "new" / "sheet.png"
    assert cli.main(["features", *files, *words, *COMMON, "-o", str(out)]) == 0
    with Image.open(out) as sheet:
        assert min(sheet.size) > 150
    assert [path.name for path in out.parent.iterdir()] == ["sheet.png"]


def test_features_of_one_picture_and_one_layer(files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "maps.png"
    assert cli.main(["features", files[0], *COMMON, "-o", str(out)]) == 0
    assert out.exists()


@pytest.mark.parametrize("what", ["filters", "channels"])
def test_features_without_a_picture(what: str, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    words = ["--what", what, "--layer", "conv1_1", "--channels", "0", "1", *COMMON]
    assert cli.main(["features", *words, "-o", str(out)]) == 0
    assert out.exists()


def test_reconstruct_writes_a_sheet_and_tells_the_losses(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sheet.png"
    words = ["--layers", "relu1_1", "relu1_2", "-i", "3", "--cumulative", *COMMON]
    assert cli.main(["reconstruct", files[0], *words, "-o", str(out)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told[:-1]] == [
        "content of relu1_1",
        "content of relu1_2",
        "style of relu1_1",
        "style of relu1_1, relu1_2",
    ]
    assert told[-1] == f"wrote {out}"
    assert out.exists()


MISTAKES = (
    (["features"], "--what maps expects one picture or more, got 0"),
    (["features", "{0}", "--what", "filters"], "--what filters expects no picture, got 1"),
    (["features", "{0}", "{1}", "-o", "sheet.doc"], "expected one of .png"),
    (["features", "{0}", "{1}", "--layer", "relu9"], "no layer 'relu9'"),
    (["features", "--what", "channels", "--layer", "all"], "expects one layer, got all"),
    (["features", "--what", "channels", "--channels", "999"], "channels 0 to 127"),
    (["reconstruct", "{0}", "--layers", "relu9"], "no layer 'relu9'"),
    (["reconstruct", "nowhere.png"], "nowhere.png"),
)


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_mistakes_of_the_commands_are_told_in_one_line(
    words: list[str], message: str, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [word.format(*files) for word in words]
    assert cli.main([*filled, *COMMON]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.strip().count("\n") == 0
