"""For learning: layers in plain NumPy, their gradients checked, and a network that learns digits.

    gradients   a gradient by central differences, and how to check another one against it
    layer       what a layer is
    windows     where the sliding window stops
    convolution, pooling, dense    the layers, each with its equations
    network     layers in a row, training by gradient descent
    digits      drawn digits, the task that the network learns
    pictures    all of that as figures (needs matplotlib)

Nothing here is fast.  The convolution is the one of `fastconv.backends.naive`, the specification
that every backend is tested against, written once more for a reader who meets it for the first
time; a test holds the two together.
"""

from __future__ import annotations

from .convolution import MyConv
from .dense import Flatten, Linear, ReLU, SoftmaxCrossEntropy
from .digits import drawn_digits
from .gradients import (
    GradientReport,
    LayerReport,
    check_gradient,
    check_layer,
    numerical_gradient,
)
from .layer import Layer
from .network import History, Network, accuracy, digit_network, train
from .pooling import AvgPool, MaxPool

__all__ = [
    "AvgPool",
    "Flatten",
    "GradientReport",
    "History",
    "Layer",
    "LayerReport",
    "Linear",
    "MaxPool",
    "MyConv",
    "Network",
    "ReLU",
    "SoftmaxCrossEntropy",
    "accuracy",
    "check_gradient",
    "check_layer",
    "digit_network",
    "drawn_digits",
    "numerical_gradient",
    "train",
]
