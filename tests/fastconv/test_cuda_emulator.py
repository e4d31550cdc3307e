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
