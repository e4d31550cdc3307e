"""The same tables of cases on a card, where there is one: `native` on CUDA against float64."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import test_cuda_hopper
import torch
from cases import CASES
from test_cuda_tensor_cores import KINDS, LARGE, VECTORS, pictured

from fastconv import conv2d, set_precision
from fastconv.tools.checking import Case, compare

# Too much work for a card's emulation.
REAL = (
    Case("VGG's first", (1, 3, 224, 224), (64, 3, 3, 3), padding=1),
    Case("VGG's third", (2, 64, 56, 56), (128, 64, 3, 3), padding=1),
    Case("VGG's last", (1, 512, 14, 14), (512, 512, 3, 3), padding=1),
    Case("ResNet's first", (1, 3, 112, 112), (64, 3, 7, 7), 2, 3),
    Case("ResNet's strided 1x1", (2, 256, 28, 28), (512, 256, 1, 1), 2),
)
ROWS = (*CASES, *VECTORS, *LARGE, *test_cuda_hopper.CASES, *REAL)
LAYOUTS = ("contiguous", "channels_last")
# Factors rounded to nearest: by 2^-11 of theirs in tf32, by 2^-9 in bf16; a product has two.
ROUNDING = {"fp32": 0.0, "tf32": 2.0**-10, "bf16": 2.0**-8}


@pytest.fixture(scope="module", autouse=True)
def _a_card() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA card here")
    native = pytest.importorskip("fastconv.backends.native")
    if reason := native.against("cuda"):
        pytest.skip(reason)


def check(case: Case, precision: str, device: str = "cuda") -> None:
    with set_precision(precision):
        found = compare(partial(conv2d, backend="native"), case, device)
    for finding in found:
        allowed = finding.tolerance + ROUNDING[precision]
        assert math.isfinite(finding.error), finding
        assert finding.error <= allowed, f"{finding}: {allowed:.2e} allowed in {precision}"


@pytest.mark.parametrize("case", ROWS, ids=pictured)
def test_agrees_with_float64(case: Case) -> None:
    for layout, kind in itertools.product(LAYOUTS, KINDS.values()):
        check(replace(case, layout=layout, dtype=kind.dtype), kind.precision)


@pytest.mark.parametrize("case", ROWS, ids=pictured)
def test_float64_agrees(case: Case) -> None:
    for layout in LAYOUTS:
        check(replace(case, layout=layout, dtype=torch.float64), "fp32")


@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_same_bits(kind: str) -> None:
    case = replace(REAL[1], dtype=KINDS[kind].dtype, layout="channels_last")
    t = case.tensors("cuda")
    results = []
    for _ in range(2):
        x, w = t.x.detach().clone().requires_grad_(), t.w.detach().clone().requires_grad_()
        with set_precision(KINDS[kind].precision):
            conv2d(x, w, padding=1, backend="native").backward(t.dy)
        results.append((x.grad, w.grad))
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)
