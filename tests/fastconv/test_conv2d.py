"""The case table on every backend against torch, and what the table cannot say."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from cases import CASES
from torch.nn import functional as F

import fastconv
from fastconv import conv2d
from fastconv.checking import KINDS, Case, Finding, check_backend, compare

FLOATS = (torch.float32, torch.float64)
HALVES = (torch.bfloat16, torch.float16)
ROWS = {case.about: case for case in CASES}
by_name = pytest.mark.parametrize("about", ROWS)


@cache
def findings(about: str, dtype: torch.dtype, backend: str) -> dict[str, Finding]:
    case = replace(ROWS[about], dtype=dtype)
    return {found.kind: found for found in compare(partial(conv2d, backend=backend), case)}


def assert_right(found: Finding) -> None:
    assert found.passed, (
        f"{found.kind} of {found.case}: error {found.error:.2e}, "
        f"tolerance {found.tolerance:.2e} {found.problem}"
    )


def test_every_row_says_something_of_its_own() -> None:
    assert len(ROWS) == len(CASES)
    assert len({str(case) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@by_name
def test_agrees_with_torch(about: str, dtype: torch.dtype, kind: str, backend: str) -> None:
    found = findings(about, dtype, backend)
    if ROWS[about].bias or kind != "grad_bias":
        assert_right(found[kind])
    else:
        assert kind not in found


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@by_name
def test_halves_agree_with_torch_in_double(about: str, dtype: torch.dtype, backend: str) -> None:
    for found in findings(about, dtype, backend).values():
        assert_right(found)
