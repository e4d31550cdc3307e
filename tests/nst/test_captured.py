"""Recorded evaluations, with a recorder that stands in for a CUDA graph.

It keeps the tensors of the recording and writes into them what the same work gives when it is
replayed: what was read from them once is overwritten, as on a card.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from asking import questions
from torch import Tensor

from fastconv.frozen.clock import Clock
from nst.config.options import StyleConfig
from nst.errors import ConfigError, NstError
from nst.losses.evaluation import Evaluation
from nst.losses.objective import Objective
from nst.optimizers.base import Optimizer
from nst.optimizers.cuda_graph import WARM_UPS, Captured, Recordings, Work
from nst.optimizers.table import OPTIMIZERS
from nst.pictures.sizing import Picture
from nst.run.inputs import Inputs
from nst.run.observer import Observer
from nst.run.pyramid import Level
from nst.run.run import Run
from nst.tables import found

HW = (24, 32)


class Imitation:
    """A recorder that does the work again at every replay, and puts it where it lay before."""

    made: list[Imitation]

    def __init__(self) -> None:
        self.warm_ups = self.replays = 0
        self.made.append(self)

    def warm_up(self, work: Work) -> None:
        for _ in range(WARM_UPS):
            work()
        self.warm_ups += 1

    def record(self, work: Work) -> tuple[Evaluation, Tensor, Tensor]:
        with questions() as asked:
            self.work, self.static = work, work()
        assert asked == [], "a recording must not ask for numbers"
        for t in self.static[1:]:
            t.fill_(torch.nan)  # the work is ordered, not done
        return self.static

    def replay(self) -> None:
        self.replays += 1
        for kept, again in zip(self.static[1:], self.work()[1:], strict=True):
            kept.copy_(again)


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    Imitation.made = []


def picture(seed: int, hw: tuple[int, int] = HW) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, hw, mode="bicubic").clamp(0, 1)


def prepared(**options: Any) -> Run:
    settings = {"network": "builtin", "size": 32, "scales": 1, "iterations": 4, "device": "cpu"}
    config = StyleConfig.of("quality", **{**settings, **options})
    inputs = Inputs(Picture(picture(1)), [Picture(picture(2))])
    return Run.prepare(config, inputs, Observer())


def objective_of(run: Run) -> Objective:
    return run.objective(run.levels[0])


def optimizer(name: str = "adam", notes: list[str] | None = None, **options: Any) -> Optimizer:
    config = StyleConfig.of("quality", optimizer=name, **options)
    kind = found("optimizer", name, OPTIMIZERS)
    return kind(picture(1), config, (notes if notes is not None else []).append)


def imitate(it: Optimizer, make: Callable[[], Any] = Imitation) -> Optimizer:
    it.recordings.make = make
    return it


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_recorded_run_is_the_same_run(name: str) -> None:
    objective = objective_of(prepared())
    plain, recorded = optimizer(name), imitate(optimizer(name))
    for _ in range(6):
        expected, actual = plain.step(objective), recorded.step(objective)
        assert actual.values == expected.values
        assert torch.equal(recorded.x.grad, plain.x.grad)
    assert torch.equal(recorded.picture, plain.picture)
    (made,) = Imitation.made
    assert (made.warm_ups, made.replays) == (1, 6)


def test_values_that_were_told_are_not_overwritten() -> None:
    it, objective = imitate(optimizer()), objective_of(prepared())
    first = it.step(objective)
    before = dict(first.values)
    it.step(objective)
    assert first.values == before
    assert it.step(objective).values != before


def test_it_is_recorded_anew_for_another_size_another_objective_and_another_x() -> None:
    it, run = imitate(optimizer()), prepared()
    first = objective_of(run)
    it.step(first)
    it.step(first)
    assert len(Imitation.made) == 1
    it.step(objective_of(run))  # other targets
    assert len(Imitation.made) == 2
    it.enlarge((30, 40))
    run.inputs.content = Picture(picture(1, (30, 40)))
    run.levels[0] = Level(30, 40, 4)
    larger = objective_of(run)
    it.step(larger)
    assert len(Imitation.made) == 3
    assert it.x.grad.shape == (1, 3, 30, 40)
    it.load_state(it.state())
    it.step(larger)
    assert len(Imitation.made) == 4


def test_a_step_back_is_replayed_at_the_good_place() -> None:
    it, objective = imitate(optimizer("lbfgs")), objective_of(prepared())
    it.step(objective)
    good = it.x.detach().clone()
    it.first = it.last = 1e-9  # whatever comes has risen too far
    with pytest.raises(NstError, match="does not recover"):
        it.step(objective)
    assert torch.equal(it.x, good)
    assert len(Imitation.made) == 1


def test_the_balance_moves_within_a_recording() -> None:
    run = prepared(balance="auto")
    objective = objective_of(run)
    it = imitate(optimizer())
    before = it.step(objective).values
    run.balance.factor = 3.0
    objective.reweigh()
    after = it._evaluate(objective).values
    assert len(Imitation.made) == 1
    weight = run.config.content_weight
    assert after["total"] - before["total"] == pytest.approx(2 * weight * before["content"], 1e-4)
    assert objective.reported == {"balance": 3.0}


def test_a_gradient_outside_of_a_recording_does_not_tie_it_to_another_stream() -> None:
    seen: list[Tensor] = []

    def watched(x: Tensor) -> Evaluation:
        seen.append(x)
        return Evaluation(x.square().mean(), {"total": x.square().mean()})

    x = picture(1).requires_grad_()
    made = Captured(watched, x, Imitation())
    evaluation, gradient = made.evaluate()
    assert all(leaf is not x and leaf.data_ptr() == x.data_ptr() for leaf in seen)
    assert not evaluation.total.requires_grad
    torch.testing.assert_close(gradient, 2 * x.detach())


class Refusing(Imitation):
    def record(self, work: Work) -> tuple[Evaluation, Tensor, Tensor]:
        try:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        finally:  # as the end of a CUDA graph's capture does
            raise RuntimeError("capture failed due to a previous error")


def test_what_cannot_be_recorded_runs_by_itself_and_is_told_once() -> None:
    notes: list[str] = []
    it, plain = imitate(optimizer("adam", notes), Refusing), optimizer()
    objective = objective_of(prepared())
    for _ in range(3):
        assert it.step(objective).values == plain.step(objective).values
    expected = "the step is not recorded as a CUDA graph: it cannot be recorded: operation not"
    assert notes == [f"{expected} permitted"]
    assert len(Imitation.made) == 1


def test_where_it_was_insisted_on_that_is_an_error() -> None:
    it = imitate(optimizer(graph="on"), Refusing)
    with pytest.raises(ConfigError, match=r"expects a step that can be recorded: .*not permitted"):
        it.step(objective_of(prepared()))


def test_an_error_of_the_evaluation_itself_stays_what_it_is() -> None:
    def wrong(x: Tensor) -> Evaluation:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        imitate(optimizer()).step(wrong)


def test_a_profile_ends_recording() -> None:
    notes: list[str] = []
    run, it = prepared(), imitate(optimizer("adam", notes))
    objective = objective_of(run)
    it.step(objective)
    run.network.clock = Clock()
    it.step(objective)
    it.step(objective)
    assert Imitation.made[0].replays == 1
    assert len(notes) == 1
    assert "profile" in notes[0]
    assert run.network.clock.seconds


def test_backends_outside_of_a_card_s_memory_are_told() -> None:
    assert "naive" in objective_of(prepared(backend="naive")).against_recording
    assert objective_of(prepared(backend="torch")).against_recording == ""


@pytest.mark.parametrize(
    ("wanted", "device", "records"),
    [("auto", "cpu", False), ("auto", "cuda", True), ("on", "cuda", True), ("off", "cuda", False)],
)
def test_recording_is_for_cuda_unless_it_is_turned_off(
    wanted: str, device: str, records: bool
) -> None:
    assert bool(Recordings(wanted, torch.device(device), print).make) == records


def test_insisting_on_a_recording_without_a_card_is_the_user_s_mistake() -> None:
    with pytest.raises(ConfigError, match="graph 'on' expects device cuda, got cpu"):
        prepared(graph="on")


LOSSES = [
    {"style_loss": "wasserstein"},
    {"style_loss": "covariance", "balance": "auto"},
    {"style_loss": "gram", "normalize": False},
    {"style_loss": "gatys", "content_loss": "gatys"},
    {"backend": "torch", "pooling": "l2"},
    {"backend": "torch", "precision": "float16"},
    {"backend": "torch", "precision": "bfloat16", "padding": "zero"},
]


@pytest.mark.parametrize("options", LOSSES, ids=str)
def test_an_objective_asks_for_no_number(options: dict[str, Any]) -> None:
    objective = objective_of(prepared(**options))
    objective.mask = torch.ones(1, 1, *HW)
    x = picture(3).requires_grad_()
    with questions() as asked:
        evaluation = objective(x)
        (evaluation.total * x.numel()).backward()
        evaluation.stacked(x.grad.sum())
    assert asked == []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_asks_once(name: str) -> None:
    it, objective = optimizer(name), objective_of(prepared())
    for _ in range(4):
        with questions() as asked:
            it.step(objective)
        assert asked == ["tolist"]
