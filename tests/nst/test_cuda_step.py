"""Steps on a card, where there is one: recorded or not they paint alike, and ask once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from test_captured import objective_of, prepared
from torch import Tensor

from fastconv.registry import load
from nst.losses.evaluation import Evaluation
from nst.optimizers.table import OPTIMIZERS
from nst.run.run import Run

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
NEAR = {"float32": 1e-3, "tf32": 0.01, "bfloat16": 0.03, "float16": 0.01}


@pytest.fixture(scope="module", autouse=True)
def _a_card() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA card here")


@pytest.fixture
def _asked_in_reading_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything that waits for the card is an error, but for Evaluation.read."""
    read = Evaluation.read

    def allowed(self: Evaluation, stacked: Tensor) -> None:
        torch.cuda.set_sync_debug_mode("default")
        read(self, stacked)
        torch.cuda.set_sync_debug_mode("error")

    monkeypatch.setattr(Evaluation, "read", allowed)
    yield
    torch.cuda.set_sync_debug_mode("default")


def on_card(**options: Any) -> Run:
    backend = options.get("backend", "native")
    if backend == "native" and (reason := load("native").against("cuda")):
        pytest.skip(reason)
    return prepared(**{"device": "cuda", "backend": backend, "iterations": 8, **options})


def painted(**options: Any) -> tuple[Tensor, Run]:
    run = on_card(**options)
    list(run.steps())
    return run.picture(), run


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_recorded_run_paints_the_same_picture(name: str, backend: str) -> None:
    options = {"optimizer": name, "backend": backend}
    expected, _ = painted(graph="off", **options)
    found, run = painted(graph="on", **options)
    assert run.optimizer.recordings.kept is not None
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_is_recorded_and_near_float32(precision: str) -> None:
    expected = prepared(backend="torch", iterations=8)
    list(expected.steps())
    found, _ = painted(precision=precision, graph="on")
    assert float((found - expected.picture()).abs().mean()) < NEAR[precision]


@pytest.mark.parametrize("loss", ["wasserstein", "covariance", "gram", "gatys"])
def test_every_loss_is_recorded(loss: str) -> None:
    _, run = painted(style_loss=loss, balance="auto", graph="on", iterations=12)
    assert run.notes == []


def test_scales_are_recorded_one_after_the_other() -> None:
    found, _ = painted(graph="on", scales=2, iterations=(4, 4))
    expected, _ = painted(graph="off", scales=2, iterations=(4, 4))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("graph", ["on", "off"])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.usefixtures("_asked_in_reading_alone")
def test_a_step_asks_the_card_once(name: str, graph: str) -> None:
    run = on_card(optimizer=name, graph=graph)
    objective = objective_of(run)
    optimizer = run._optimizer(run.levels[0])
    optimizer.step(objective)
    for _ in range(4):
        torch.cuda.set_sync_debug_mode("error")
        optimizer.step(objective)
        torch.cuda.set_sync_debug_mode("default")


def test_a_run_goes_on_from_its_state_on_the_card() -> None:
    unbroken, _ = painted(optimizer="lbfgs")
    begun, resumed = on_card(optimizer="lbfgs"), on_card(optimizer="lbfgs")
    steps = begun.steps()
    for _ in range(4):
        next(steps)
    resumed.load_state(begun.state())
    list(resumed.steps())
    torch.testing.assert_close(resumed.picture(), unbroken, rtol=0, atol=1e-4)


def test_what_cannot_be_recorded_leaves_the_card_as_it_was() -> None:
    run = on_card(graph="auto")
    objective = objective_of(run)
    optimizer = run._optimizer(run.levels[0])
    calls = 0

    def asking(x: Tensor) -> Evaluation:
        nonlocal calls
        calls += 1
        evaluation = objective(x)
        float(evaluation.total)
        return evaluation

    for _ in range(3):
        optimizer.step(asking)
    assert len(run.notes) == 1
    assert "not recorded" in run.notes[0]
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
