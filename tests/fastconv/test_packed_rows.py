"""A matrix that is kept as 16-bit integers, against the same one in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastconv.packed import BLOCK, PackedRows, unpacked
from fastconv.registry import has

pytestmark = pytest.mark.skipif(not has("native"), reason="the native backend is not here")

# Less than a vector, lines, blocks and the parts that threads take, and beyond them.
AWKWARD = [
    1,
    7,
    15,
    31,
    32,
    33,
    2047,
    2048,
    2049,
    4113,
    8 * BLOCK - 1,
    8 * BLOCK,
    8 * BLOCK + 1,
    50001,
]
SCALES = [1e-38, 1e-35, 1e-33, 1e-30, 1e-20, 1e-3, 1.0, 1e20, 3e38]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def packed(numbers: Tensor) -> PackedRows:
    matrix = PackedRows(*numbers.shape)
    for row, vector in enumerate(numbers):
        matrix.put(row, vector)
    return matrix


def numbers_of(matrix: PackedRows) -> Tensor:
    return torch.stack([matrix.row(row) for row in range(matrix.rows)])


@settings(deadline=None)
@given(
    st.integers(1, 5000),
    st.sampled_from(SCALES),
    st.integers(0, 99),
    st.sampled_from([0.0, 0.999, 1.0]),
)
@example(415, 1.0, 8, 0.0)  # the largest number is between 32767 and 32768 steps
def test_packing_loses_little_and_loses_it_once(
    columns: int, scale: float, seed: int, zeros: float
) -> None:
    given = random(2, columns, seed=seed) * scale
    given *= random(2, columns, seed=seed + 1) / 2 + 0.5 >= zeros
    matrix = packed(given)
    once = numbers_of(matrix)
    for block, found in zip(given.split(BLOCK, 1), once.split(BLOCK, 1), strict=True):
        most = block.abs().amax(1, keepdim=True)
        assert bool(((found - block).abs() <= most / 32767 + 2**-126).all())  # below, they are zero
    again = packed(once)
    assert torch.equal(again.integers, matrix.integers)
    assert torch.equal(again.scales, matrix.scales)


@pytest.mark.parametrize("columns", AWKWARD)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_products_are_those_of_the_numbers_kept(columns: int, count: int) -> None:
    matrix, vectors = packed(random(5, columns)), random(count, columns, seed=1)
    expected = numbers_of(matrix).double() @ vectors.double().T
    most = numbers_of(matrix).double().abs() @ vectors.double().abs().T
    found = matrix.products(vectors)
    assert found.dtype == torch.float64
    assert bool(((found - expected).abs() <= 2e-6 * most).all())


@pytest.mark.parametrize("columns", AWKWARD)
def test_rows_are_combined_with_their_factors(columns: int) -> None:
    matrix = packed(random(6, columns))
    factors = random(6, seed=2).double()
    out = torch.full((columns,), math.nan)
    assert matrix.combine(factors, out) is out
    expected = factors @ numbers_of(matrix).double()
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=2e-6)
    assert torch.equal(matrix.combine(factors), out)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 7000), st.integers(0, 99), st.sampled_from(SCALES[3:-1]))
def test_a_row_taken_out_is_a_combination_of_itself(
    rows: int, columns: int, seed: int, scale: float
) -> None:
    matrix = packed(random(rows, columns, seed=seed) * scale)
    for row in range(rows):
        factors = torch.zeros(rows, dtype=torch.float64)
        factors[row] = 1
        assert torch.equal(matrix.combine(factors), matrix.row(row))


def test_it_is_zero_at_first_and_rows_keep_to_themselves() -> None:
    matrix = PackedRows(3, 2100)
    matrix.put(1, random(2100))
    matrix.put(torch.tensor([1]), torch.ones(2100))  # a row named by a tensor, put once more
    assert torch.equal(matrix.row(1), torch.ones(2100))
    assert not matrix.row(0).any()
    assert not matrix.row(2).any()


def test_integers_may_have_the_shape_of_what_they_stand_for() -> None:
    matrix = packed(random(1, 3 * 50 * 40))
    integers, scales = matrix.packed(0)
    picture = unpacked((integers.view(1, 3, 50, 40), scales))
    assert torch.equal(picture, matrix.row(0).view(1, 3, 50, 40))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_block_with_what_is_no_number_is_none_as_a_whole(wrong: float) -> None:
    given = random(2, 2100)
    given[0, 7] = wrong
    matrix = packed(given)
    assert bool(matrix.row(0)[:BLOCK].isnan().all())
    assert bool(matrix.row(0)[BLOCK:].isfinite().all())
    products = matrix.products(torch.ones(1, 2100))
    assert products.isnan().tolist() == [[True], [False]]
    without = matrix.combine(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.equal(without, matrix.row(1)), "a row with factor 0 is not read"
    assert bool(matrix.combine(torch.ones(2, dtype=torch.float64)).isnan().any())


def test_they_are_the_same_bits_on_any_number_of_threads() -> None:
    given, vectors, factors = random(5, 90001), random(3, 90001, seed=1), random(5).double()
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            matrix = packed(given)
            found.append((matrix.integers, matrix.products(vectors), matrix.combine(factors)))
        finally:
            torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(others, found[0], strict=True))


def test_the_operators_refuse_what_they_would_read_wrongly() -> None:
    ops, vector, vectors = torch.ops.fastconv, torch.zeros(40), torch.zeros(2, 40)
    integers, scales = torch.zeros(3, 64, dtype=torch.int16), torch.ones(3, 1)
    found, factors = torch.zeros(3, 2, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    calls = {
        "put": [vector, torch.tensor([2]), integers, scales],
        "products": [integers, scales, vectors, found],
        "combine": [integers, scales, factors, vector],
    }
    for name, call in calls.items():
        getattr(ops, f"packed_rows_{name}")(*call)
    for name, place, wrong in (
        ("put", 0, torch.zeros(65)),
        ("put", 0, torch.zeros(0)),
        ("put", 0, torch.zeros(80)[::2]),
        ("put", 0, vector.double()),
        ("put", 1, torch.tensor([3])),
        ("put", 1, torch.tensor([-1])),
        ("put", 1, torch.tensor([0, 1])),
        ("put", 1, torch.ones(1)),
        ("put", 2, torch.zeros(3, 63, dtype=torch.int16)),
        ("put", 2, torch.zeros(64, dtype=torch.int16)),
        ("put", 2, torch.zeros(3, 64)),
        ("put", 3, torch.ones(3, 2)),
        ("products", 0, integers[:2]),
        ("products", 1, torch.ones(2, 1)),
        ("products", 2, vector),
        ("products", 2, torch.zeros(2, 65)),
        ("products", 2, torch.zeros(40, 2).T),
        ("products", 3, torch.zeros(3, 2)),
        ("products", 3, torch.zeros(2, 2, dtype=torch.float64)),
        ("combine", 0, torch.zeros(3, 32, dtype=torch.int16)),
        ("combine", 2, torch.ones(2, dtype=torch.float64)),
        ("combine", 2, torch.ones(3)),
        ("combine", 3, torch.zeros(65)),
    ):
        arguments = [*calls[name][:place], wrong, *calls[name][place + 1 :]]
        with pytest.raises(ValueError, match=r"packed_rows: .*expects"):
            getattr(ops, f"packed_rows_{name}")(*arguments)
