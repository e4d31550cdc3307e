"""Drawn digits, and a network of the lessons' layers that learns them."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import ArgumentError
from fastconv.lessons import (
    Network,
    SoftmaxCrossEntropy,
    accuracy,
    digit_network,
    drawn_digits,
    train,
)
from fastconv.lessons.dense import Linear

UNSEEN = drawn_digits(300, seed=2)


def test_digits_are_ink_on_paper_and_all_ten_occur() -> None:
    x, labels = drawn_digits(200)
    assert x.shape == (200, 1, 12, 12)
    assert x.min() >= 0
    assert x.max() <= 1
    assert set(labels.tolist()) == set(range(10))
    inked = (x > 0.5).mean(axis=(1, 2, 3))
    assert inked.min() > 0.03
    assert inked.max() < 0.6


def test_same_seed_same_digits() -> None:
    assert np.array_equal(drawn_digits(5, 3)[0], drawn_digits(5, 3)[0])
    assert not np.array_equal(drawn_digits(5, 3)[0], drawn_digits(5, 4)[0])


def test_ink_stays_inside_the_picture() -> None:
    # Strokes end before the border: what reaches the outermost pixels is noise and blunt ends.
    x, _ = drawn_digits(200, seed=7)
    border = np.concatenate([x[:, 0, [0, -1]].ravel(), x[:, 0, :, [0, -1]].ravel()])
    assert (border > 0.6).mean() < 0.02


def test_no_two_pictures_of_a_digit_are_alike() -> None:
    x, labels = drawn_digits(60)
    for digit in range(10):
        alike = x[labels == digit]
        for a in range(len(alike)):
            for b in range(a):
                assert np.abs(alike[a] - alike[b]).mean() > 0.02


@pytest.fixture(scope="module")
def trained() -> tuple[Network, list[float], float]:
    network = digit_network()
    before = accuracy(network, *UNSEEN)
    history = train(network, *drawn_digits(1200, seed=1), unseen=UNSEEN)
    assert history.seconds < 30  # 2 s on two cores of 2024; more is a mistake, not a slow machine
    assert [step for step, _ in history.accuracies] == [0, 38, 76, 114, 152]
    assert history.accuracies[0][1] == before
    return network, history.losses, before


def test_a_network_learns_digits_it_has_not_seen(trained: tuple) -> None:
    network, losses, before = trained
    assert before < 0.3
    assert accuracy(network, *UNSEEN) > 0.95  # seen: 0.99
    assert losses[0] == pytest.approx(np.log(10), abs=0.7)  # guesses
    assert np.mean(losses[-20:]) < 0.15


def test_the_convolutions_take_part_in_the_learning(trained: tuple) -> None:
    network, fresh = trained[0], digit_network()
    for name in ("0.weight", "3.weight", "7.weight"):
        moved = np.linalg.norm(network.parameters[name] - fresh.parameters[name])
        assert moved > 0.3 * np.linalg.norm(fresh.parameters[name]), name


def test_a_linear_layer_alone_does_worse(trained: tuple) -> None:
    class Rows(Linear):
        def forward(self, x: np.ndarray) -> np.ndarray:
            return super().forward(x.reshape(len(x), -1))

    plain = Network([Rows(144, 10)])
    train(plain, *drawn_digits(1200, seed=1))
    assert accuracy(plain, *UNSEEN) < accuracy(trained[0], *UNSEEN)


def test_training_is_repeatable() -> None:
    losses = []
    for _ in range(2):
        history = train(digit_network(), *drawn_digits(64), epochs=1)
        losses.append(history.losses)
    assert losses[0] == losses[1]


def test_momentum_is_the_equation() -> None:
    x, labels = drawn_digits(32)
    network, by_hand = digit_network(), digit_network()
    train(network, x, labels, epochs=2, batch=32, rate=0.05, momentum=0.9)
    loss = SoftmaxCrossEntropy()
    velocity = dict.fromkeys(by_hand.parameters, 0.0)
    for _ in range(2):
        loss.forward(by_hand(x), labels)
        by_hand.backward(loss.backward())
        for name, values in by_hand.parameters.items():
            velocity[name] = 0.9 * velocity[name] + by_hand.gradients[name]
            values -= 0.05 * velocity[name]
    for name, values in network.parameters.items():
        np.testing.assert_allclose(values, by_hand.parameters[name], atol=1e-12)


def test_summary_tells_shapes_and_parameters() -> None:
    summary = digit_network().summary(drawn_digits(1)[0])
    assert "MyConv      (1, 16, 6, 6)            1,168" in summary
    assert summary.splitlines()[-1].split() == ["all", "2,698"]


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"epochs": 1.5}, {"batch": -1}, {"batch": True}, {"rate": 0.0}]
)
def test_bad_settings_are_told(wrong: dict[str, float]) -> None:
    name = next(iter(wrong))
    with pytest.raises(ArgumentError, match=f"{name} expects a (positive number|whole number)"):
        train(digit_network(), *drawn_digits(3), **wrong)  # type: ignore[arg-type]


def test_too_few_labels_are_told() -> None:
    x, labels = drawn_digits(4)
    with pytest.raises(ArgumentError, match="as many labels as pictures, got 3 and 4"):
        train(digit_network(), x, labels[:3])
    with pytest.raises(ArgumentError, match="1 or more, got 0"):
        drawn_digits(0)
