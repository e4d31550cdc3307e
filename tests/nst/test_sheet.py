"""Comparison sheets and differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import gradient
from PIL import Image

from nst.errors import PictureError
from nst.outputs import (
    amplified,
    compare_sheet,
    differences,
)
from nst.pictures.sizing import load_picture


def test_a_sheet_shows_every_picture_and_label(tmp_path: Path) -> None:
    red = torch.tensor([1.0, 0, 0]).reshape(1, 3, 1, 1).expand(1, 3, 40, 60)
    blue = torch.tensor([0, 0, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 80, 40)
    path = compare_sheet([(red, "content"), (blue, "result")], tmp_path / "sheet.png")
    rgb = load_picture(path).rgb[0]
    is_red = (rgb[0] > 0.9) & (rgb[1] < 0.1)
    is_blue = (rgb[2] > 0.9) & (rgb[1] < 0.1)
    assert int(is_red.sum()) == 120 * 80  # both as high as the result
    assert int(is_blue.sum()) == 40 * 80
    below = rgb[:, int(is_red.any(1).nonzero().max()) + 1 :]
    assert int((below.mean(0) < 0.4).sum()) > 40  # the letters


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(4, 4, 1), (5, 3, 2), (6, 3, 2), (7, 4, 2), (9, 3, 3)]
)
def test_many_pictures_go_into_rows_as_equal_as_can_be(
    tmp_path: Path, count: int, columns: int, rows: int
) -> None:
    def sides(n: int, per_row: int | None = None) -> tuple[int, int]:
        sheet = [(gradient(), f"{i}") for i in range(n)]
        return load_picture(compare_sheet(sheet, tmp_path / "s.png", per_row=per_row)).hw

    assert sides(count) == sides(columns * rows, columns)
    assert sides(columns, columns)[1] == sides(count)[1]
    assert sides(rows, 1)[0] == sides(count)[0]


def test_a_difference_is_told_in_steps_of_8_bits_and_shown_amplified() -> None:
    one = torch.zeros(1, 3, 10, 10)
    other = one.clone()
    other[0, 1, 2, 3] = 4 / 255
    (found,) = differences(one, [other])
    assert found.words == "4/255 at most, 0.013/255 on average"
    (shown,), factor = amplified([found])
    assert factor == pytest.approx(255 / 4)
    assert float(shown[0, 1, 2, 3]) == pytest.approx(1)
    assert float(shown.sum()) == pytest.approx(1)


def test_equal_pictures_differ_by_nothing() -> None:
    found = differences(gradient(), [gradient()])
    assert found[0].words == "0/255 at most, 0/255 on average"
    assert amplified(found)[1] == 1


def test_pictures_of_two_sizes_have_no_difference() -> None:
    with pytest.raises(PictureError, match=r"expected the size of the first picture, 40x30"):
        differences(torch.zeros(1, 3, 30, 40), [torch.zeros(1, 3, 31, 40)])


def test_a_long_label_is_shortened_to_fit(tmp_path: Path) -> None:
    path = compare_sheet(
        [(gradient(40, 40), "a very long name of a picture.jpg" * 3)], tmp_path / "s.png"
    )
    with Image.open(path) as image:
        border = np.asarray(image)[:, -3:]
    assert (border == border[0, 0]).all()


def test_an_empty_sheet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="one picture or more"):
        compare_sheet([], tmp_path / "s.png")
