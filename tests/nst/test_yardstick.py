"""bench/plain_transfer.py, the plain way of style transfer, gives nst's losses along its run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from fastconv import backends
from nst.config.options import StyleConfig
from nst.losses.objective import Objective
from nst.losses.terms import LayerChoice, build_terms, take_style_targets
from nst.networks.build import build_network
from nst.networks.weights import Weights

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    path = BENCH / "plain_transfer.py"
    if not path.is_file():
        pytest.skip("the benchmarks are in the source tree only")
    spec = importlib.util.spec_from_file_location("plain_transfer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plain_transfer"] = module  # its dataclasses and annotations look there
    spec.loader.exec_module(module)
    return module


def picture(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, (64, 80), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_losses_agree_along_the_run(plain: ModuleType, backend: str, channels_last: bool) -> None:
    if not backends()[backend].available:
        pytest.skip(backends()[backend].reason)
    state = plain.random_weights(0.25)
    config = StyleConfig.of(
        "seed",
        content_layers=(plain.CONTENT,),
        style_layers=plain.STYLE,
        content_weight=plain.CONTENT_WEIGHT,
        style_weight=plain.STYLE_WEIGHT * len(plain.STYLE),
        backend=backend,
    )
    layers = LayerChoice((plain.CONTENT,), plain.STYLE, dict.fromkeys(plain.STYLE, 0.2))
    weights = Weights("vgg19x0.25", state, "random")
    network = build_network(weights, layers.all, backend=backend, padding=config.padding)
    content, style = picture(1), picture(2)
    targets = take_style_targets(network, config, layers, [style])
    objective = Objective(network, build_terms(network, config, layers, targets, content))
    run = plain.PlainTransfer(plain.plain_features(state, channels_last), content, style)
    losses = []
    for _ in range(25):
        with torch.no_grad():
            ours = objective(run.x.clamp(0, 1)).values["total"]
        losses.append(run.step())
        assert ours == pytest.approx(losses[-1], rel=1e-3)
    assert losses[-1] < 0.1 * losses[0]


def test_the_network_has_the_layers_and_widths_of_vgg19(plain: ModuleType) -> None:
    widths = {key: w.shape[0] for key, w in plain.random_weights().items() if "weight" in key}
    assert len(widths) == 13
    assert widths["conv3_4.weight"] == 256
    assert widths["conv5_1.weight"] == 512


def test_a_full_history_is_kept_by_the_optimizer(plain: ModuleType) -> None:
    run = plain.PlainTransfer.from_loss(lambda x: x.square().sum(), picture(3))
    before = run.x.detach().clone()
    run.fill_history()
    kept = run.optimizer.state[run.x]["old_dirs"]
    assert len(kept) == 100
    assert torch.equal(run.x, before)
