"""Layers in a row, and gradient descent: what the backward pass is for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from .convolution import MyConv
from .dense import Flatten, Linear, ReLU, SoftmaxCrossEntropy
from .digits import SIDE
from .layer import Array, Layer, whole
from .pooling import MaxPool

Labels = NDArray[np.integer]


class Network(Layer):
    """Layers in a row: forward runs through them, backward runs through them backwards.

        y = f_m( ... f_2(f_1(x)))        dx = J_1^T J_2^T ... J_m^T dy,  the last one first

    `parameters` and `gradients` are those of all layers, named '0.weight', '0.bias', ...
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        if not layers:
            raise ArgumentError("Network: expected one layer or more, got none")
        self.layers = list(layers)
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise ArgumentError(f"Network: expected layers, got {type(layer).__name__}")
        self.parameters = {
            f"{at}.{name}": values
            for at, layer in enumerate(self.layers)
            for name, values in layer.parameters.items()
        }

    def forward(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer.forward(x)
        return self._output(x)

    def backward(self, dy: Array) -> Array:
        dy = self._gradient(dy)
        for at in reversed(range(len(self.layers))):
            dy = self.layers[at].backward(dy)
            for name, values in self.layers[at].gradients.items():
                self.gradients[f"{at}.{name}"] = values
        return dy

    def summary(self, x: Array) -> str:
        """A line per layer: the shape it makes of x, and how many numbers it has learned."""
        lines = [f"{'layer':<12}{'output':<20}{'parameters':>10}", f"{'input':<12}{x.shape!s:<20}"]
        for layer in self.layers:
            x = layer.forward(x)
            count = sum(values.size for values in layer.parameters.values())
            lines.append(f"{layer.name:<12}{x.shape!s:<20}{count:>10,}")
        total = sum(values.size for values in self.parameters.values())
        return "\n".join([*lines, f"{'all':<32}{total:>10,}"])


def digit_network(seed: int = 0) -> Network:
    """Two convolutions and one fully connected layer: 12x12 pictures to ten scores."""
    side = SIDE // 4
    return Network(
        [
            *(MyConv(1, 8, 3, padding=1, seed=seed), ReLU(), MaxPool(2)),
            *(MyConv(8, 16, 3, padding=1, seed=seed + 1), ReLU(), MaxPool(2)),
            *(Flatten(), Linear(16 * side * side, 10, seed=seed + 2)),
        ]
    )


@dataclass
class History:
    """What happened in training."""

    losses: list[float] = field(default_factory=list)  # one per step
    accuracies: list[tuple[int, float]] = field(default_factory=list)  # (steps, on unseen pictures)
    seconds: float = 0.0


def accuracy(network: Layer, x: Array, labels: Labels) -> float:
    """The part of the pictures whose highest score is the right one."""
    said, answers = network.forward(x).argmax(axis=1), np.asarray(labels)
    if answers.shape != said.shape:
        raise ArgumentError(
            f"accuracy: labels expect a number per picture, shape {said.shape}, got {answers.shape}"
        )
    return float((said == answers).mean())


def train(
    network: Network,
    x: Array,
    labels: Labels,
    unseen: tuple[Array, Labels] | None = None,
    epochs: int = 4,
    batch: int = 32,
    rate: float = 0.05,
    momentum: float = 0.9,
    seed: int = 0,
) -> History:
    """Gradient descent with momentum m on batches of pictures; changes the network's parameters.

        v <- m v + df/dw             w <- w - rate v

    Downhill, with some of the direction of the steps before, which evens out the batches.
    """
    if len(x) != len(labels) or not len(x):
        raise ArgumentError(
            f"train: expected as many labels as pictures, got {len(labels)} and {len(x)}"
        )
    epochs, batch = whole("train", "epochs", epochs), whole("train", "batch", batch)
    if not rate > 0:
        raise ArgumentError(f"train: rate expects a positive number, got {rate}")
    loss, history = SoftmaxCrossEntropy(), History()
    velocity = {name: np.zeros_like(values) for name, values in network.parameters.items()}
    started = time.perf_counter()
    if unseen is not None:
        history.accuracies.append((0, accuracy(network, *unseen)))
    for chosen, is_last in _batches(len(x), epochs, batch, seed):
        history.losses.append(loss.forward(network.forward(x[chosen]), labels[chosen]))
        network.backward(loss.backward())
        for name, values in network.parameters.items():
            velocity[name] = momentum * velocity[name] + network.gradients[name]
            values -= rate * velocity[name]  # in place: the layer holds the same array
        if is_last and unseen is not None:
            history.accuracies.append((len(history.losses), accuracy(network, *unseen)))
    history.seconds = time.perf_counter() - started
    return history


def _batches(
    count: int, epochs: int, batch: int, seed: int
) -> Iterator[tuple[NDArray[np.intp], bool]]:
    """The pictures' numbers, shuffled anew for every epoch, and whether the epoch ends."""
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = generator.permutation(count)
        for first in range(0, count, batch):
            yield order[first : first + batch], first + batch >= count
