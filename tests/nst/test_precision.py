"""Runs in less and in more than float32: moments that do not overflow, gradients that survive."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_captured import objective_of, optimizer, picture, prepared
from torch import Tensor
from torch.nn.functional import cosine_similarity

from fastconv import current_precision, moments_of
from fastconv.errors import BackendUnavailableError
from nst.config.options import StyleConfig
from nst.errors import ConfigError
from nst.losses.objective import Objective
from nst.networks import hardware as computing
from nst.networks.hardware import choose_backend
from nst.networks.loss_scaling import GradientScale
from nst.networks.network import Network
from nst.networks.precision import PRECISIONS
from nst.networks.stacks import cut_stack
from nst.networks.table import kind_of
from nst.networks.vgg import pool

HALF = {"backend": "torch", "precision": "float16"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("lowered", [False, True])
def test_moments_of_large_features_in_halves(dtype: torch.dtype, lowered: bool) -> None:
    f = (3e3 + 200 * torch.randn(1, 6, 512, 512)).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype, enabled=lowered):
        mean, covariance = moments_of(f)
    expected = moments_of(f.detach().double())
    torch.testing.assert_close(mean.double(), expected.mean, rtol=1e-5, atol=0)
    torch.testing.assert_close(covariance.double(), expected.covariance, rtol=1e-4, atol=4.0)
    covariance.diagonal(dim1=1, dim2=2).sum().backward()
    assert f.grad.isfinite().all()
    assert f.grad.abs().max() > 0
    assert (f[0, 0].detach().flatten().half() @ f[0, 0].detach().flatten().half()).isinf()


def test_float16_paints_nearly_what_float32_does() -> None:
    pictures = []
    for precision in ("float32", "float16"):
        run = prepared(backend="torch", precision=precision, iterations=6)
        list(run.steps())
        pictures.append(run.picture())
    assert 0 < float((pictures[0] - pictures[1]).abs().mean()) < 0.01


def gradient(objective: Objective, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    (objective(leaf).total * leaf.numel()).backward()
    assert leaf.grad is not None
    return leaf.grad.flatten()


def test_small_gradients_survive_the_way_back_in_float16() -> None:
    tiny = {"style_weight": 1e-8, "content_weight": 1e-10, "tv_weight": 0.0}
    exact = objective_of(prepared(backend="torch", **tiny))
    half = objective_of(prepared(**HALF, **tiny))
    expected, found = gradient(exact, picture(3)), {}
    for power in (0, 28):
        half.scaling.load({"value": 2.0**power, "passed": 0})
        found[power] = float(cosine_similarity(gradient(half, picture(3)), expected, 0))
    assert found[0] < 0.9
    assert found[28] > 0.999


def test_the_factor_leaves_the_gradient_as_it_is() -> None:
    half = objective_of(prepared(**HALF))
    several = []
    for value in (1.0, 2.0**4, 2.0**8):
        half.scaling.load({"value": value, "passed": 0})
        several.append(gradient(half, picture(3)))
    for found in several[1:]:
        assert float((found - several[0]).norm()) < 1e-2 * float(several[0].norm())


LARGE = {"style_weight": 3e6, "content_weight": 1e5}


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_an_overflow_lowers_the_factor_and_costs_no_step(name: str) -> None:
    notes: list[str] = []
    it, objective = optimizer(name, notes), objective_of(prepared(**HALF, **LARGE))
    for _ in range(3):
        assert it.step(objective).has_finite_gradient
    assert objective.scaling.value < GradientScale.FIRST
    assert it.rate == it.learning_rate
    assert notes == []


def test_an_overflow_without_end_is_the_loss_s() -> None:
    objective = objective_of(prepared(**HALF))
    objective.scaling.LEAST = objective.scaling.value

    def infinite(x: Tensor) -> Any:
        evaluation = objective(x)
        evaluation.total = evaluation.total + (x - x).sum().sqrt() * 0
        return evaluation

    infinite.scaling = objective.scaling  # type: ignore[attr-defined]
    assert not optimizer()._evaluate(infinite).has_finite_gradient


def test_after_a_while_without_overflow_the_factor_grows() -> None:
    scaling = GradientScale()
    for _ in range(GradientScale.PATIENCE):
        assert scaling.value == GradientScale.FIRST
        scaling.passes()
    assert scaling.value > GradientScale.FIRST
    scaling.lower()
    assert scaling.passed == 0


def test_a_resumed_run_goes_on_with_its_factor() -> None:
    options = {**HALF, **LARGE, "iterations": 6}
    unbroken, begun, resumed = (prepared(**options) for _ in range(3))
    list(unbroken.steps())
    steps = begun.steps()
    for _ in range(3):
        next(steps)
    resumed.load_state(begun.state())
    assert resumed.network.scaling.value == begun.network.scaling.value < GradientScale.FIRST
    list(resumed.steps())
    assert torch.equal(resumed.picture(), unbroken.picture())


def test_only_float16_needs_a_factor() -> None:
    for precision in ("float32", "bfloat16", "float64"):
        assert prepared(backend="torch", precision=precision).network.scaling is None


def test_squares_of_halves_do_not_overflow_in_a_pool() -> None:
    x = torch.full((1, 2, 4, 4), 1000.0, dtype=torch.float16)
    with torch.autocast("cpu", torch.float16):
        pooled = pool("l2")(x)
    assert pooled.dtype == torch.float16
    torch.testing.assert_close(pooled, torch.full((1, 2, 2, 2), 2000.0, dtype=torch.float16))


def test_tf32_is_for_the_native_backend_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="expects the native backend on cuda, got auto on cpu"):
        choose_backend(StyleConfig(precision="tf32", device="cpu"))
    monkeypatch.setattr(computing, "choose_device", lambda name: torch.device("cuda"))
    with pytest.raises(ConfigError, match="got torch on cuda"):
        choose_backend(StyleConfig(precision="tf32", backend="torch"))
    if torch.cuda.is_available():
        return
    with pytest.raises(BackendUnavailableError, match="native"):
        choose_backend(StyleConfig(precision="tf32"))


def test_float16_is_refused_where_it_would_be_computed_in_float32() -> None:
    with pytest.raises(ConfigError, match="precision float16 expects a backend with kernels"):
        choose_backend(StyleConfig(precision="float16", backend="numba", device="cpu"))


def test_products_are_rounded_in_the_network_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with torch.device("cpu"):
        stack = cut_stack("vgg16", ["relu1_1"])
    network = Network(kind_of("vgg16"), stack, "torch", precision=PRECISIONS["tf32"])
    (run,) = (network._runs[network.prepare(["relu1_1"])],)
    assert run._precision == "tf32"
    seen: list[str] = []

    def watched(rgb: Tensor) -> list[Tensor]:
        seen.append(current_precision())
        return [rgb]

    monkeypatch.setattr(run, "forward", watched)
    network.features(picture(1), "relu1_1")
    assert seen == ["tf32"]
    assert current_precision() == "fp32"
