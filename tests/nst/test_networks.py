"""Networks: names, cutting, taps, pooling, and torchvision's numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastconv import backends, moments_of
from nst.errors import ConfigError, LayerError
from nst.networks.build import build_network
from nst.networks.network import Network
from nst.networks.stacks import (
    POOL_SCALE,
    check_layers,
    cut_stack,
    layer_names,
    load_stack,
    use_pooling_scale,
)
from nst.networks.survey import survey, table
from nst.networks.table import NETWORKS, kind_of, shortest_side
from nst.networks.weights import Weights, _checked, obtain
from nst.training.torchvision_import import import_torchvision
from nst.training.untrained import natural_noise


@pytest.fixture
def picture() -> Tensor:
    return torch.rand(1, 3, 48, 40)


def full_size(name: str) -> nn.Module:
    """torchvision's network with random weights, small enough to keep activations finite."""
    models = import_torchvision("torchvision.models")
    network = getattr(models, name)(weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return network


def ours(name: str, state: dict[str, Tensor], layers: list[str]) -> Network:
    stack = cut_stack(name, layers)
    load_stack(stack, _checked(name, state))
    return Network(kind_of(name), stack, "torch")


def normalised(picture: Tensor) -> Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (picture - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def test_vgg19_s_layers_stand_where_torchvision_has_them() -> None:
    names = layer_names("vgg19")
    at = {1: "relu1_1", 6: "relu2_1", 11: "relu3_1", 20: "relu4_1", 22: "relu4_2", 29: "relu5_1"}
    at |= {0: "conv1_1", 5: "conv2_1", 10: "conv3_1", 19: "conv4_1", 21: "conv4_2", 28: "conv5_1"}
    assert {i: names[i] for i in at} == at
    assert len(names) == 37


@pytest.mark.parametrize(
    ("name", "index", "layer"), [("vgg19", 22, "relu4_2"), ("vgg16", 25, "relu5_1")]
)
def test_vgg_computes_what_torchvision_s_does(
    name: str, index: int, layer: str, picture: Tensor
) -> None:
    theirs = full_size(name)
    with torch.no_grad():
        expected = theirs.features[: index + 1](normalised(picture))  # type: ignore[index]
        actual = ours(name, theirs.state_dict(), [layer]).features(picture, layer)[layer]
    torch.testing.assert_close(actual, expected)


def test_resnet50_computes_what_torchvision_s_does(picture: Tensor) -> None:
    theirs = full_size("resnet50")
    with torch.no_grad():
        x = normalised(picture)
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2"):
            x = getattr(theirs, name)(x)
        network = ours("resnet50", theirs.state_dict(), ["relu1", "block2_4"])
        actual = network.features(picture, "relu1", "block2_4")
    torch.testing.assert_close(actual["block2_4"], x)
    assert actual["relu1"].shape == (1, 64, 24, 20)


def test_only_the_part_up_to_the_deepest_layer_is_built() -> None:
    assert [name for name, _ in cut_stack("vgg19", ["relu1_1", "conv2_1"])][-1] == "conv2_1"


def test_a_layer_that_is_not_there_is_told_with_the_nearest_name() -> None:
    with pytest.raises(LayerError, match="did you mean 'relu4_2'"):
        check_layers("vgg19", ["rel4_2"])


def test_an_unknown_network_is_told_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'vgg19'"):
        layer_names("vgg29")


def test_a_network_reads_what_is_asked_and_nothing_else(picture: Tensor) -> None:
    network = builtin(["relu3_1"])
    features, moments = network.read(picture, ["relu3_1", "relu1_1"], ["relu2_1"])
    assert (list(features), list(moments)) == (["relu1_1", "relu3_1"], ["relu2_1"])
    expected = moments_of(network.features(picture, "relu2_1")["relu2_1"])
    torch.testing.assert_close(moments["relu2_1"].mean, expected.mean)
    near = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(moments["relu2_1"].covariance, expected.covariance, **near)


def test_a_part_of_what_is_prepared_is_read_without_another_run(picture: Tensor) -> None:
    network = builtin(["relu3_1"])
    network.prepare(["relu1_1"], ["relu2_1", "relu3_1"])
    network.read(picture, moments=["relu3_1"])
    network.read(picture, features=["relu1_1"])
    assert len(network._runs) == 1


def test_a_layer_beyond_the_deepest_is_not_read() -> None:
    with pytest.raises(LayerError, match="built up to relu1_1, and has no 'relu2_1'"):
        builtin(["relu1_1"]).features(torch.rand(1, 3, 32, 32), "relu2_1")


def builtin(layers: list[str], **options: Any) -> Network:
    return build_network(obtain("builtin"), layers, **options)


def test_a_tap_before_a_relu_is_not_overwritten_by_it(picture: Tensor) -> None:
    features = builtin(["relu1_1"]).features(picture, "conv1_1", "relu1_1")
    assert (features["conv1_1"] < 0).any()
    torch.testing.assert_close(features["conv1_1"].relu(), features["relu1_1"])


@pytest.mark.parametrize("layer", ["relu1_1", "relu3_1", "relu5_1"])
def test_activations_neither_die_out_nor_grow_with_depth(layer: str) -> None:
    natural = natural_noise(96, torch.Generator().manual_seed(3))
    features = builtin([layer], pooling="max").features(natural, layer)[layer]
    assert 0.3 < float(features.mean()) < 3.0  # 1 on photographs


def test_the_built_in_network_is_the_same_every_time() -> None:
    first, second = obtain("builtin").state, obtain("builtin").state
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("pooling", ["avg", "l2"])
def test_pooling_is_rescaled_in_the_next_convolution(pooling: str, picture: Tensor) -> None:
    found = obtain("builtin")
    stack = cut_stack("builtin", ["conv2_1"], pooling)
    load_stack(stack, found.state)
    use_pooling_scale(stack, pooling)
    network = Network(kind_of("builtin"), stack, "torch")
    features = network.features(picture, "relu1_2", "conv2_1")
    window = features["relu1_2"].unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    pooled = window.mean(4) if pooling == "avg" else window.square().sum(4).sqrt()
    weight, bias = found.state["conv2_1.weight"], found.state["conv2_1.bias"]
    expected = nn.functional.conv2d(POOL_SCALE[pooling] * pooled, weight, bias, padding=1)
    torch.testing.assert_close(features["conv2_1"], expected, rtol=1e-4, atol=1e-4)


def test_replicated_borders_see_the_border_and_not_black(picture: Tensor) -> None:
    flat = torch.full_like(picture, 0.3)
    replicated = builtin(["conv1_1"], padding="replicate").features(flat, "conv1_1")["conv1_1"]
    zero = builtin(["conv1_1"], padding="zero").features(flat, "conv1_1")["conv1_1"]
    torch.testing.assert_close(replicated[..., 0, 0], replicated[..., 5, 5])
    assert not torch.allclose(zero[..., 0, 0], zero[..., 5, 5])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_smallest_side_still_has_features_and_less_does_not(name: str) -> None:
    kind = NETWORKS[name]
    layers = [*kind.content_layers, *kind.style_layers]
    side = shortest_side(layer for layer, _ in cut_stack(name, layers))
    assert min(survey(name, (side, side), layers)[-1].shape) >= 1
    if name != "resnet50":  # its padded layers round up
        with pytest.raises(RuntimeError, match="too small"):
            survey(name, (side - 1, side - 1), layers)


def test_the_survey_knows_vgg19_s_parameters_and_work() -> None:
    rows = survey("vgg19", (224, 224))
    assert sum(row.parameters for row in rows) == 20_024_384
    assert sum(row.multiply_adds for row in rows) == pytest.approx(19.5e9, rel=0.01)
    assert rows[0].shape == (64, 224, 224)
    assert rows[-1].shape == (512, 7, 7)


def test_the_table_has_a_line_per_layer_and_names_the_kernel() -> None:
    lines = table("vgg16", (64, 64), "torch")
    assert len(lines) == 3 + len(layer_names("vgg16")) + 1
    assert lines[3].startswith("conv1_1")
    assert lines[3].endswith("torch")


@pytest.mark.skipif(not backends()["native"].available, reason="the native backend is not built")
def test_of_the_native_backend_the_table_names_the_algorithm() -> None:
    lines = table("vgg19", (64, 64), "native")
    assert "native winograd_f" in next(line for line in lines if line.startswith("conv3_2"))


def test_a_size_below_the_pools_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="size 8x8: vgg19 needs sides of 32 pixels or more"):
        table("vgg19", (8, 8), "torch")


def test_weights_of_another_network_do_not_pass() -> None:
    found: Weights = obtain("builtin")
    with pytest.raises(ValueError, match=r"conv1_1\.weight of shape"):
        _checked("vgg19", found.state)
