"""Plans that are kept from call to call: they change nothing but the time a call takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fastconv import ArgumentError, DtypeError, conv2d, plans, use_algorithm, use_backend
from fastconv.geometry import geometry_of

X, W, B = torch.ones(1, 2, 5, 5), torch.ones(3, 2, 3, 3), torch.ones(3)


@pytest.fixture(autouse=True)
def _none_kept() -> Iterator[None]:
    plans.forget()
    yield
    plans.forget()


def test_a_call_that_is_repeated_is_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(*arguments: object) -> object:
        asked.append(arguments)
        return geometry_of(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(plans, "geometry_of", counted)
    for _ in range(3):
        conv2d(X, W, B)
        conv2d(X, W, B, padding=[1, 1])
    assert len(asked) == 2


@pytest.mark.parametrize("wrong", [True, (True, True), 1.0, (1.0, 1), "1"], ids=repr)
@pytest.mark.parametrize("name", ["stride", "padding", "dilation"])
def test_what_equals_a_kept_argument_is_still_checked(name: str, wrong: object) -> None:
    conv2d(X, W, **{name: 1})
    conv2d(X, W, **{name: (1, 1)})
    with pytest.raises((ArgumentError, DtypeError), match=name):
        conv2d(X, W, **{name: wrong})


def test_groups_are_still_checked() -> None:
    conv2d(X, W, groups=1)
    with pytest.raises(DtypeError, match="groups"):
        conv2d(X, W, groups=True)


def test_tensors_are_still_checked() -> None:
    conv2d(X, W, B)
    with pytest.raises(DtypeError, match=r"weight expects a torch\.Tensor, got ndarray"):
        conv2d(X, W.numpy(), B)  # type: ignore[arg-type]
    with pytest.raises(DtypeError, match=r"input expects a torch\.Tensor, got list"):
        conv2d([1.0], W, B)  # type: ignore[arg-type]
    with pytest.raises(DtypeError, match="bias expects input's dtype"):
        conv2d(X, W, B.double())
    with pytest.raises(ArgumentError, match="weight expects input's device"):
        conv2d(X, W.to("meta"), B)
    with pytest.raises(ArgumentError, match=r"bias expects shape \(3,\)"):
        conv2d(X, W, torch.ones(4))


def test_a_mistake_is_told_every_time() -> None:
    for _ in range(2):
        with pytest.raises(ArgumentError, match="channels"):
            conv2d(X[:, :1], W)


def test_a_choice_that_changes_makes_another_plan() -> None:
    def backend() -> object:
        return plans.plan_of(X, W, B, 1, 0, 1, 1, None, None).backend

    with use_backend("naive"):
        first = backend()
    with use_backend("native"):
        second = backend()
        with use_algorithm("direct"):
            third = backend()
    assert len({id(first), id(second), id(third)}) == 3
    with use_backend("naive"):
        assert backend() is first


def test_no_more_are_kept_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "most_kept", 4)
    for height in range(3, 12):
        conv2d(torch.ones(1, 2, height, 3), W)
        assert len(plans._kept) <= 4
