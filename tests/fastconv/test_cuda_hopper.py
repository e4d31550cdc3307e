"""The Hopper kernel, run on the CPU, and what it works out of addresses, by itself."""

from __future__ import annotations

from dataclasses import replace

import cuda_table
import pytest
import torch
from cuda_on_cpu import ORDERS
from cuda_table import OPERATIONS, Card, Epilogue, accepts, convolve, problem_of
from hypothesis import assume, given
from hypothesis import strategies as st
from test_cuda_tensor_cores import KINDS, Kind, check, drawn, few, misaligned, operands, pictured

from fastconv.tools.checking import Case

H200 = Card(capability=90, processors=132, row="hopper_gemm")
FEW_PROCESSORS = replace(H200, processors=1)  # wide tiles
DIRECTIONS = OPERATIONS[:2]
NAMES = ("bf16", "f16", "tf32")
by_kind = pytest.mark.parametrize("kind", [KINDS[name] for name in NAMES], ids=NAMES)

# A step is 64 channels of halves or 32 of floats; a tile 128 pixels and 64 or 128 channels.
CASES = (
    Case("one pixel, one vector of channels", (1, 8, 1, 1), (8, 8, 1, 1)),
    Case("less than a tile of anything", (1, 16, 5, 6), (16, 16, 3, 3), padding=1),
    Case("exactly one tile and one step", (1, 64, 8, 16), (64, 64, 1, 1)),
    Case("one past a step and a narrow tile", (1, 72, 9, 17), (72, 72, 1, 1)),
    Case("more steps than stages", (1, 32, 8, 8), (16, 32, 3, 3), padding=1),
    Case("several tiles each way, two pictures", (2, 40, 17, 33), (136, 40, 3, 3), padding=1),
    Case("odd channels out", (1, 16, 4, 5), (17, 16, 3, 3), padding=1),
    Case("no padding", (1, 16, 7, 9), (24, 16, 3, 3)),
    Case("padding wider than the kernel", (1, 16, 3, 4), (16, 16, 2, 2), padding=4),
    Case(
        "even kernel, dilated, sides that differ", (1, 16, 9, 11), (16, 16, 2, 4), 1, (3, 1), (2, 3)
    ),
    Case("'same' with an even kernel", (1, 16, 6, 7), (16, 16, 4, 2), 1, "same"),
    Case("one row", (1, 24, 1, 140), (8, 24, 1, 3), padding=(0, 1)),
    Case("one column", (1, 24, 140, 1), (8, 24, 3, 1), padding=(1, 0)),
)


def taken(operation: str, case: Case, kind: Kind, card: Card = H200) -> bool:
    problem = problem_of(
        operation, case.geometry, kind.dtype, True, replace(card, precision=kind.precision)
    )
    return accepts(problem, "hopper_gemm")


@by_kind
@pytest.mark.parametrize("case", CASES, ids=pictured)
def test_agrees_with_float64(case: Case, kind: Kind) -> None:
    assert taken("forward", case, kind)
    for operation in DIRECTIONS:
        if taken(operation, case, kind):
            check(operation, case, kind, H200)


@by_kind
@pytest.mark.parametrize("case", [CASES[3], CASES[5]], ids=pictured)
def test_in_tiles_of_128_channels(case: Case, kind: Kind) -> None:
    for operation in DIRECTIONS:
        check(operation, case, kind, FEW_PROCESSORS)


@by_kind
@pytest.mark.parametrize("order", [0, 2])
def test_in_tiles_of_256_channels(order: int, kind: Kind) -> None:
    channels = 192 if kind.dtype.itemsize == 2 else 96  # 27 steps, 24 make it worth while
    case = Case("", (1, channels, 9, 10), (264, channels, 3, 3), padding=1)
    check("forward", case, kind, replace(FEW_PROCESSORS, order=order))


@by_kind
@pytest.mark.parametrize("order", ORDERS)
def test_whichever_thread_or_copy_comes_first(order: int, kind: Kind) -> None:
    card = replace(FEW_PROCESSORS, order=order, at_end=order % 2 == 0)
    for operation in DIRECTIONS:
        check(operation, Case("", (1, 72, 9, 17), (72, 72, 3, 3), padding=1), kind, card)


@by_kind
def test_pictures_that_the_copy_engine_cannot_address(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_table, "Memory", misaligned)
    for operation in DIRECTIONS:
        check(operation, CASES[1], kind, H200)


@by_kind
@pytest.mark.parametrize("channels_out", [16, 17])
def test_it_ends_with_the_epilogue(channels_out: int, kind: Kind) -> None:
    case = Case("", (2, 16, 5, 6), (channels_out, 16, 3, 3), padding=1)
    a, b = operands("forward", replace(case, dtype=kind.dtype))
    card = replace(H200, precision=kind.precision)
    alone = convolve("forward", a, b, case.geometry, True, card)
    bias, added, mask = (torch.randn_like(alone) for _ in range(3))
    bias = bias[0, :, 0, 0].contiguous()
    got = convolve("forward", a, b, case.geometry, True, card, Epilogue(bias, added, mask, True))
    expected = (alone.double() + bias.double().view(-1, 1, 1) + added.double()).clamp(min=0)
    atol = 40 * torch.finfo(a.dtype).eps
    torch.testing.assert_close(got.double(), expected * (mask > 0), rtol=0, atol=atol)


@few
@given(case=drawn(), kind=st.sampled_from(NAMES), order=st.sampled_from(ORDERS))
def test_of_any_arguments(case: Case, kind: str, order: int) -> None:
    channels_in = max(case.input[1] // 8, 1) * 8
    shapes = (
        (case.input[0], channels_in, *case.input[2:]),
        (case.weight[0], channels_in, *case.weight[2:]),
    )
    assume(case.geometry.kh * case.geometry.dilation[0] < 9)
    case = replace(case, input=shapes[0], weight=shapes[1], stride=1, groups=1)
    for operation in DIRECTIONS:
        if taken(operation, case, KINDS[kind]):
            check(operation, case, KINDS[kind], replace(H200, order=order, processors=order + 1))


def test_other_cards_and_arguments_go_elsewhere() -> None:
    plain = Case("", (1, 16, 5, 6), (16, 16, 3, 3), padding=1)
    bf16, fp32 = KINDS["bf16"], KINDS["3xtf32"]
    assert taken("forward", plain, bf16)
    assert not taken("forward", plain, fp32)
    assert not taken("grad_weight", plain, bf16)
    for capability in (80, 89, 100, 120):
        assert not taken("forward", plain, bf16, replace(H200, capability=capability))
    for change in ({"stride": 2}, {"groups": 2, "weight": (16, 8, 3, 3)}):
        assert not taken("forward", replace(plain, **change), bf16)
    assert not taken("forward", replace(plain, input=(1, 12, 5, 6), weight=(16, 12, 3, 3)), bf16)
