"""Where the Hopper kernel's operands lie: the functions of csrc/cuda/hopper_plan.h alone."""

from __future__ import annotations

import ctypes
from collections import Counter

import pytest
from cuda_on_cpu import library

PICTURES = ((1, 1), (1, 200), (200, 1), (7, 7), (8, 16), (16, 8), (9, 17), (56, 56), (512, 340))
F32, BF16 = 0, 3


def ints(*values: int) -> ctypes.Array:
    return (ctypes.c_int * len(values))(*values)


def longs(*values: int) -> ctypes.Array:
    return (ctypes.c_int64 * len(values))(*values)


def pixel_tile(h: int, w: int) -> tuple[int, int]:
    to = ints(0, 0)
    library().fastconv_plan_pixel_tile(ctypes.c_int64(h), ctypes.c_int64(w), to)
    return to[0], to[1]


@pytest.mark.parametrize(("h", "w"), PICTURES)
def test_a_tile_is_the_rectangle_that_covers_the_picture_with_fewest(h: int, w: int) -> None:
    tile_h, tile_w = pixel_tile(h, w)
    assert tile_h * tile_w == 128
    count = -(-h // tile_h) * -(-w // tile_w)
    assert count == min(-(-h // (128 // width)) * -(-w // width) for width in (8, 16, 32, 64, 128))


@pytest.mark.parametrize(("h", "w"), PICTURES)
def test_blocks_cover_each_pixel_and_channel_once(h: int, w: int) -> None:
    tile_h, tile_w = pixel_tile(h, w)
    across, down, images, columns = -(-w // tile_w), -(-h // tile_h), 2, 3
    tiles, to = ints(tile_h, tile_w, across, down, images, columns), ints(0, 0, 0, 0)
    seen: Counter[tuple[int, ...]] = Counter()
    for block in range(across * down * images * columns):
        library().fastconv_plan_tile_of_block(tiles, block, to)
        seen[tuple(to)] += 1
    assert set(seen.values()) == {1}
    assert {(y, x) for _, y, x, _ in seen} == {
        (y, x) for y in range(0, h, tile_h) for x in range(0, w, tile_w)
    }
    assert {(n, column) for n, _, _, column in seen} == {(n, c) for n in (0, 1) for c in range(3)}


@pytest.mark.parametrize("sign", [1, -1], ids=["forward", "grad_input"])
def test_steps_walk_through_taps_and_their_channels(sign: int) -> None:
    kh, kw, per_tap, channels, dil, pad = 3, 2, 2, 64, (2, 3), (1, 4)
    steps = ints(
        kh * kw, kw, per_tap, channels, *(sign * d for d in dil), *(-sign * p for p in pad)
    )
    to, walked = ints(0, 0, 0, 0), []
    for step in range(kh * kw * per_tap):
        library().fastconv_plan_step(steps, step, to)
        walked.append(tuple(to))
    assert walked == [
        (u * kw + v, c, sign * (u * dil[0] - pad[0]), sign * (v * dil[1] - pad[1]))
        for u in range(kh)
        for v in range(kw)
        for c in (0, 64)
    ]


def test_the_picture_is_described_as_channels_columns_rows_pictures() -> None:
    to = longs(*[0] * 12)
    library().fastconv_plan_source(BF16, longs(8, 56, 48, 256), 8, 16, to)
    pixel = 256 * 2
    assert list(to) == [4, 256, 48, 56, 8, pixel, pixel * 48, pixel * 48 * 56, 64, 16, 8, 1]
    library().fastconv_plan_source(F32, longs(8, 56, 48, 256), 8, 16, to)
    assert list(to)[5:] == [pixel * 2, pixel * 2 * 48, pixel * 2 * 48 * 56, 32, 16, 8, 1]


def test_weights_are_described_as_channels_taps_columns() -> None:
    to, sizes = longs(*[0] * 12), (ctypes.c_int64(n) for n in (512, 9, 72, 672))
    library().fastconv_plan_weight(BF16, *sizes, 128, to)  # 648 k, packed to 672
    assert list(to) == [3, 72, 9, 512, 1, 72 * 2, 672 * 2, 0, 64, 1, 128, 1]


@pytest.mark.parametrize("address", [0, 1024, 8192, 16384, 0x38000])
def test_a_descriptor_says_address_distances_and_swizzle(address: int) -> None:
    descriptor = library().fastconv_plan_descriptor
    descriptor.restype = ctypes.c_uint64
    bits = descriptor(ctypes.c_uint(address))
    assert (bits & 0x3FFF) << 4 == address
    assert (bits >> 32 & 0x3FFF) << 4 == 8 * 128  # from eight rows to the next eight
    assert bits >> 49 & 7 == 0  # the rows begin at multiples of 1024 bytes
    assert bits >> 62 == 1  # 128-byte swizzle
    for step in range(1, 4):  # the next 32 bytes of k
        assert descriptor(ctypes.c_uint(address + 32 * step)) == bits + 2 * step
