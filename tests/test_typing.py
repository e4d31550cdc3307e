"""The packages are typed for whoever imports them: mypy --strict on a user's file."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGES = ("fastconv", "nst")
ROOT = Path(__file__).parent.parent

USER = """
from pathlib import Path

import torch

import fastconv
import nst
from nst.losses.style import Statistics, StyleLoss, mean_and_covariance


class Means(StyleLoss):
    def statistics(self, moments: fastconv.Moments) -> Statistics:
        return (mean_and_covariance(moments)[0],)

    def distance(self, found: Statistics, target: Statistics) -> torch.Tensor:
        return (found[0] - target[0]).square().sum()


def paint(path: Path) -> float:
    result = nst.stylize(path, "painting.jpg", style_loss=Means(), size=256)
    stylizer = nst.Stylizer("painting.jpg")
    for step in stylizer.iterate(path):
        reveal_type(step)
    picture: nst.Picture = nst.load_picture(path)
    y: torch.Tensor = fastconv.conv2d(picture.rgb, torch.randn(4, 3, 3, 3), padding=1)
    with fastconv.use_backend("torch"):
        frozen = fastconv.freeze(torch.nn.Sequential(torch.nn.ReLU()), taps=[0])
    reveal_type(frozen)
    reveal_type(result)
    return result.seconds + float(y.sum())
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


@pytest.mark.slow
def test_a_user_s_file_passes_mypy_strict(tmp_path: Path) -> None:
    if find_spec("mypy") is None:
        pytest.skip("mypy is not installed; it is part of the extra 'dev'")
    (tmp_path / "user.py").write_text(USER)
    # from the folder of the user, with the sources where an installed package would be
    for package in PACKAGES:
        (tmp_path / package).symlink_to(ROOT / package)
    cache = ["--cache-dir", str(ROOT / ".mypy_cache" / "user")]  # torch takes half a minute once
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent", *cache]
    done = subprocess.run(
        [*command, "user.py"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stdout
    for name in ("nst.run.step.Step", "fastconv.frozen.stack.Frozen", "nst.run.result.Result"):
        assert f'Revealed type is "{name}"' in done.stdout
