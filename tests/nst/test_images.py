"""Sizing pictures, and fitting styles to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from drawn import differ, gradient_rgb, outcome_of
from hypothesis import given
from hypothesis import strategies as st

from nst.errors import ConfigError, PictureError
from nst.pictures.sizing import fit_style, load_picture, parse_size, resize

# ---------------------------------------------------------------- sizes


@given(
    st.integers(8, 8000),
    st.integers(8, 8000),
    st.sampled_from("xX*\u00d7"),
    st.sampled_from(["", " "]),
)
def test_parse_size_reads_what_is_written(w: int, h: int, sign: str, space: str) -> None:
    assert parse_size(f"{space}{w}{space}{sign}{space}{h}{space}") == (w, h)
    assert parse_size(f"{space}{w}{space}") == w


@given(st.text(max_size=12))
def test_parse_size_gives_a_usable_size_or_a_config_error(text: str) -> None:
    outcome = outcome_of(parse_size, text)
    if isinstance(outcome, str):
        assert "\n" not in outcome
    else:
        assert min(outcome if isinstance(outcome, tuple) else (outcome,)) >= 8


@pytest.mark.parametrize(
    "text", ["", "0", "7", "-512", "512x", "x512", "5 12", "1e3", "99999x99999"]
)
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(ConfigError, match="size expects"):
        parse_size(text)


def test_size_is_the_longest_side() -> None:
    assert load_picture(gradient_rgb(24, 32), size=64).hw == (48, 64)
    assert load_picture(gradient_rgb(32, 24), size=16).hw == (16, 12)


def test_two_sizes_cut_the_middle_out_and_do_not_distort() -> None:
    """A disc stays round when a square of the middle of a wide picture is asked for."""
    y, x = np.mgrid[0:60, 0:120]
    disc = (np.hypot(x - 59.5, y - 29.5) < 20).astype(np.uint8) * 255
    picture = load_picture(disc, size=(30, 30))
    assert picture.hw == (30, 30)
    inside = picture.rgb[0, 0] > 0.5
    assert int(inside.any(0).sum()) == int(inside.any(1).sum()) == 20


@pytest.mark.parametrize("size", [0, -5, 7, (512,), (64, 3), 3.5, True, (10**6, 10**6), "512"])
def test_an_impossible_size_is_refused(size: object) -> None:
    with pytest.raises(ConfigError, match="size expects"):
        load_picture(gradient_rgb(), size=size)


def test_reducing_does_not_alias() -> None:
    """Stripes finer than the new pixels become grey, not coarser stripes."""
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1
    small = resize(stripes, (16, 16))
    assert differ(small, torch.full_like(small, 0.5)) < 0.06


def test_resize_keeps_a_plain_colour_and_the_range() -> None:
    assert (
        differ(resize(torch.full((1, 3, 9, 9), 0.3), (20, 5)), torch.full((1, 3, 20, 5), 0.3))
        < 1e-6
    )
    edge = torch.zeros(1, 3, 16, 16)
    edge[..., 8:] = 1
    big = resize(edge, (64, 64))
    assert float(big.min()) == 0
    assert float(big.max()) == 1


# ---------------------------------------------------------------- fitting the style


def test_keep_has_the_styles_shape_and_the_results_longest_side() -> None:
    style = load_picture(gradient_rgb(40, 20))
    assert fit_style(style, (48, 96)).hw == (96, 48)
    assert fit_style(style, (48, 96), scale=0.5).hw == (48, 24)


def test_crop_has_the_results_shape_without_distortion() -> None:
    y, x = np.mgrid[0:80, 0:40]
    disc = load_picture((np.hypot(x - 19.5, y - 39.5) < 15).astype(np.uint8) * 255)
    fitted = fit_style(disc, (40, 40), "crop")
    inside = fitted.rgb[0, 0] > 0.5
    assert fitted.hw == (40, 40)
    assert int(inside.any(0).sum()) == int(inside.any(1).sum()) == 30
    assert fit_style(disc, (30, 60), "crop", scale=2.0).hw == (60, 120)


def test_stretch_presses_the_whole_into_the_results_shape() -> None:
    fitted = fit_style(load_picture(gradient_rgb(40, 20)), (20, 40), "stretch")
    assert fitted.hw == (20, 40)
    assert float(fitted.rgb[0, 0, :, -1].min()) > 0.95
    assert float(fitted.rgb[0, 1, -1].min()) > 0.95


def test_alpha_is_fitted_along() -> None:
    style = load_picture(torch.full((4, 20, 20), 0.5))
    fitted = fit_style(style, (40, 20), "crop")
    assert fitted.alpha is not None
    assert fitted.alpha.shape == (1, 1, 40, 20)


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf, 17])
def test_an_impossible_style_scale_is_refused(scale: float) -> None:
    with pytest.raises(ConfigError, match="style-scale expects"):
        fit_style(load_picture(gradient_rgb()), (32, 32), scale=scale)


def test_an_unknown_way_of_fitting_is_refused() -> None:
    with pytest.raises(ConfigError, match="keep, crop, stretch, got 'squash'"):
        fit_style(load_picture(gradient_rgb()), (32, 32), "squash")  # type: ignore[arg-type]


def test_a_style_scaled_to_nothing_is_refused() -> None:
    with pytest.raises(PictureError, match="8 pixels or more"):
        fit_style(load_picture(gradient_rgb()), (32, 32), scale=0.1)
