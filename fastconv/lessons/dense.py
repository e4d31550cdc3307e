"""What comes behind the convolutions: ReLU, Flatten, Linear and the loss, softmax cross-entropy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DtypeError
from .layer import Array, Layer, whole


class ReLU(Layer):
    """y = max(x, 0), element by element; backward dx = dy where x > 0, else 0.

    Without it, two linear layers in a row would be one.
    """

    def forward(self, x: Array) -> Array:
        values = self._input(x)
        self.passed = values > 0
        return self._output(np.maximum(values, 0.0))

    def backward(self, dy: Array) -> Array:
        return self._gradient(dy) * self.passed


class Flatten(Layer):
    """(n, c, h, w) -> (n, c h w), and back: the same numbers in one row per picture."""

    def forward(self, x: Array) -> Array:
        x = self._input(x, "n c h w")
        self.shape = x.shape
        return self._output(x.reshape(x.shape[0], -1))

    def backward(self, dy: Array) -> Array:
        return self._gradient(dy).reshape(self.shape)


class Linear(Layer):
    """Fully connected: y[n,o] = b[o] + sum_f w[o,f] x[n,f], in matrices y = x w^T + b.

    Backward: dx = dy w, dw = dy^T x, db = sum_n dy[n].
    Shapes: x (n, features), w (outputs, features), b (outputs,), y (n, outputs).
    """

    def __init__(self, features: int, outputs: int, bias: bool = True, seed: int = 0) -> None:
        super().__init__()
        features = whole("Linear", "features", features)
        outputs = whole("Linear", "outputs", outputs)
        values = np.random.default_rng(seed).normal(0, np.sqrt(1 / features), (outputs, features))
        self.parameters["weight"] = values
        if bias:
            self.parameters["bias"] = np.zeros(outputs)

    def forward(self, x: Array) -> Array:
        self.x, w = self._input(x, "n features"), self.parameters["weight"]
        if self.x.shape[1] != w.shape[1]:
            raise ArgumentError(
                f"Linear: x expects {w.shape[1]} features, got shape {self.x.shape}"
            )
        return self._output(self.x @ w.T + self.parameters.get("bias", 0.0))

    def backward(self, dy: Array) -> Array:
        dy = self._gradient(dy)
        self.gradients["weight"] = dy.T @ self.x
        if "bias" in self.parameters:
            self.gradients["bias"] = dy.sum(axis=0)
        return dy @ self.parameters["weight"]


class SoftmaxCrossEntropy:
    """How surprised the network is by the right answers: the end of the forward pass.

        p[n,k] = exp(x[n,k]) / sum_m exp(x[n,m])         loss = -1/N sum_n log p[n, label_n]

    Backward, softmax and logarithm cancel to the plainest of all gradients:

        dx[n,k] = (p[n,k] - [k = label_n]) / N

    Shapes: x (n, classes) scores of any size, labels (n,) integers, loss a number.
    """

    def forward(self, x: Array, labels: NDArray[np.integer]) -> float:
        scores, answers = np.asarray(x, dtype=np.float64), np.asarray(labels)
        if scores.ndim != 2 or answers.shape != scores.shape[:1] or not len(answers):
            raise ArgumentError(
                "SoftmaxCrossEntropy: expected x (n, classes) and labels (n,) with n >= 1, "
                f"got shapes {scores.shape} and {answers.shape}"
            )
        if not np.issubdtype(answers.dtype, np.integer):
            raise DtypeError(f"SoftmaxCrossEntropy: labels expect integers, got {answers.dtype}")
        if answers.min() < 0 or answers.max() >= scores.shape[1]:
            raise ArgumentError(
                f"SoftmaxCrossEntropy: labels expect 0 to {scores.shape[1] - 1}, "
                f"got {answers.min()} to {answers.max()}"
            )
        # exp overflows beyond 709; the same number taken from all scores changes no p.
        shifted = scores - scores.max(axis=1, keepdims=True)
        logarithms = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        self.probabilities, self.labels = np.exp(logarithms), answers
        return float(-logarithms[np.arange(len(answers)), answers].mean())

    def backward(self) -> Array:
        if not hasattr(self, "labels"):
            raise ArgumentError("SoftmaxCrossEntropy: backward needs a forward before it")
        dx = self.probabilities.copy()
        dx[np.arange(len(self.labels)), self.labels] -= 1
        return dx / len(self.labels)
