"""Stylizer: prepared once, used often, and the same pictures as one call at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import CONTENT, SMALL, STYLE, picture, run

import nst
from nst.errors import ConfigError
from nst.losses import terms
from nst.networks.weights import obtain
from nst.run import engine


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read and taken while pictures are painted."""
    seen: list[str] = []

    def counting(name: str, module: Any, function: str) -> None:
        original = getattr(module, function)

        def counted(*arguments: Any, **options: Any) -> Any:
            seen.append(name)
            return original(*arguments, **options)

        monkeypatch.setattr(module, function, counted)

    counting("weights", engine, "obtain")
    counting("style", engine, "take_style_targets")
    return seen


def test_a_second_picture_of_the_same_size_reads_no_weights_and_no_style(asked: list[str]) -> None:
    paint = nst.Stylizer(STYLE, **SMALL)
    assert asked == ["weights"]
    first = paint(CONTENT)
    assert asked == ["weights", "style", "style"]  # at each of two scales
    again = paint(picture(5))
    assert asked == ["weights", "style", "style"]
    assert not torch.equal(first.rgb, again.rgb)


def test_every_picture_is_that_of_a_call_of_its_own() -> None:
    paint = nst.Stylizer(STYLE, **SMALL)
    for content in (CONTENT, picture(5), picture(6, 40, 30)):
        expected = nst.stylize(content, STYLE, **SMALL)
        result = paint(content)
        assert torch.equal(result.rgb, expected.rgb)
        assert [row["total"] for row in result.losses] == [r["total"] for r in expected.losses]


def test_the_styles_take_on_each_content_s_colours() -> None:
    paint = nst.Stylizer(STYLE, **SMALL, preserve_color="match")
    paint(picture(5))
    expected = run(preserve_color="match")
    assert torch.equal(paint(CONTENT).rgb, expected.rgb)


def test_outputs_are_named_at_the_call_and_nothing_else(tmp_path: Path) -> None:
    paint = nst.Stylizer(STYLE, **SMALL)
    for name in ("one.png", "two.png"):
        assert paint(CONTENT, output=tmp_path / name).config.output == tmp_path / name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]
    with pytest.raises(ConfigError, match="only outputs may be given, not 'size'"):
        paint(CONTENT, size=64)


def test_a_stylizer_iterates_as_well() -> None:
    steps = list(nst.Stylizer(STYLE, **SMALL).iterate(CONTENT))
    assert [step.iteration for step in steps] == list(range(1, steps[-1].iterations + 1))
    assert set(steps[0].losses) == {"total", "content", "style", "color", "tv"}
    assert steps[-1].left == 0


def test_weights_at_hand_are_not_read_again(asked: list[str]) -> None:
    options = {name: value for name, value in SMALL.items() if name != "network"}
    paint = nst.Stylizer(STYLE, weights=obtain("builtin"), **options)
    assert asked == []
    assert paint.config.network == "builtin"
    assert torch.equal(paint(CONTENT).rgb, run().rgb)


def test_a_term_of_the_caller_s_own_is_minimised_with_the_others() -> None:
    def darker(level: Any) -> list[terms.Term]:
        return [terms.Term("dark", 5.0, lambda reading: reading.picture.mean())]

    plain = run()
    result = nst.Stylizer(STYLE, **SMALL)(CONTENT, more_terms=darker)
    assert "dark" in result.losses[-1]
    assert float(result.rgb.mean()) < float(plain.rgb.mean()) - 0.02


@pytest.mark.parametrize("kind", ["path", "pil", "array", "tensor"])
def test_start_and_mask_are_taken_as_any_kind_of_picture(tmp_path: Path, kind: str) -> None:
    start, mask = picture(7), picture(8).convert("L")

    def given(image: Any) -> Any:
        if kind == "path":
            path = tmp_path / f"{image.mode}.png"
            image.save(path)
            return path
        if kind == "pil":
            return image
        array = np.asarray(image)
        if kind == "array":
            return array
        tensor = torch.from_numpy(array.copy()).float() / 255
        return tensor.permute(2, 0, 1) if tensor.dim() == 3 else tensor[None]

    expected = run(init=start, mask=mask)
    result = run(init=given(start), mask=given(mask))
    torch.testing.assert_close(result.rgb, expected.rgb, rtol=0, atol=1e-6)
    assert not torch.equal(expected.rgb, run().rgb)
