"""The hash by which a change of weights is noticed: a few flipped bits must always show."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastconv import backends, conv2d

pytestmark = pytest.mark.skipif(
    not backends()["native"].available, reason=backends()["native"].reason
)


def fingerprint(weight: Tensor) -> int:
    return torch.ops.fastconv.fingerprint(weight)


class Bits:
    """Weights whose bits can be flipped."""

    def __init__(self, count: int) -> None:
        generator = np.random.default_rng(count)
        numbers = generator.standard_normal(count).astype(np.float32)
        self.words = numbers.view(np.uint32)
        self.weight = torch.from_numpy(numbers).view(1, 1, 1, count)
        self.before = fingerprint(self.weight)


def flipped(bits: Bits, groups: list[tuple[int, ...]]) -> tuple[int, int]:
    """How many fingerprints stay the same, and how many are there twice."""
    found = []
    for group in groups:
        for bit in group:
            bits.words[bit // 32] ^= np.uint32(1 << bit % 32)
        found.append(fingerprint(bits.weight))
        for bit in group:
            bits.words[bit // 32] ^= np.uint32(1 << bit % 32)
    return found.count(bits.before), len(found) - len(set(found))


@pytest.mark.parametrize("count", [1, 2, 3, 31, 32, 33, 288, 577])
def test_a_single_bit_flipped_anywhere_shows(count: int) -> None:
    assert flipped(Bits(count), [(bit,) for bit in range(32 * count)]) == (0, 0)


@pytest.mark.parametrize("count", [2, 9, 17])
def test_any_two_bits_flipped_show(count: int) -> None:
    assert flipped(Bits(count), list(itertools.combinations(range(32 * count), 2))) == (0, 0)


@pytest.mark.parametrize("bit", [0, 22, 23, 30, 31])
@pytest.mark.parametrize("count", [33, 288])
def test_the_same_bit_of_any_two_numbers_shows(bit: int, count: int) -> None:
    places = range(bit, 32 * count, 32)
    assert flipped(Bits(count), list(itertools.combinations(places, 2))) == (0, 0)


@pytest.mark.parametrize("bit", [0, 22, 23, 30, 31])
def test_the_same_bit_of_any_four_numbers_shows(bit: int) -> None:
    places = range(bit, 32 * 36, 32)
    assert flipped(Bits(36), list(itertools.combinations(places, 4))) == (0, 0)


@pytest.mark.parametrize("count", [33, 288])
def test_four_bits_flipped_at_random_show(count: int) -> None:
    generator = np.random.default_rng(4)
    chosen = [tuple(generator.choice(32 * count, 4, replace=False)) for _ in range(20000)]
    assert flipped(Bits(count), sorted(set(chosen))) == (0, 0)


def test_binary_weights_with_two_flipped_a_step_are_never_taken_for_those_before() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 64, 3, 3, generator=generator).sign()
    numbers, seen = weight.view(-1), {fingerprint(weight)}
    for _ in range(3000):
        numbers[torch.randint(numbers.numel(), (2,), generator=generator)] *= -1
        seen.add(fingerprint(weight))
    assert len(seen) > 2990  # a place chosen twice in a step changes nothing


def test_signs_of_every_second_channel_flipped_give_a_new_convolution() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 64, 16, 16, generator=generator)
    weight = torch.randn(64, 64, 3, 3, generator=generator)
    conv2d(x, weight, padding=1, backend="native")
    weight[:, 1::2, 1, 1].neg_()
    y = conv2d(x, weight, padding=1, backend="native")
    torch.testing.assert_close(y, F.conv2d(x, weight, padding=1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("megabytes", [0.4, 0.6, 1.7])
def test_pieces_of_large_weights_are_told_apart_by_their_places(megabytes: float) -> None:
    """They are hashed piece by piece, on several threads."""
    piece = (1 << 19) // 4
    weight = torch.ones(1, 1, 1, int(megabytes * (1 << 20) / 4))
    found = []
    for place in range(0, weight.numel(), piece // 7):
        weight[..., place] = -1
        found.append(fingerprint(weight))
        weight[..., place] = 1
    assert len(set(found)) == len(found)


def test_the_same_numbers_in_another_shape_or_precision_are_other_weights() -> None:
    weight = torch.randn(8, 4, 3, 3)
    shapes = [(8, 4, 3, 3), (4, 8, 3, 3), (8, 4, 9, 1), (1, 32, 3, 3), (8, 36, 1, 1), (288,)]
    found = {fingerprint(weight.view(shape)) for shape in shapes}
    found.add(fingerprint(torch.zeros(1, 2)))
    found.add(fingerprint(torch.zeros(1, 1, dtype=torch.float64)))
    assert len(found) == len(shapes) + 2


def test_strides_say_nothing() -> None:
    weight = torch.randn(8, 4, 3, 3)
    assert fingerprint(weight.to(memory_format=torch.channels_last)) == fingerprint(weight)
