"""Shapes and arguments that nobody thought of: what must hold whatever they are."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastconv import conv2d
from fastconv.geometry import ConvGeometry, geometry_of
from fastconv.tools.checking import KINDS, LAYOUTS, Case, compare

few = settings(
    max_examples=40,
    deadline=None,  # the first call of a backend may compile
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def one_or_pair(least: int, most: int) -> st.SearchStrategy[int | tuple[int, int]]:
    size = st.integers(least, most)
    return st.one_of(size, st.tuples(size, size))


@st.composite
def cases(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> Case:
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    c_in, c_out = groups * draw(st.integers(1, 9)), groups * draw(st.integers(1, 5))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    picture = draw(st.tuples(st.integers(1, 10), st.integers(1, 18)))
    padding = draw(st.one_of(one_or_pair(0, 6), st.sampled_from(("same", "valid"))))
    stride = 1 if padding == "same" else draw(one_or_pair(1, 4))
    dilation = draw(one_or_pair(1, 3))
    batch = draw(st.sampled_from(((), (1,), (2,), (3,), (0,))))
    case = Case(
        "drawn",
        (*batch, c_in, *picture),
        (c_out, c_in // groups, *kernel),
        stride,
        padding,
        dilation,
        groups,
        draw(st.booleans()),
        draw(st.sampled_from(LAYOUTS)),
        draw(st.sampled_from(dtypes)),
    )
    try:
        size = case.geometry.out_h * case.geometry.out_w
    except ValueError:  # the kernel is larger than the picture
        size = 0
    assume(0 < size <= 400)
    return case


def run(case: Case, backend: str, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    arguments = (case.stride, case.padding, case.dilation, case.groups)
    return conv2d(x, w, b, *arguments, backend=backend)


@few
@given(case=cases(dtypes=(torch.float32, torch.float64)))
def test_agrees_with_torch(case: Case, backend: str) -> None:
    found = compare(partial(conv2d, backend=backend), case)
    assert [finding.kind for finding in found] == list(KINDS[: 4 if case.bias else 3])
    for finding in found:
        assert finding.passed, finding


@few
@given(case=cases(dtypes=(torch.float64,)), factor=st.floats(-4, 4), seed=st.integers(0, 99))
def test_linear_in_input_and_weight(case: Case, factor: float, seed: int, backend: str) -> None:
    x, w = case.tensors(seed=seed).x, case.tensors(seed=seed).w
    other = case.tensors(seed=seed + 1)
    y = run(case, backend, x, w)
    for_input = run(case, backend, factor * x + other.x, w)
    torch.testing.assert_close(for_input, factor * y + run(case, backend, other.x, w))
    for_weight = run(case, backend, x, factor * w + other.w)
    torch.testing.assert_close(for_weight, factor * y + run(case, backend, x, other.w))


@few
@given(case=cases())
def test_each_picture_of_a_batch_is_alone(case: Case, backend: str) -> None:
    assume(len(case.input) == 4)
    operands = case.tensors()
    together = run(case, backend, operands.x, operands.w, operands.b)
    assert together.shape == case.geometry.output_shape
    for x, y in zip(operands.x, together, strict=True):
        alone = run(case, backend, x, operands.w, operands.b)
        torch.testing.assert_close(alone, y, rtol=1e-5, atol=1e-4)


@few
@given(case=cases(dtypes=(torch.float64,)))
def test_a_group_is_a_convolution_of_its_own(case: Case, backend: str) -> None:
    operands = case.tensors()
    together = run(case, backend, operands.x, operands.w)
    xs, ws = operands.x.chunk(case.groups, dim=-3), operands.w.chunk(case.groups)
    arguments = (None, case.stride, case.padding, case.dilation)
    parts = [conv2d(x, w, *arguments, backend=backend) for x, w in zip(xs, ws, strict=True)]
    torch.testing.assert_close(torch.cat(parts, dim=-3), together)


@few
@given(case=cases())
def test_geometry_survives_its_flat_form(case: Case) -> None:
    assert ConvGeometry.from_flat(case.geometry.flat) == case.geometry


@few
@given(case=cases())
def test_output_size_is_the_number_of_places_for_the_kernel(case: Case) -> None:
    g = case.geometry
    _, _, height, width = g.padded_shape
    rows = range(0, height - (g.kh - 1) * g.dilation[0], g.stride[0])
    columns = range(0, width - (g.kw - 1) * g.dilation[1], g.stride[1])
    assert (g.out_h, g.out_w) == (len(rows), len(columns))
    if case.padding == "same":
        assert (g.out_h, g.out_w) == (g.h, g.w)
    assert g == geometry_of(g.input_shape, g.weight_shape, *_as_given(case))


def _as_given(case: Case) -> tuple[object, ...]:
    return case.stride, case.padding, case.dilation, case.groups
