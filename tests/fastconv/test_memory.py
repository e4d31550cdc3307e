"""Memory that comes back when the last tensor on it is gone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastconv.memory import Recycler, empty


def test_memory_comes_back_when_its_tensor_dies() -> None:
    recycler = Recycler(torch.float32, (3, 5))
    first, second = recycler.take(), recycler.take()
    place = first.data_ptr()
    assert second.data_ptr() != place
    del first
    assert recycler.take().data_ptr() == place


def test_a_view_keeps_the_memory_of_its_tensor() -> None:
    recycler = Recycler(torch.float32, (2, 7))
    row = recycler.take()[1]
    row.fill_(7)
    for _ in range(4):
        recycler.take().zero_()
    assert row.tolist() == [7.0] * 7


@given(st.lists(st.integers(0, 5), max_size=40))
def test_tensors_alive_together_never_share_memory(dropped: list[int]) -> None:
    """One more is taken each time, and one of those alive dropped."""
    recycler = Recycler(torch.float32, (4, 4))
    alive: list[tuple[Tensor, int]] = []
    for value, drop in enumerate(dropped):
        alive.append((recycler.take().fill_(value), value))
        assert all(bool((tensor == written).all()) for tensor, written in alive)
        if drop < len(alive):
            del alive[drop]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int16])
@pytest.mark.parametrize("size", [1, 17, 1000, 300_001])
def test_it_begins_with_a_cache_line(dtype: torch.dtype, size: int) -> None:
    assert empty(dtype, size).data_ptr() % 64 == 0
    assert Recycler(dtype, (size, 1)).take().data_ptr() % 64 == 0


def test_only_what_lies_on_a_cpu_and_numpy_knows_is_kept() -> None:
    assert Recycler.like(torch.zeros(2, dtype=torch.bfloat16)) is None
    assert Recycler.like(torch.zeros(2, device="meta")) is None
    known = Recycler.like(torch.zeros(2, 3))
    assert known is not None
    assert known.take().shape == (2, 3)
