"""Recolouring: what is promised of means, covariances, luma and chroma."""

from __future__ import annotations

import pytest
import torch

from nst.pictures.colour import LUMA, keep_luminance_only, match_colour

CB = (-0.168736, -0.331264, 0.5)
CR = (0.5, -0.418688, -0.081312)


def coloured(mean: tuple[float, float, float], spread: float, seed: int) -> torch.Tensor:
    """A picture (1, 3, 40, 50) whose channels are correlated, well inside [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(3, 3, generator=generator)
    mixing /= mixing.norm(dim=1, keepdim=True)
    noise = torch.rand(3, 2000, generator=generator) - 0.5
    return (torch.tensor(mean)[:, None] + spread * mixing @ noise).clamp(0, 1).reshape(1, 3, 40, 50)


def moments(rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = rgb.double().reshape(3, -1)
    return pixels.mean(1), torch.cov(pixels, correction=0)


def projected(rgb: torch.Tensor, weights: tuple[float, float, float]) -> torch.Tensor:
    return (rgb * torch.tensor(weights).reshape(1, 3, 1, 1)).sum(1)


def test_the_style_gets_the_contents_mean_and_covariance() -> None:
    style, content = coloured((0.6, 0.4, 0.5), 0.2, 1), coloured((0.4, 0.5, 0.6), 0.15, 2)
    (mean, cov), (goal_mean, goal_cov) = moments(match_colour(style, content)), moments(content)
    torch.testing.assert_close(mean, goal_mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(cov, goal_cov, atol=3e-5, rtol=0)


def test_a_picture_matched_to_itself_is_unchanged() -> None:
    picture = coloured((0.5, 0.5, 0.5), 0.3, 3)
    torch.testing.assert_close(match_colour(picture, picture), picture, atol=1e-5, rtol=0)


def test_the_sizes_may_differ_and_the_styles_is_kept() -> None:
    matched = match_colour(torch.rand(1, 3, 20, 30), torch.rand(1, 3, 9, 12))
    assert matched.shape == (1, 3, 20, 30)
    assert matched.dtype == torch.float32


PLAIN = {
    "black": torch.zeros(1, 3, 10, 10),
    "white": torch.ones(1, 3, 10, 10),
    "one colour": torch.tensor([0.2, 0.7, 0.4]).reshape(1, 3, 1, 1).expand(1, 3, 10, 10),
    "grey ramp": torch.linspace(0, 1, 100).reshape(1, 1, 10, 10).expand(1, 3, 10, 10),
    "colours": torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(4)),
}


@pytest.mark.parametrize("style", PLAIN)
@pytest.mark.parametrize("content", PLAIN)
def test_plain_pictures_give_no_nan(style: str, content: str) -> None:
    for change in (match_colour, keep_luminance_only):
        result = change(PLAIN[style], PLAIN[content])
        assert torch.isfinite(result).all()
        assert float(result.min()) >= 0
        assert float(result.max()) <= 1


def test_a_grey_content_makes_the_style_grey() -> None:
    matched = match_colour(PLAIN["colours"], PLAIN["grey ramp"])
    assert float((matched.amax(1) - matched.amin(1)).max()) < 0.05


def test_a_plain_style_takes_the_contents_mean_colour() -> None:
    matched = match_colour(PLAIN["one colour"], PLAIN["colours"])
    wanted = PLAIN["colours"].mean(dim=(2, 3), keepdim=True).expand_as(matched)
    torch.testing.assert_close(matched, wanted, atol=1e-4, rtol=0)


def test_luma_comes_from_the_result_and_chroma_from_the_content() -> None:
    result, content = coloured((0.5, 0.5, 0.5), 0.15, 5), coloured((0.45, 0.5, 0.55), 0.15, 6)
    mixed = keep_luminance_only(result, content)
    torch.testing.assert_close(projected(mixed, LUMA), projected(result, LUMA), atol=1e-5, rtol=0)
    for chroma in (CB, CR):
        wanted = projected(content, chroma)
        torch.testing.assert_close(projected(mixed, chroma), wanted, atol=1e-5, rtol=0)


def test_luma_holds_where_the_chroma_does_not_fit() -> None:
    """Near-white paint over strong red: the red is weakened, the brightness stays."""
    result = torch.full((1, 3, 4, 4), 0.95)
    content = torch.tensor([0.9, 0.1, 0.1]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    mixed = keep_luminance_only(result, content)
    torch.testing.assert_close(projected(mixed, LUMA), projected(result, LUMA), atol=1e-5, rtol=0)
    assert float(mixed[0, 0, 0, 0]) > float(mixed[0, 1, 0, 0])


def test_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="two pictures of one shape"):
        keep_luminance_only(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 5))
