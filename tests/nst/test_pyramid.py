"""The scales of a run and the iterations spent at them."""

from __future__ import annotations

import pytest

from nst.errors import ConfigError
from nst.run.pyramid import levels


def test_sizes_grow_by_the_root_of_two_up_to_the_end() -> None:
    sizes = [level.hw for level in levels((384, 512), 0, (100,), 16)]
    assert sizes == [(96, 128), (136, 181), (192, 256), (272, 362), (384, 512)]


def test_one_scale_is_the_full_size_alone() -> None:
    assert [level.hw for level in levels((384, 512), 1, (7,), 16)] == [(384, 512)]


def test_later_scales_get_fewer_iterations() -> None:
    assert [level.iterations for level in levels((512, 512), 3, (100,), 16)] == [100, 71, 50]


def test_iterations_may_be_told_scale_by_scale() -> None:
    assert [level.iterations for level in levels((64, 64), 3, (5, 4, 3), 16)] == [5, 4, 3]


def test_as_many_numbers_are_expected_as_there_are_scales() -> None:
    with pytest.raises(ConfigError, match="expects one number or 3"):
        levels((64, 64), 3, (5, 4), 16)


def test_scales_that_the_network_cannot_take_are_left_out() -> None:
    assert [level.hw for level in levels((32, 300), 0, (9,), 16)] == [
        (16, 150),
        (23, 212),
        (32, 300),
    ]


@pytest.mark.parametrize("scales", [1, 4])
def test_a_picture_too_small_for_the_network_is_refused(scales: int) -> None:
    with pytest.raises(ConfigError, match="sides of 16 pixels or more"):
        levels((15, 300), scales, (9,), 16)


def test_there_is_always_an_iteration() -> None:
    assert [level.iterations for level in levels((512, 512), 5, (1,), 16)] == [1] * 5
