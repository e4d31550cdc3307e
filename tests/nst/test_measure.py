"""The measure: what it gives where the answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nst.errors import PictureError
from nst.visualize.measure import patch_distance, score, structure


@pytest.fixture
def content() -> Tensor:
    return torch.rand(1, 3, 64, 56)


@pytest.fixture
def style() -> Tensor:
    return 0.3 * torch.rand(1, 3, 48, 72)


def test_the_content_scores_1_and_1_and_the_style_0(content: Tensor, style: Tensor) -> None:
    untouched = score(content, content, style)
    assert untouched.style == 1
    assert untouched.structure == pytest.approx(1, abs=1e-5)
    assert score(style, torch.rand_like(style), style).style == 0


def test_a_picture_between_the_two_scores_between(content: Tensor) -> None:
    style = 0.3 * torch.rand_like(content)
    halfway = score((content + style) / 2, content, style)
    assert 0.2 < halfway.style < 0.9
    assert 0.5 < halfway.structure < 0.999


def test_brightness_alone_is_its_distance_in_every_direction() -> None:
    grey = torch.full((1, 3, 64, 64), 0.25)
    near, far = (patch_distance(grey, grey + d) for d in (0.1, 0.3))
    assert far == pytest.approx(3 * near, rel=1e-4)
    assert near == pytest.approx(0.1, rel=0.3)  # |sum u| of a unit u in 75 dimensions is about 1


def test_where_patches_stand_does_not_matter() -> None:
    picture = torch.rand(1, 3, 64, 64)
    assert patch_distance(picture, picture.flip(3)) < 0.02


def test_structure_ignores_brightness_and_contrast_and_sees_an_inversion(content: Tensor) -> None:
    assert structure(content, 0.5 * content + 0.2) == pytest.approx(1, abs=1e-4)
    assert structure(content, 1 - content) == pytest.approx(-1, abs=1e-4)
    assert abs(structure(content, torch.rand_like(content))) < 0.1


def test_pictures_of_other_sizes_or_too_small_are_refused(content: Tensor, style: Tensor) -> None:
    with pytest.raises(PictureError, match="of one size, got 72x48 and 56x64"):
        score(style, content, style)
    with pytest.raises(PictureError, match="40 pixels or more, got 30x64"):
        patch_distance(content, torch.rand(1, 3, 64, 30))
    with pytest.raises(PictureError, match="differs from the content"):
        score(content, content, content)
