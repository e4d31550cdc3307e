"""A normalisation in front of a frozen stack: folded into its first convolution, or left alone."""

from __future__ import annotations

import pytest
import torch
from frozen_cases import BACKWARD, FORWARD, differences, native_only, network
from torch import Tensor, nn

from fastconv import Normalize, freeze
from fastconv.algorithms import use_algorithm

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalised(module: nn.Sequential, channels: int = 3) -> nn.Sequential:
    return nn.Sequential(Normalize(MEAN[:channels], STD[:channels]), *module)


def is_folded(module: nn.Sequential, taps: list[int], size: tuple[int, int]) -> bool:
    first = freeze(module, taps, "native").describe(*size).splitlines()[0]
    return "Normalize + Conv2d" in first and first.split()[0].startswith("0..")


def test_it_normalises_channel_by_channel() -> None:
    x = torch.rand(2, 3, 4, 5)
    expected = torch.stack([(x[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1)
    torch.testing.assert_close(Normalize(MEAN, STD)(x), expected)
    assert Normalize(MEAN, STD)(x.double()).dtype == torch.float64


@native_only
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 3, 37, 50), (2, 3, 8, 97), (3, 3, 4, 4), (1, 3, 145, 48)])
@pytest.mark.parametrize("padding", [0, 1, (2, 0), (0, 3)])
def test_what_pads_the_picture_counts_as_zero_after_it(
    padding: int | tuple[int, int], shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    module = normalised(nn.Sequential(nn.Conv2d(3, 70, 3, padding=padding), nn.ReLU()))
    x = torch.rand(shape).contiguous(memory_format=layout)
    assert is_folded(module, [1, 2], shape[2:])
    forward, backward = differences(module, [1, 2], x)
    assert forward < FORWARD
    assert backward < BACKWARD


@native_only
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_pictures_of_fewer_channels_and_no_bias(channels: int, bias: bool) -> None:
    conv = nn.Conv2d(channels, 20, 3, padding=1, bias=bias)
    module = normalised(nn.Sequential(conv, nn.ReLU(), nn.Conv2d(20, 9, 3)), channels)
    assert is_folded(module, [3], (20, 21))
    forward, backward = differences(module, [2, 3], torch.rand(2, channels, 20, 21))
    assert forward < FORWARD
    assert backward < BACKWARD


@native_only
@pytest.mark.parametrize("mode", ["replicate", "reflect", "circular"])
def test_other_padding_is_written_out_before_it(mode: str) -> None:
    module = normalised(network())
    module[1].padding_mode = mode
    assert is_folded(module, [12], (31, 28))
    forward, backward = differences(module, [2, 12], torch.rand(2, 3, 31, 28))
    assert forward < FORWARD
    assert backward < BACKWARD


def _read_itself(module: nn.Sequential) -> tuple[nn.Sequential, list[int]]:
    return module, [0, 12]


def _pooled_at_once(module: nn.Sequential) -> tuple[nn.Sequential, list[int]]:
    return nn.Sequential(module[0], nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2)), [2]


def _many_channels(module: nn.Sequential) -> tuple[nn.Sequential, list[int]]:
    widening = nn.Conv2d(3, 5, 1)
    behind = Normalize([0.1, 0.2, 0.3, 0.4, 0.5], [1.0, 2.0, 0.5, 1.0, 1.0])
    return nn.Sequential(widening, behind, nn.Conv2d(5, 8, 3, padding=1)), [2]


def _followed_by_nothing_known(module: nn.Sequential) -> tuple[nn.Sequential, list[int]]:
    return nn.Sequential(module[0], nn.Sigmoid(), *list(module)[1:]), [2, 13]


@native_only
@pytest.mark.parametrize(
    "change", [_read_itself, _pooled_at_once, _many_channels, _followed_by_nothing_known]
)
def test_where_it_cannot_be_folded_it_runs_by_itself(change: object) -> None:
    module, taps = change(normalised(network()))  # type: ignore[operator]
    lines = freeze(module, taps, "native").describe(32, 36).splitlines()
    assert not any("Normalize +" in line for line in lines)
    forward, backward = differences(module, taps, torch.rand(1, 3, 32, 36))
    assert forward < FORWARD
    assert backward < BACKWARD


@native_only
@pytest.mark.parametrize("algo", ["f4", "f6"])
def test_an_algorithm_that_was_named_is_used_all_the_same(algo: str) -> None:
    module = normalised(network())
    with use_algorithm(algo):
        frozen = freeze(module, [12], "native")
        assert f"winograd_{algo}" in frozen.describe(30, 30).splitlines()[1]
        forward, backward = differences(module, [12], torch.rand(1, 3, 30, 30), frozen)
    assert forward < 3 * FORWARD
    assert backward < BACKWARD


@native_only
def test_a_constant_picture_of_the_mean_is_nothing_but_bias() -> None:
    conv = nn.Conv2d(3, 64, 3, padding=1)
    frozen = freeze(nn.Sequential(Normalize(MEAN, STD), conv), [1], "native")
    picture = torch.tensor(MEAN).view(1, 3, 1, 1).expand(1, 3, 9, 60)
    (y,) = frozen(picture)
    expected: Tensor = conv.bias.detach().view(1, 64, 1, 1).expand_as(y)
    torch.testing.assert_close(y, expected, rtol=0, atol=2e-6)
