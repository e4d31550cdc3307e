"""MaxPool and AvgPool: a window that keeps one number of each channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..geometry import IntOrPair
from .layer import Array, Layer
from .windows import pad, pair, sizes, unpad, windows


class _Pool(Layer):
    """What both poolings share: a window per channel, which by default does not overlap."""

    def __init__(
        self, kernel_size: IntOrPair = 2, stride: IntOrPair | None = None, padding: IntOrPair = 0
    ) -> None:
        super().__init__()
        self.kernel = pair(self.name, kernel_size, "kernel_size", 1)
        self.stride = self.kernel if stride is None else pair(self.name, stride, "stride", 1)
        self.padding = pair(self.name, padding, "padding", 0)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel, strict=True)):
            raise ArgumentError(
                f"{self.name}: padding expects half the kernel {self.kernel} at most, so that no "
                f"window lies outside the picture; got {padding}"
            )

    def _look(self, x: Any, frame: float) -> None:
        x = self._input(x, "n c h w")
        one_each = (x.shape[1], 1, *self.kernel)
        self.g = sizes(self.name, x.shape, one_each, self.stride, self.padding, x.shape[1])
        self.padded = pad(x, self.g, frame)


class MaxPool(_Pool):
    """y[n,c,i,j] = max_uv x[n, c, i s + u - p, j s + v - p]: is the thing anywhere near here?

    Backward, only the winner of a window was heard, so only it gets the window's dy; of equals,
    the first in reading order.  Padding is -infinity, which never wins.
    """

    def forward(self, x: Array) -> Array:
        self._look(x, -np.inf)
        y = np.empty(self.g.output_shape)
        for i, j, rows, columns in windows(self.g):
            y[:, :, i, j] = self.padded[:, :, rows, columns].max(axis=(2, 3))
        return self._output(y)

    def backward(self, dy: Array) -> Array:
        dy, dx = self._gradient(dy), np.zeros(self.g.padded_shape)
        n, c = np.ogrid[: self.g.n, : self.g.c_in]
        for i, j, rows, columns in windows(self.g):
            window = self.padded[:, :, rows, columns]
            u, v = np.divmod(window.reshape(*window.shape[:2], -1).argmax(axis=2), self.g.kw)
            dx[n, c, rows.start + u, columns.start + v] += dy[:, :, i, j]
        return unpad(dx, self.g)


class AvgPool(_Pool):
    """y[n,c,i,j] = 1/(kh kw) sum_uv x[n, c, i s + u - p, j s + v - p].

    Backward, every element of a window had an equal say and gets an equal part: dy / (kh kw).
    Padding is 0 and counts, as in torch.
    """

    def forward(self, x: Array) -> Array:
        self._look(x, 0.0)
        y = np.empty(self.g.output_shape)
        for i, j, rows, columns in windows(self.g):
            y[:, :, i, j] = self.padded[:, :, rows, columns].mean(axis=(2, 3))
        return self._output(y)

    def backward(self, dy: Array) -> Array:
        dy, dx = self._gradient(dy), np.zeros(self.g.padded_shape)
        for i, j, rows, columns in windows(self.g):
            dx[:, :, rows, columns] += dy[:, :, i, j, None, None] / (self.g.kh * self.g.kw)
        return unpad(dx, self.g)
