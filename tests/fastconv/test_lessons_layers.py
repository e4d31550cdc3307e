"""The layers of the lessons: by differences, against torch, and against the naive backend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastconv import ArgumentError, DtypeError
from fastconv.backends import naive
from fastconv.geometry import geometry_of
from fastconv.lessons import (
    AvgPool,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    MyConv,
    Network,
    ReLU,
    SoftmaxCrossEntropy,
    accuracy,
    check_layer,
    digit_network,
    drawn_digits,
)

PICTURES = np.random.default_rng(3).normal(size=(2, 3, 7, 6))
ROWS = np.random.default_rng(4).normal(size=(4, 5))


def torch_conv(layer: MyConv) -> Callable[..., Tensor]:
    def same(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, layer.stride, layer.padding)

    return same


# What it is, the layer, its input, and torch's function of input and parameters.
CONVS = (
    ("3x3", MyConv(3, 4)),
    ("padded", MyConv(3, 4, padding=1)),
    ("strided", MyConv(3, 2, 3, stride=2, padding=1)),
    ("even kernel", MyConv(3, 2, 2, stride=2)),
    ("oblong, no bias", MyConv(3, 2, (1, 4), (2, 1), (0, 3), bias=False)),
    ("same", MyConv(3, 2, (3, 2), padding="same")),
    ("padding wider than the kernel", MyConv(3, 1, 2, stride=3, padding=4)),
    ("kernel as large as the picture", MyConv(3, 2, (7, 6))),
)
CASES: tuple[tuple[str, Layer, np.ndarray, Callable[..., Tensor]], ...] = (
    *((f"conv {about}", layer, PICTURES, torch_conv(layer)) for about, layer in CONVS),
    ("max 2", MaxPool(2), PICTURES, lambda x: F.max_pool2d(x, 2)),
    ("max overlapping", MaxPool(3, 2, 1), PICTURES, lambda x: F.max_pool2d(x, 3, 2, 1)),
    ("max oblong", MaxPool((1, 3), 1), PICTURES, lambda x: F.max_pool2d(x, (1, 3), 1)),
    ("average 2", AvgPool(2), PICTURES, lambda x: F.avg_pool2d(x, 2)),
    ("average overlapping", AvgPool(3, 2, 1), PICTURES, lambda x: F.avg_pool2d(x, 3, 2, 1)),
    ("relu", ReLU(), PICTURES, F.relu),
    ("relu of rows", ReLU(), ROWS, F.relu),
    ("flatten", Flatten(), PICTURES, lambda x: x.flatten(1)),
    ("linear", Linear(5, 3), ROWS, F.linear),
    ("linear, no bias", Linear(5, 3, bias=False), ROWS, F.linear),
)
cases = pytest.mark.parametrize(
    ("layer", "x", "function"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)


@cases
def test_forward_and_backward_agree_with_torch(
    layer: Layer, x: np.ndarray, function: Callable[..., Tensor]
) -> None:
    for at, values in enumerate(layer.parameters.values()):  # also of biases, which begin at 0
        values[...] = np.random.default_rng(at).normal(size=values.shape)
    leaves = [
        torch.tensor(values, requires_grad=True) for values in (x, *layer.parameters.values())
    ]
    expected = function(*leaves)
    y = layer(x)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    dy = np.random.default_rng(9).normal(size=y.shape)
    expected.backward(torch.from_numpy(dy))
    found = [layer.backward(dy), *(layer.gradients[name] for name in layer.parameters)]
    for leaf, gradient in zip(leaves, found, strict=True):
        assert leaf.grad is not None
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-12, atol=1e-12)


@cases
def test_backward_agrees_with_differences(
    layer: Layer, x: np.ndarray, function: Callable[..., Tensor]
) -> None:
    report = check_layer(layer, x)
    assert report.passed, report
    assert report.relative_error <= 1e-7, report  # the promise is 1e-6; seen: 2e-9 at most
    assert set(report.reports) == {"input", *layer.parameters}


@pytest.mark.parametrize("layer", [layer for _, layer in CONVS], ids=[about for about, _ in CONVS])
def test_my_conv_is_the_naive_backend(layer: MyConv) -> None:
    x, w = torch.from_numpy(PICTURES), torch.from_numpy(layer.weight)
    b = torch.from_numpy(layer.parameters["bias"]) if "bias" in layer.parameters else None
    g = geometry_of(x.shape, w.shape, layer.stride, layer.padding)
    y = layer(PICTURES)
    np.testing.assert_allclose(y, naive.forward(x, w, b, g).numpy(), atol=1e-12)
    dy = np.random.default_rng(5).normal(size=y.shape)
    dx = layer.backward(dy)
    np.testing.assert_allclose(dx, naive.grad_input(torch.from_numpy(dy), w, g), atol=1e-12)
    dw = naive.grad_weight(torch.from_numpy(dy), x, g)
    np.testing.assert_allclose(layer.gradients["weight"], dw, atol=1e-12)


def test_a_whole_network_agrees_with_differences() -> None:
    x = np.random.default_rng(1).normal(size=(2, 1, 6, 6))
    front = [MyConv(1, 2, padding=1), ReLU(), MaxPool(2)]
    network = Network([*front, MyConv(2, 3, 2), Flatten(), Linear(12, 4)])
    report = check_layer(network, x)
    assert report.passed, report
    assert set(report.reports) == {"input", *network.parameters}


# ---------------------------------------------------------------- the loss


def test_loss_and_its_gradient_agree_with_torch_and_differences() -> None:
    labels, loss = np.array([2, 0, 4, 2]), SoftmaxCrossEntropy()
    scores = torch.tensor(3 * ROWS, requires_grad=True)
    expected = F.cross_entropy(scores, torch.from_numpy(labels))
    expected.backward()
    assert loss.forward(3 * ROWS, labels) == pytest.approx(expected.item(), rel=1e-12)
    dx = loss.backward()
    assert scores.grad is not None
    np.testing.assert_allclose(dx, scores.grad.numpy(), atol=1e-14)
    for place in np.ndindex(ROWS.shape):
        moved = np.zeros(ROWS.shape)
        moved[place] = 1e-5
        above = loss.forward(3 * ROWS + moved, labels)
        below = loss.forward(3 * ROWS - moved, labels)
        assert dx[place] == pytest.approx((above - below) / 2e-5, abs=1e-9)


def test_loss_of_huge_scores_does_not_overflow() -> None:
    loss = SoftmaxCrossEntropy()
    assert loss.forward(np.array([[1e4, -1e4]]), np.array([0])) == 0.0
    assert loss.forward(np.array([[1e4, -1e4]]), np.array([1])) == pytest.approx(2e4)
    assert np.isfinite(loss.backward()).all()


def test_loss_of_a_guess_is_the_logarithm_of_the_number_of_classes() -> None:
    assert SoftmaxCrossEntropy().forward(np.zeros((3, 10)), np.arange(3)) == pytest.approx(
        np.log(10)
    )


# ---------------------------------------------------------------- details


def test_max_pool_sends_the_gradient_of_equals_to_the_first() -> None:
    pool = MaxPool(2)
    pool(np.ones((1, 1, 2, 2)))
    assert pool.backward(np.ones((1, 1, 1, 1))).tolist() == [[[[1, 0], [0, 0]]]]


def test_gradients_add_up_where_windows_overlap() -> None:
    pool = AvgPool((1, 2), 1)
    pool(np.zeros((1, 1, 1, 3)))
    assert pool.backward(np.ones((1, 1, 1, 2))).tolist() == [[[[0.5, 1.0, 0.5]]]]


def test_a_layer_leaves_its_input_alone() -> None:
    for _, layer, x, _ in CASES:
        before = x.copy()
        layer.backward(layer(x))
        assert np.array_equal(x, before)


def test_pictures_of_whole_numbers_are_taken() -> None:
    assert MyConv(1, 1)(np.ones((1, 1, 5, 5), dtype=np.uint8)).shape == (1, 1, 3, 3)


def test_same_seed_same_weights() -> None:
    assert np.array_equal(MyConv(2, 3, seed=5).weight, MyConv(2, 3, seed=5).weight)
    assert not np.array_equal(MyConv(2, 3, seed=5).weight, MyConv(2, 3, seed=6).weight)


def test_weights_begin_at_a_scale_that_keeps_the_signal() -> None:
    x = np.random.default_rng(0).normal(size=(1, 64, 12, 12))
    y = ReLU()(MyConv(64, 64)(x))
    assert np.square(y).mean() == pytest.approx(np.square(x).mean(), rel=0.2)


# ---------------------------------------------------------------- mistakes

MISTAKES: tuple[tuple[str, Callable[[], object], str], ...] = (
    ("rank", lambda: MyConv(3, 4)(PICTURES[0]), r"MyConv: x expects 4 dimensions \(n, c, h, w\)"),
    ("channels", lambda: MyConv(2, 4)(PICTURES), r"MyConv: x expects 2 channels, got shape \(2, 3"),
    ("large kernel", lambda: MyConv(3, 4, 9)(PICTURES), "MyConv: kernel's height .* is larger"),
    (
        "same, stride",
        lambda: MyConv(3, 4, 3, 2, "same")(PICTURES),
        "MyConv: padding='same' expects",
    ),
    ("no channels", lambda: MyConv(0, 4), "MyConv: c_in expects a whole number of 1 or more, got"),
    ("half channels", lambda: MyConv(3, 2.5), "c_out expects a whole number of 1 or more, got 2.5"),
    ("stride 0", lambda: MyConv(3, 4, stride=0), "MyConv: stride expects positive integers"),
    ("no kernel", lambda: MyConv(3, 4, 0), "MyConv: kernel_size expects positive integers"),
    ("no window", lambda: MaxPool(0), "MaxPool: kernel_size expects positive integers"),
    ("not layers", lambda: Network([ReLU(), 2]), "Network: expected layers, got int"),
    ("words", lambda: ReLU()("a"), "ReLU: x expects real numbers, got dtype <U1"),
    ("complex", lambda: ReLU()(ROWS + 1j), "ReLU: x expects real numbers, got dtype complex128"),
    ("half digits", lambda: drawn_digits(2.5), "drawn_digits: count expects a whole number"),
    ("checked loss", lambda: check_layer(SoftmaxCrossEntropy(), ROWS), "expects a Layer, got Soft"),
    ("no eps", lambda: check_layer(ReLU(), ROWS, eps=0), "eps expects a number between 0 and 1"),
    (
        "labels in a column",
        lambda: accuracy(Linear(5, 3), ROWS, np.zeros((4, 1), int)),
        r"labels expect a number per picture, shape \(4,\), got \(4, 1\)",
    ),
    ("backward first", lambda: ReLU().backward(ROWS), "ReLU: backward needs a forward before it"),
    ("features", lambda: Linear(6, 2)(ROWS), r"Linear: x expects 6 features, got shape \(4, 5\)"),
    ("linear of pictures", lambda: Linear(6, 2)(PICTURES), r"Linear: x expects 2 dimensions"),
    ("wide padding", lambda: MaxPool(2, padding=2), "padding expects half the kernel"),
    ("large pool", lambda: MaxPool(9)(PICTURES), "MaxPool: kernel's height .* is larger"),
    ("no layers", lambda: Network([]), "expected one layer or more"),
    (
        "labels",
        lambda: SoftmaxCrossEntropy().forward(ROWS, np.array([0, 1, 2, 5])),
        "0 to 4, got 0 to 5",
    ),
    (
        "few labels",
        lambda: SoftmaxCrossEntropy().forward(ROWS, np.array([0])),
        r"\(4, 5\) and \(1,\)",
    ),
    ("loss backward first", lambda: SoftmaxCrossEntropy().backward(), "needs a forward before it"),
)


@pytest.mark.parametrize(
    ("make", "message"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_mistakes_are_told(make: Callable[[], object], message: str) -> None:
    with pytest.raises((ArgumentError, DtypeError), match=message):
        make()


def test_gradient_of_another_shape_is_told() -> None:
    layer = MyConv(3, 4)
    layer(PICTURES)
    with pytest.raises(ArgumentError, match=r"forward's result \(2, 4, 5, 4\), got \(2, 4, 5, 5\)"):
        layer.backward(np.zeros((2, 4, 5, 5)))


def test_what_is_no_number_is_told() -> None:
    for values in (PICTURES > 0, PICTURES * 1j, np.full(PICTURES.shape, "a")):
        with pytest.raises(DtypeError, match="MyConv: x expects real numbers, got dtype"):
            MyConv(3, 1)(values)
    with pytest.raises(DtypeError, match="labels expect integers, got float64"):
        SoftmaxCrossEntropy().forward(ROWS, np.ones(4))


class Wrong(MyConv):
    """Forgets one tap of one kernel."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = super().backward(dy)
        self.gradients["weight"][1, 2, 0, 1] = 0.0
        return dx


class Forgetful(MyConv):
    """Leaves no gradients."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = super().backward(dy)
        self.gradients = {}
        return dx


def test_a_wrong_backward_is_found_with_its_place() -> None:
    report = check_layer(Wrong(3, 2), PICTURES)
    assert not report.passed
    assert report.reports["input"].passed
    assert not report.reports["weight"].passed
    assert report.reports["weight"].worst == (1, 2, 0, 1)
    assert "Wrong: backward is WRONG" in str(report)
    assert "[1, 2, 0, 1]: 0, by differences" in str(report)


def test_checking_leaves_the_parameters_as_they_were() -> None:
    layer = MyConv(3, 2)
    before = layer.weight.copy()
    check_layer(layer, PICTURES)
    assert np.array_equal(layer.weight, before)


def test_a_backward_without_gradients_is_told() -> None:
    with pytest.raises(ArgumentError, match="none for bias, weight"):
        check_layer(Forgetful(3, 2), PICTURES)


def test_torch_learns_the_same_from_the_same_weights() -> None:
    ours, x = digit_network(), np.random.default_rng(2).random((3, 1, 12, 12))
    theirs = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(144, 10)),
    ).double()
    state = {name: torch.from_numpy(values) for name, values in ours.parameters.items()}
    theirs.load_state_dict(state)
    labels, loss = np.array([3, 1, 4]), SoftmaxCrossEntropy()
    loss.forward(ours(x), labels)
    ours.backward(loss.backward())
    F.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(labels)).backward()
    for name, parameter in theirs.named_parameters():
        assert parameter.grad is not None
        np.testing.assert_allclose(ours.gradients[name], parameter.grad.numpy(), atol=1e-14)
