"""The emulator that the CUDA kernels' tests rely on: what it must find, it finds."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from cuda_on_cpu import ORDERS, KernelError, Memory, run
from numpy.typing import NDArray

MISTAKES = ("none", "no_barrier", "no_wait", "barrier_of_some", "outside", "not_written", "half")


def example(mistake: str, order: int, threads: int = 64) -> tuple[NDArray, NDArray]:
    x = np.arange(4 * threads, dtype=np.float32)
    given, y = Memory(x), Memory(np.empty(threads + threads // 32, np.float32), filled=False)
    pointers = (ctypes.c_void_p(given.pointer), ctypes.c_void_p(y.pointer))
    run("fastconv_example_launch", *pointers, threads, MISTAKES.index(mistake), order=order)
    sums = np.roll(x.reshape(threads, 4).sum(1), -(threads // 2 + 1))
    return y.array.copy(), np.concatenate([sums, sums.reshape(-1, 32).sum(1)])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("threads", [32, 64, 256])
def test_a_right_kernel_is_right_in_any_order(order: int, threads: int) -> None:
    np.testing.assert_array_equal(*example("none", order, threads))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mistake", ["no_barrier", "no_wait", "not_written"])
def test_data_that_is_not_there_yet_is_nan(mistake: str, order: int) -> None:
    y, _ = example(mistake, order)
    assert np.isnan(y).any()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("mistake", "says"),
    [("barrier_of_some", "barrier"), ("outside", "outside of every buffer"), ("half", "shuffle")],
)
def test_a_wrong_kernel_is_named(mistake: str, says: str, order: int) -> None:
    with pytest.raises(KernelError, match=says):
        example(mistake, order)
    np.testing.assert_array_equal(*example("none", order))  # and the next launch is clean


HOPPER = ("none", "no_wait_for_bytes", "no_wait_for_room", "no_init", "copy_at_the_end", "bytes")


def hopper_example(mistake: str, order: int, steps: int = 5) -> tuple[NDArray, NDArray]:
    x = np.arange(steps * 256, dtype=np.float32).reshape(steps, 8, 32) % 1000
    given, y = Memory(x), Memory(x[0], filled=False)
    pointers = (ctypes.c_void_p(given.pointer), ctypes.c_void_p(y.pointer))
    run("fastconv_hopper_example_launch", *pointers, steps, HOPPER.index(mistake), order=order)
    return y.array.copy(), x.sum(0)


@pytest.mark.parametrize("order", ORDERS)
def test_boxes_and_their_barriers_are_right_in_any_order(order: int) -> None:
    np.testing.assert_array_equal(*hopper_example("none", order))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ("no_wait_for_room", "all have arrived|waits in barrier_wait for others"),
        ("no_init", "never initialised"),
        ("bytes", "waits in barrier_wait for others"),
    ],
)
def test_a_wrong_use_of_boxes_is_named(mistake: str, says: str, order: int) -> None:
    with pytest.raises(KernelError, match=says):
        hopper_example(mistake, order)


@pytest.mark.parametrize("order", [0, 2, 3])  # in order 1 each box comes at once
@pytest.mark.parametrize(("mistake", "steps"), [("no_wait_for_bytes", 2), ("copy_at_the_end", 5)])
def test_a_box_under_way_at_the_end_is_named(mistake: str, steps: int, order: int) -> None:
    with pytest.raises(KernelError, match="under way when the block ended"):
        hopper_example(mistake, order, steps)
