"""Conv2d beside torch.nn.Conv2d, and swap_convs."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastconv import BackendUnavailableError, Conv2d, registry, swap_convs, use_backend

MODES = ("zeros", "reflect", "replicate", "circular")
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3},
    "padded": {"kernel_size": 3, "padding": 1},
    "same": {"kernel_size": (3, 4), "padding": "same"},
    "everything": {
        "kernel_size": (3, 2),
        "stride": (2, 1),
        "padding": (2, 1),
        "dilation": (1, 2),
        "groups": 2,
        "bias": False,
    },
    "double": {"kernel_size": 3, "dtype": torch.float64},
}


def twins(backend: str | None = None, **options: Any) -> tuple[nn.Conv2d, Conv2d]:
    """torch's module and ours with the same weights."""
    theirs, ours = nn.Conv2d(4, 6, **options), Conv2d(4, 6, **options, backend=backend)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def assert_alike(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_conv2d_is_torchs(options: dict[str, Any], mode: str, backend: str) -> None:
    theirs, ours = twins(backend, **options, padding_mode=mode)
    x = torch.randn(2, 4, 9, 8, dtype=options.get("dtype", torch.float32))
    got, expected = ours(x), theirs(x)
    assert_alike(got, expected)
    got.square().sum().backward()
    expected.square().sum().backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-3)


def test_same_initial_weights_from_the_same_seed() -> None:
    torch.manual_seed(7)
    theirs = nn.Conv2d(3, 5, 3)
    torch.manual_seed(7)
    ours = Conv2d(3, 5, 3)
    assert torch.equal(theirs.weight, ours.weight)
    assert torch.equal(theirs.bias, ours.bias)


def test_state_dict_goes_both_ways() -> None:
    theirs, ours = nn.Conv2d(3, 5, 3), Conv2d(3, 5, 3, backend="naive")
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight", "bias"]
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.weight, theirs.weight)
    fresh = nn.Conv2d(3, 5, 3)
    fresh.load_state_dict(ours.state_dict())
    assert torch.equal(fresh.weight, theirs.weight)


def test_saved_weights_load_without_running_code() -> None:
    ours, file = Conv2d(3, 5, 3, backend="naive"), io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True)["weight"], ours.weight)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, "pickle"], ids=["copy", "deepcopy", "pickle"]
)
def test_copies_keep_backend_and_weights(duplicate: Any) -> None:
    ours = Conv2d(3, 5, 3, padding=1, padding_mode="reflect", backend="naive")
    again = pickle.loads(pickle.dumps(ours)) if duplicate == "pickle" else duplicate(ours)
    x = torch.randn(1, 3, 5, 5)
    assert (type(again), again.backend) == (Conv2d, "naive")
    assert torch.equal(again(x), ours(x))


def test_repr_names_the_backend() -> None:
    assert "backend" not in repr(Conv2d(3, 5, 3))
    assert repr(Conv2d(3, 5, 3, backend="naive")).endswith("backend='naive')")


def test_unbatched_input() -> None:
    theirs, ours = twins(kernel_size=3)
    x = torch.randn(4, 6, 7)
    assert_alike(ours(x), theirs(x))


def test_module_moves_and_changes_dtype() -> None:
    ours = Conv2d(3, 5, 3, backend="naive").double()
    assert ours(torch.randn(1, 3, 5, 5, dtype=torch.float64)).dtype == torch.float64


def test_lazily_chosen_backend_follows_use_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def conv2d(*_: object, backend: str | None) -> Tensor:
        asked.append(backend or registry.current_backend())
        return torch.empty(0)

    monkeypatch.setattr("fastconv.modules.conv2d", conv2d)
    with use_backend("naive"):
        Conv2d(1, 1, 1)(torch.ones(1, 1, 1, 1))
        Conv2d(1, 1, 1, backend="torch")(torch.ones(1, 1, 1, 1))
    assert asked == ["naive", "torch"]


# --- swap_convs


class Own(nn.Conv2d):
    """A convolution with a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


def network() -> nn.Sequential:
    block = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2, padding=1), nn.BatchNorm2d(4))
    convs = [nn.Conv2d(3, 4, 3), nn.ReLU(), block, nn.Conv2d(4, 2, 2, padding="same")]
    return nn.Sequential(*convs, nn.ConvTranspose2d(2, 2, 2)).eval()


def test_swapped_network_computes_the_same(backend: str) -> None:
    model, x = network(), torch.randn(2, 3, 8, 9)
    expected = model(x)
    assert swap_convs(model, backend) is model
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [type(conv) for conv in convs] == [Conv2d] * 3
    assert all(conv.backend == backend for conv in convs)
    assert_alike(model(x), expected)


def test_swap_keeps_the_objects_themselves() -> None:
    model = network()
    modules, parameters = list(model.modules()), list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    seen: list[int] = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    swap_convs(model, "naive")
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    before = model[0].weight.detach().clone()
    model(torch.randn(1, 3, 6, 6)).sum().backward()
    optimizer.step()
    assert seen == [1]
    assert not torch.equal(model[0].weight, before)


def test_swap_leaves_strangers_alone() -> None:
    model = nn.Sequential(Own(3, 4, 3), nn.ConvTranspose2d(4, 3, 3), nn.Conv1d(3, 3, 3))
    swap_convs(model, "naive")
    assert [type(module) for module in model] == [Own, nn.ConvTranspose2d, nn.Conv1d]


def test_swap_reaches_lazy_convolutions() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3, padding=1), nn.ReLU(), nn.LazyConv2d(2, 3))
    swap_convs(model, "naive")
    x = torch.randn(1, 3, 6, 6)
    y = model(x)
    assert [type(model[0]), type(model[2])] == [Conv2d, Conv2d]
    assert model[0].backend == model[2].backend == "naive"
    assert_alike(swap_convs(model, "torch")(x), y)


def test_swap_of_a_single_convolution_and_back() -> None:
    conv = nn.Conv2d(3, 4, 3)
    swap_convs(conv, "naive")
    assert (type(conv), conv.backend) == (Conv2d, "naive")
    swap_convs(conv, "torch")
    assert conv.backend == "torch"
    swap_convs(conv)
    assert conv.backend is None


def test_swap_to_a_missing_backend_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise BackendUnavailableError(f"backend '{name}' is not available")

    monkeypatch.setattr("fastconv.modules.load", missing)
    model = network()
    with pytest.raises(BackendUnavailableError):
        swap_convs(model, "numba")
    assert type(model[0]) is nn.Conv2d


def test_swapped_network_copies_and_saves() -> None:
    model = swap_convs(network(), "naive")
    again = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    x = torch.randn(1, 3, 6, 6)
    assert torch.equal(again(x), model(x))
    assert list(again.state_dict()) == list(network().state_dict())


# --- autocast


@pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_takes_the_lower_precision_as_torch_does(lower: torch.dtype, backend: str) -> None:
    theirs, ours = twins(backend, kernel_size=3, padding=1)
    x = torch.randn(1, 4, 6, 7)
    with torch.autocast("cpu", dtype=lower):
        got, expected = ours(x), theirs(x)
    assert got.dtype == expected.dtype == lower
    eps = torch.finfo(lower).eps
    torch.testing.assert_close(got, expected, rtol=2 * eps, atol=4 * eps)


def test_gradients_through_autocast_are_in_the_parameters_dtype(backend: str) -> None:
    ours = Conv2d(3, 4, 3, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ours(torch.randn(1, 3, 6, 6)).float().square().sum()
    loss.backward()
    assert ours.weight.grad.dtype == torch.float32
    assert ours.weight.grad.isfinite().all()


def test_autocast_leaves_doubles_as_torch_does() -> None:
    theirs, ours = twins(kernel_size=3, dtype=torch.float64)
    x = torch.randn(1, 4, 6, 7, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(x).dtype == theirs(x).dtype
