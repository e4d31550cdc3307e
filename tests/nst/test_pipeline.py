"""stylize() and iterate(): whole runs at a small size with the built-in network."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import CONTENT, SMALL, STYLE, picture, run

import nst
from fastconv import backends, moments_of, use_backend
from nst.api import plan
from nst.config.options import StyleConfig
from nst.errors import ConfigError, LayerError, OutputError, PictureError
from nst.networks.hardware import choose_backend
from nst.optimizers.table import OPTIMIZERS
from nst.outputs import read_settings
from nst.pictures.sizing import fit_style, load_picture
from nst.samples import scene, swirls


def test_a_run_gives_a_picture_of_the_size_asked_for_and_a_row_per_iteration() -> None:
    result = run()
    assert result.image.size == (40, 30)
    assert result.image.mode == "RGB"
    assert [row["iteration"] for row in result.losses] == list(range(1, 11))
    assert [row["scale"] for row in result.losses] == [28] * 6 + [40] * 4
    assert {"total", "content", "style", "tv", "style/relu1_1", "content/relu2_2"} <= {
        *result.losses[0]
    }
    assert not result.interrupted
    assert result.seconds > 0
    assert result.network.startswith("builtin")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("style_loss", ["wasserstein", "covariance", "gram", "gatys"])
def test_the_loss_falls_with_each_optimizer_and_style_loss(optimizer: str, style_loss: str) -> None:
    result = run(optimizer=optimizer, style_loss=style_loss, scales=1, iterations=15)
    losses = [row["style"] for row in result.losses]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("preset", ["quality", "gatys", "seed"])
def test_the_presets_run_and_lower_their_loss(preset: str) -> None:
    layers = {} if preset == "quality" else {"style_layers": (), "content_layers": ()}
    options = {"size": 48, "network": "builtin", "iterations": 8, "scales": 1}
    if preset == "seed":
        layers = {}
    result = nst.stylize(CONTENT, STYLE, preset=preset, **options, **layers)
    losses = [row["total"] for row in result.losses]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("preset", ["gatys", "seed"])
def test_lbfgs_comes_down_on_the_demo_s_pictures_without_stepping_back(preset: str) -> None:
    options = {"size": 64, "iterations": 25, "network": "builtin", "backend": "torch"}
    result = nst.stylize(scene(64, 0), swirls(64, 0), preset=preset, **options)
    assert result.notes == []
    assert result.losses[-1]["total"] < 0.2 * result.losses[0]["total"]


def test_the_paper_s_content_weight_is_fitted_to_the_layer_that_the_built_in_network_reads() -> (
    None
):
    def share(**options: Any) -> float:
        """What of the content's loss is in the total, with no style."""
        (row,) = run(preset="gatys", style_weight=0.0, iterations=1, scales=1, **options).losses
        return row["total"] / row["content"]

    assert share(content_layers=()) == pytest.approx(0.02, rel=1e-3)
    assert share(content_layers=("relu2_2",)) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("options", [{}, {"optimizer": "lbfgs"}, {"init": "random", "seed": 5}])
def test_the_same_seed_gives_the_same_bits(options: dict[str, Any]) -> None:
    assert torch.equal(run(**options).rgb, run(**options).rgb)


def test_another_seed_gives_another_random_start() -> None:
    first, second = (run(init="random", seed=seed, iterations=1, scales=1) for seed in (1, 2))
    assert not torch.allclose(first.rgb, second.rgb, atol=0.05)


@pytest.mark.parametrize("backend", [n for n, info in backends().items() if info.available])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_every_backend_gives_the_same_picture(backend: str, optimizer: str) -> None:
    options = {"size": 24, "iterations": 3, "optimizer": optimizer}
    expected, actual = run(**options), run(**options, backend=backend)
    # rounding differs from backend to backend, and three steps amplify it
    assert float((actual.rgb - expected.rgb).abs().max()) < 2e-3


def test_several_styles_are_blended_by_their_weights() -> None:
    both = nst.stylize(CONTENT, [STYLE, CONTENT], style_weights=(1.0, 0.0), **SMALL)
    torch.testing.assert_close(both.rgb, run().rgb, rtol=0, atol=1e-3)
    other = nst.stylize(CONTENT, [STYLE, CONTENT], style_weights=(0.0, 1.0), **SMALL)
    assert not torch.allclose(other.rgb, run().rgb, atol=0.02)


def test_as_many_style_weights_as_styles_are_expected() -> None:
    with pytest.raises(ConfigError, match="one number per style, 1, got 2"):
        run(style_weights=(1.0, 2.0))


def test_outside_the_mask_the_content_stays_as_it_is(tmp_path: Path) -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[:, 20:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    rgb = run(mask=tmp_path / "mask.png").rgb
    content = load_picture(CONTENT, 40).rgb
    torch.testing.assert_close(rgb[..., :18], content[..., :18])
    assert float((rgb - content)[..., 22:].abs().mean()) > 0.02


def test_luminance_keeps_the_content_s_colours() -> None:
    result, content = run(preserve_color="luminance").rgb, load_picture(CONTENT, 40).rgb
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)

    def chroma(x: torch.Tensor) -> torch.Tensor:
        return x - (luma * x).sum(1, keepdim=True)

    difference = (chroma(result) - chroma(content)).abs()
    assert float(difference.median()) < 1e-3  # but where it would leave the range
    assert not torch.allclose(result, content, atol=0.05)


def test_match_paints_with_the_content_s_colours() -> None:
    content = load_picture(CONTENT, 40).rgb

    def away(rgb: torch.Tensor) -> float:
        return float((rgb.mean((2, 3)) - content.mean((2, 3))).abs().sum())

    assert away(run(preserve_color="match", iterations=20).rgb) < away(run(iterations=20).rgb)


def test_the_content_s_alpha_is_put_back() -> None:
    alpha = Image.fromarray(np.linspace(0, 255, 1200).reshape(30, 40).astype(np.uint8))
    content = CONTENT.copy()
    content.putalpha(alpha)
    result = nst.stylize(content, STYLE, **SMALL)
    assert result.image.mode == "RGBA"
    assert np.array_equal(np.asarray(result.image)[..., 3], np.asarray(alpha))


@pytest.mark.parametrize("init", ["style", "gray", "random"])
def test_other_starts_than_the_content(init: str) -> None:
    first = next(iter(nst.iterate(CONTENT, STYLE, **{**SMALL, "init": init, "scales": 1})))
    content = load_picture(CONTENT, 40).rgb
    assert not torch.allclose(first.picture, content, atol=0.1)


def test_a_start_from_a_file(tmp_path: Path) -> None:
    picture(7).save(tmp_path / "start.png")
    first = next(iter(nst.iterate(CONTENT, STYLE, **SMALL, init=str(tmp_path / "start.png"))))
    expected = load_picture(picture(7), first.level.width).rgb
    torch.testing.assert_close(first.picture, expected, rtol=0, atol=0.01)


def test_a_start_that_is_neither_a_word_nor_a_file_is_a_picture_error() -> None:
    with pytest.raises(PictureError, match=r"init contents: .*did you mean 'content'"):
        run(init="contents")


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_auto_balance_brings_the_losses_to_the_proportion_of_the_weights(optimizer: str) -> None:
    options = {"scales": 1, "iterations": 60, "optimizer": optimizer}
    fixed = run(**options, content_weight=0.5)
    auto = run(**options, content_weight=0.5, balance="auto")

    def off(result: nst.Result) -> float:
        last = result.losses[-1]
        return abs(math.log(0.5 * last["content"] / (last["style"] + last["color"])))

    assert off(auto) < 0.5 * off(fixed)


def test_colours_as_such_come_nearer_to_the_style_where_they_count() -> None:
    target = moments_of(fit_style(load_picture(STYLE), (30, 40)).rgb)

    def apart(color_weight: float) -> float:
        found = moments_of(run(color_weight=color_weight, scales=1, iterations=30).rgb)
        return sum(float((a - b).square().sum()) for a, b in zip(found, target, strict=True))

    assert apart(3.0) < 0.5 * apart(0.0)
    assert "color" not in run(color_weight=0.0, iterations=1, scales=1).losses[0]
    assert "color" not in run(style_weight=0.0, iterations=1, scales=1).losses[0]


def test_the_same_weights_hold_at_twice_the_size() -> None:
    small, large = (
        nst.stylize(picture(1, 3 * s, 4 * s), picture(2, 3 * s, 3 * s), **SMALL | {"size": 4 * s})
        for s in (12, 24)
    )
    for part in ("content", "style", "tv"):
        ratio = large.losses[-1][part] / small.losses[-1][part]
        assert 0.4 < ratio < 2.5, part


def test_bfloat16_stays_near_float32_and_float64_nearer() -> None:
    single, half, double = (run(precision=p).rgb for p in ("float32", "bfloat16", "float64"))
    assert float((half - single).abs().mean()) < 0.03
    assert float((double - single).abs().mean()) < 1e-3


def test_bfloat16_takes_the_backend_that_has_it_and_the_result_says_so() -> None:
    options = {**SMALL, "backend": "auto", "iterations": 1, "scales": 1, "device": "cpu"}
    half = nst.stylize(CONTENT, STYLE, precision="bfloat16", **options)
    assert half.computed == "torch on cpu, bfloat16"
    assert half.settings["computed"] == half.computed
    single = nst.stylize(CONTENT, STYLE, **options)
    assert single.computed.endswith("on cpu, float32")
    apart = abs(half.losses[0]["style"] / single.losses[0]["style"] - 1)
    assert 1e-6 < apart < 0.05, "8 bits of mantissa are seen, and no more than them"


def test_auto_heeds_the_backend_in_force() -> None:
    with use_backend("naive"):
        assert choose_backend(StyleConfig(backend="auto", device="cpu")) == "naive"
    assert choose_backend(StyleConfig(backend="numba", device="cpu")) == "numba"


def test_iterate_yields_pictures_at_the_size_of_each_scale() -> None:
    steps = [
        (step.scale, tuple(step.picture.shape)) for step in nst.iterate(CONTENT, STYLE, **SMALL)
    ]
    assert steps == [(1, (1, 3, 21, 28))] * 6 + [(2, (1, 3, 30, 40))] * 4


def test_a_callback_may_end_the_run() -> None:
    result = nst.stylize(CONTENT, STYLE, callback=lambda step: step.iteration < 3, **SMALL)
    assert len(result.losses) == 3
    assert not result.interrupted
    assert result.image.size == (40, 30)


def test_outputs_are_written_where_asked(tmp_path: Path) -> None:
    result = run(
        output=tmp_path / "out.png",
        csv=tmp_path / "losses.csv",
        plot=tmp_path / "losses.png",
        animate=tmp_path / "run.gif",
        save_every=4,
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "losses.csv",
        "losses.png",
        "out-frames",
        "out.png",
        "run.gif",
    ]
    assert result.frames == tmp_path / "out-frames"
    assert [p.name for p in sorted(result.frames.iterdir())] == [
        f"out-{i:06}.png" for i in (1, 4, 8, 10)
    ]
    assert len((tmp_path / "losses.csv").read_text().splitlines()) == 11
    with Image.open(tmp_path / "run.gif") as animation:
        assert animation.n_frames == 4


def test_frames_for_an_animation_alone_do_not_stay(tmp_path: Path) -> None:
    result = run(animate=tmp_path / "run.gif")
    assert [p.name for p in tmp_path.iterdir()] == ["run.gif"]
    assert result.frames is None


def test_the_settings_are_kept_in_the_picture(tmp_path: Path) -> None:
    CONTENT.save(tmp_path / "c.png")
    keep: dict[str, Any] = {"output": tmp_path / "out.png", "keep_paths": True}
    nst.stylize(tmp_path / "c.png", STYLE, **keep, **SMALL)
    settings = read_settings(tmp_path / "out.png")
    digest = hashlib.sha256((tmp_path / "c.png").read_bytes()).hexdigest()
    path = str(tmp_path / "c.png")
    assert settings["content"] == {"name": "c.png", "sha256": digest, "path": path}
    assert settings["styles"] == [{"name": "<Image>"}]
    assert settings["network"].startswith("builtin")
    kept = settings["config"]
    expected = StyleConfig.of("quality", **keep, **SMALL)
    assert StyleConfig.of(kept.pop("preset"), **kept) == expected


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"output": "no/../\0/out.png"}, OutputError),
        ({"output": 300 * "a" + ".png"}, OutputError),
        ({"output": "out.xyz"}, OutputError),
        ({"style_layers": ("relu8_1",)}, LayerError),
        ({"style_layer_weights": (1.0,)}, ConfigError),
        ({"size": 7}, ConfigError),
        ({"style_layers": ("relu5_1",), "size": 15}, ConfigError),
        ({"device": "mps"}, ConfigError),
        ({"max_memory": "10M"}, ConfigError),
        ({"animate": "a.png"}, OutputError),
        ({"animate": "a.gif", "fps": 100.0}, OutputError),
        ({"plot": "a.xyz"}, OutputError),
        ({"output": "a.jpg", "bits": 16}, OutputError),
        ({"output": "a.webp", "size": "17000x20", "style_scale": 0.05}, OutputError),
        ({"precision": "bfloat16", "backend": "numba"}, ConfigError),
        ({"save_every": 3}, ConfigError),
        ({"iterations": (1, 2, 3)}, ConfigError),
    ],
)
def test_a_mistake_is_found_before_anything_is_computed(
    options: dict[str, Any], error: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nst.run.run.Run.steps", lambda self: pytest.fail("it was computed"))
    with pytest.raises(error):
        run(**options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output": "content.png"}, "output would replace the content"),
        ({"output": "sub/../style.png"}, "output would replace style 1"),
        ({"output": "mask.png", "mask": "mask.png"}, "output would replace the mask"),
        ({"output": "mask.png", "init": "mask.png"}, "output would replace the start"),
        ({"output": "a.png", "plot": "a.png"}, "plot would replace output"),
        ({"output": "a.png", "checkpoint": "a.png"}, "output would replace checkpoint"),
        ({"csv": "style.png"}, "csv would replace style 1"),
    ],
)
def test_no_output_replaces_what_is_read_or_another_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, drawn in (("content", CONTENT), ("style", STYLE), ("mask", CONTENT)):
        drawn.save(f"{name}.png")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=words):
        nst.stylize("content.png", ["style.png"], **{**SMALL, **options})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_two_pictures_are_expected() -> None:
    with pytest.raises(ConfigError, match="content and a style"):
        nst.stylize(CONTENT, **SMALL)
    with pytest.raises(ConfigError, match="at least one style"):
        nst.stylize(CONTENT, [], **SMALL)


def test_the_plan_tells_sizes_iterations_layers_and_memory() -> None:
    text = "\n".join(plan(CONTENT, STYLE, StyleConfig.of("quality", **SMALL)))
    for words in ("40x30  4", "28x21  6", "builtin", "relu2_1 0.200", "GB at the peak"):
        assert words in text
