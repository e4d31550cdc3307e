"""The drawn pictures: any size, the same for the same seed, and good for what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nst.errors import PictureError
from nst.samples import SAMPLES

STYLES = ("swirls", "mosaic")


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32) / 255


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize(
    ("size", "sides"), [(96, (96, 72)), ((40, 90), (40, 90)), ((101, 33), (101, 33)), (11, (11, 8))]
)
def test_a_sample_has_the_size_asked_for(
    name: str, size: int | tuple[int, int], sides: tuple[int, int]
) -> None:
    image = SAMPLES[name](size)
    assert image.size == sides
    assert image.mode == "RGB"


@pytest.mark.parametrize("name", SAMPLES)
def test_a_seed_gives_one_picture_and_another_seed_another(name: str) -> None:
    draw = SAMPLES[name]
    assert draw(96, 3).tobytes() == draw(96, 3).tobytes()
    assert draw(96, 3).tobytes() != draw(96, 4).tobytes()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_larger_size_shows_the_same_picture(name: str) -> None:
    small = pixels(SAMPLES[name](64, 1).resize((16, 12), Image.Resampling.BOX))
    large = pixels(SAMPLES[name](256, 1).resize((16, 12), Image.Resampling.BOX))
    assert np.abs(small - large).mean() < 0.05


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_spans_dark_to_light_and_many_colours(name: str) -> None:
    rgb = pixels(SAMPLES[name](192))
    assert np.percentile(rgb.mean(2), 2) < 0.25
    assert np.percentile(rgb.mean(2), 98) > 0.7
    chroma = rgb.max(2) - rgb.min(2)
    assert (chroma > 0.3).mean() > 0.2
    warm, cold = (rgb[..., 0] > rgb[..., 2] + 0.2).mean(), (rgb[..., 2] > rgb[..., 0] + 0.1).mean()
    assert warm > 0.08
    assert cold > 0.08


@pytest.mark.parametrize("name", STYLES)
def test_a_style_is_textured_everywhere(name: str) -> None:
    """No tile of the picture is flat: its statistics should say strokes or tiles, not plains."""
    grey = pixels(SAMPLES[name](256).convert("L"))
    tiles = grey[:192, :256].reshape(12, 16, 16, 16).transpose(0, 2, 1, 3).reshape(-1, 256)
    assert (tiles.std(axis=1) > 0.03).mean() > 0.97


def test_the_scene_is_mirrored_in_its_lake() -> None:
    """Rows above the shore resemble the rows below it, upside down."""
    grey = pixels(SAMPLES["scene"](256).convert("L"))
    shore = round(0.60 * 192)
    above, below = grey[shore - 30 : shore - 4, :150][::-1], grey[shore + 4 : shore + 30, :150]
    mirrored = np.corrcoef(above.ravel(), below.ravel())[0, 1]
    unturned = np.corrcoef(above[::-1].ravel(), below.ravel())[0, 1]
    assert mirrored > 0.5
    assert mirrored > unturned + 0.1


@pytest.mark.parametrize("size", [7, 9, (7, 100), (0, 0)])
def test_a_size_too_small_to_draw_is_refused(size: int | tuple[int, int]) -> None:
    for draw in SAMPLES.values():
        with pytest.raises(PictureError, match="sides of 8 pixels or more"):
            draw(size)
