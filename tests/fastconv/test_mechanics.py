"""The pictures of the mechanics: the numbers in them are right, and they are drawn."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from fastconv import ArgumentError, figures, mechanics
from fastconv.lessons import MyConv, check_layer, digit_network, drawn_digits, pictures
from fastconv.lessons.network import History
from fastconv.mechanics.grids import number
from fastconv.mechanics.sliding import sum_of_products
from fastconv.tools.demo import drawn_picture

X = np.random.default_rng(0).integers(-2, 4, (6, 8)).astype(float)
SMALL = X[:4, :5]
KERNEL = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def texts(figure: figures.Figure) -> list[str]:
    return [text.get_text() for panel in figure.axes for text in panel.texts]


def changed(before: Image.Image, after: Image.Image) -> bool:
    return before.size != after.size or before.tobytes() != after.tobytes()


# ---------------------------------------------------------------- sliding, sending


@pytest.mark.parametrize(("stride", "padding"), [(2, 1), (1, 0)])
def test_a_frame_for_every_output_and_each_shows_something_new(stride: int, padding: int) -> None:
    out_h, out_w = F.conv2d(
        torch.from_numpy(SMALL)[None, None],
        torch.from_numpy(KERNEL)[None, None],
        None,
        stride,
        padding,
    ).shape[2:]
    frames = mechanics.forward_frames(SMALL, KERNEL, stride, padding, dpi=40)
    assert len(frames) == out_h * out_w
    assert len({frame.size for frame in frames}) == 1
    assert all(changed(a, b) for a, b in pairwise(frames))


def test_the_sum_is_written_out() -> None:
    window = np.array([[1.0, 2.0], [3.0, 0.5]])
    words = sum_of_products(window, np.array([[1.0, 0.0], [-2.0, 4.0]]))
    assert words == "1·1 + 3·(-2) + 0.5·4 = -3"
    assert sum_of_products(window, np.zeros((2, 2))) == "0 = 0"
    assert sum_of_products(np.ones((4, 4)), np.ones((4, 4))).endswith("+ ... = 16")


def test_the_last_frame_of_backward_shows_the_finished_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[tuple[str, np.ndarray]] = []
    from fastconv.mechanics import sending

    def spy(panel: object, values: np.ndarray, title: str = "", **_: object) -> None:
        drawn.append((title, values.copy()))

    monkeypatch.setattr(sending, "draw_grid", spy)
    dy = np.random.default_rng(1).integers(-2, 3, (2, 3)).astype(float)
    frames = mechanics.backward_frames(SMALL, KERNEL, dy, stride=2, padding=1, dpi=20)
    assert len(frames) == 6
    last = dict(drawn[-5:])
    x, w = torch.tensor(SMALL[None, None]), torch.tensor(KERNEL[None, None])
    x.requires_grad_()
    w.requires_grad_()
    F.conv2d(x, w, None, 2, 1).backward(torch.from_numpy(dy)[None, None])
    assert x.grad is not None
    assert w.grad is not None
    np.testing.assert_allclose(last["dx so far"][1:-1, 1:-1], x.grad[0, 0].numpy())
    np.testing.assert_allclose(last["dw so far"], w.grad[0, 0].numpy())


def test_frames_become_an_animation() -> None:
    frames = mechanics.backward_frames(X[:3, :4], KERNEL, [[1, 2]], dpi=40)
    with Image.open(io.BytesIO(figures.gif(frames, milliseconds=200, last=900))) as animation:
        assert animation.n_frames == 2
        assert animation.info["duration"] == 200
        assert animation.info["loop"] == 0
        animation.seek(1)
        assert animation.info["duration"] == 900
        assert animation.size == frames[0].size


# ---------------------------------------------------------------- columns


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), ((2, 3), 2, 0), (1, 3, 2)])
def test_im2col_is_torch_unfold(kernel: int, stride: int, padding: int) -> None:
    x = np.random.default_rng(2).normal(size=(3, 6, 7))
    expected = F.unfold(torch.from_numpy(x)[None], kernel, 1, padding, stride)[0]
    np.testing.assert_array_equal(mechanics.im2col(x, kernel, stride, padding), expected.numpy())


def test_im2col_figure_counts_the_copies() -> None:
    figure = mechanics.im2col_figure(X[:4, :4], KERNEL)
    assert figure.get_supxlabel() == "16 numbers of x became 36: 2.2 times as many"
    assert len(texts(figure)) == 16 + 36 + 9 + 4


# ---------------------------------------------------------------- Winograd


@pytest.mark.parametrize("m", [2, 4, 6])
def test_winograd_is_the_convolution(m: int) -> None:
    tools, generator = mechanics.winograd_matrices(m), np.random.default_rng(m)
    for _ in range(20):
        tile, kernel = generator.normal(size=(m + 2, m + 2)), generator.normal(size=(3, 3))
        direct = F.conv2d(*(torch.from_numpy(each)[None, None] for each in (tile, kernel)))[0, 0]
        found = tools.output(tools.input(tile) * tools.kernel(kernel))
        np.testing.assert_allclose(found, direct.numpy(), atol=1e-11)


@pytest.mark.parametrize("m", [2, 4, 6])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 7, 9), (1, 5, 12, 6)])
def test_winograd_of_whole_pictures(m: int, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    weight = torch.randn(4, shape[1], 3, 3, dtype=torch.float64)
    found = mechanics.winograd_matrices(m).convolve(x, weight)
    torch.testing.assert_close(found, F.conv2d(x, weight, padding=1), rtol=1e-9, atol=1e-10)


def test_winograd_matrices_of_two_are_those_of_the_paper() -> None:
    tools = mechanics.winograd_matrices(2)
    assert tools.a.tolist() == [[1, 1, 1, 0], [0, 1, -1, 1]]
    assert tools.g.tolist() == [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
    # The last row's sign belongs to the point at infinity; A's last column agrees with it.
    assert tools.b.tolist() == [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]


@pytest.mark.parametrize(("m", "words"), [(2, "16 products\ninstead of 36"), (4, "36 products")])
def test_winograd_figure_shows_both_results_alike(m: int, words: str) -> None:
    figure = mechanics.winograd_figure(X, KERNEL, m)
    panels = {panel.get_title(loc="left"): panel for panel in figure.axes}
    shown = [[t.get_text() for t in panels[k].texts] for k in ("Y = Aᵀ M A", "y, directly")]
    assert shown[0] == shown[1]
    assert len(shown[0]) == m * m
    assert any(text.startswith(words) for text in texts(figure))


# ---------------------------------------------------------------- receptive fields


def test_receptive_fields_are_where_the_gradient_arrives() -> None:
    side = 200
    fields = mechanics.receptive_fields()
    # One channel, positive weights, average pooling: whatever is seen has a gradient.
    x = torch.rand(1, 1, side, side, requires_grad=True)
    y: torch.Tensor = x
    for (name, kernel, stride, padding), field in zip(mechanics.VGG19, fields):
        if name.startswith("conv"):
            y = F.conv2d(y, torch.ones(1, 1, 3, 3) / 9, None, stride, padding)
        else:
            y = F.avg_pool2d(y, kernel, stride, padding)
        i = y.shape[-1] // 2
        (gradient,) = torch.autograd.grad(y[0, 0, i, i], x, retain_graph=True)
        seen = gradient[0, 0].any(1).nonzero().flatten().tolist()
        first, last = field.reach(i)
        assert (seen[0], seen[-1]) == (max(first, 0), min(last, side - 1)), name


def test_known_fields_of_vgg19() -> None:
    sizes = {field.name: (field.size, field.step) for field in mechanics.receptive_fields()}
    assert sizes["conv1_1"] == (3, 1)
    assert sizes["pool1"] == (6, 2)
    assert sizes["conv5_1"] == (156, 16)
    table = mechanics.receptive_table(mechanics.receptive_fields())
    assert "conv5_1       156 px   16 px" in table


def test_receptive_figure_frames_each_layer() -> None:
    figure = mechanics.receptive_figure(drawn_picture(128), ("conv3_1", "conv4_1"))
    assert [text for text in texts(figure) if ":" in text] == ["conv3_1: 24", "conv4_1: 68"]


# ---------------------------------------------------------------- figures of the lessons


def test_gradient_figure_frames_the_worst_element() -> None:
    report = check_layer(MyConv(2, 3), np.random.default_rng(0).normal(size=(1, 2, 5, 5)))
    figure = pictures.gradient_figure(report)
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert "weight (3, 2, 3, 3)\nby backward" in titles
    frames = [panel.patches[0].get_xy() for panel in figure.axes if panel.patches]
    at = np.unravel_index(
        np.ravel_multi_index(report.reports["weight"].worst, (3, 2, 3, 3)), (3, 18)
    )
    assert (at[1] - 0.5, at[0] - 0.5) in frames


def test_lessons_figures_are_drawn() -> None:
    x, labels = drawn_digits(40)
    network = digit_network()
    history = History([2.3, 2.0, 1.5, 1.2, 1.0, 0.8, 0.7, 0.6], [(4, 0.5), (8, 0.75)])
    for figure in (
        pictures.digits_figure(x, labels, network),
        pictures.learning_figure(history),
        pictures.kernels_figure(network, x[0]),
    ):
        image = figures.picture(figure, 50)
        assert np.asarray(image).std() > 10
        assert figures.png(figure, 50).startswith(b"\x89PNG")


def test_numbers_are_short() -> None:
    values = (0, 1e-17, -0.5, 1 / 12, 3, -72, 9.96, 123.4)
    assert [number(v) for v in values] == ["0", "0", "-0.5", "0.083", "3", "-72", "10", "123"]


# ---------------------------------------------------------------- mistakes

MISTAKES: tuple[tuple[Callable[[], object], str], ...] = (
    (lambda: mechanics.forward_frames(X[0], KERNEL), r"x expects a matrix .* got shape \(8,\)"),
    (lambda: mechanics.forward_frames(np.ones((11, 3)), KERNEL), "10x10 at most"),
    (lambda: mechanics.forward_frames(np.ones((2, 2)), KERNEL), "kernel's height"),
    (lambda: mechanics.forward_frames(np.ones((10, 10)), [[1]], 1, 1), "100 outputs at most"),
    (lambda: mechanics.backward_frames(X, KERNEL, [[1]]), r"shape \(4, 6\), got \(1, 1\)"),
    (lambda: mechanics.im2col(X, 3), r"shape \(c, h, w\), got \(6, 8\)"),
    (lambda: mechanics.winograd_matrices(3), "one of 2, 4, 6, got 3"),
    (lambda: mechanics.winograd_figure(X, KERNEL[:2]), "a 3x3 kernel"),
    (lambda: mechanics.winograd_figure(X[:3], KERNEL), "4x4 or more"),
    (lambda: mechanics.receptive_fields([("odd", 0, 1, 0)]), "odd expects kernel and stride"),
    (lambda: mechanics.receptive_figure(drawn_picture(64), ["conv9"]), "unknown layer 'conv9'"),
    (lambda: figures.gif([]), "one frame or more"),
    (lambda: pictures.learning_figure(History()), "one step or more"),
    (lambda: pictures.digits_figure(np.ones((2, 1, 3, 3)), np.ones(3, int)), "got 3 and 2"),
)


@pytest.mark.parametrize(("make", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes_are_told(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
