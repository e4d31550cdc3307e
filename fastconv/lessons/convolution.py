"""MyConv: the convolution as a layer, forward and backward, in plain NumPy."""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError
from ..geometry import IntOrPair
from .layer import Array, Layer, whole
from .windows import pad, pair, sizes, unpad, windows


class MyConv(Layer):
    """A convolution: the same small kernel is applied to every window of the picture.

        y[n,o,i,j]  = b[o] + sum_cuv  w[o,c,u,v] x[n, c, i s + u - p, j s + v - p]

    Backward, each y[n,o,i,j] sends its dy back to all that it was made from:

        dx[n,c,k,l] = sum  w[o,c,u,v] dy[n,o,i,j]     over all o, i, j, u, v with i s + u - p = k,
                                                      j s + v - p = l: the windows that hold (k,l)
        dw[o,c,u,v] = sum_nij  dy[n,o,i,j] x[n, c, i s + u - p, j s + v - p]
        db[o]       = sum_nij  dy[n,o,i,j]

    Shapes: x (n, c_in, h, w), w (c_out, c_in, kh, kw), b (c_out,), y (n, c_out, out_h, out_w).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: IntOrPair = 3,
        stride: IntOrPair = 1,
        padding: IntOrPair | str = 0,
        bias: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        c_in, c_out = whole("MyConv", "c_in", c_in), whole("MyConv", "c_out", c_out)
        kernel = pair("MyConv", kernel_size, "kernel_size", 1)
        pair("MyConv", stride, "stride", 1)
        shape = (c_out, c_in, *kernel)
        # He et al. 2015: the variance 2 / (products per sum) keeps the scale through ReLUs.
        spread = np.sqrt(2 / (c_in * kernel[0] * kernel[1]))
        self.stride, self.padding = stride, padding
        self.parameters["weight"] = np.random.default_rng(seed).normal(0, spread, shape)
        if bias:
            self.parameters["bias"] = np.zeros(c_out)

    @property
    def weight(self) -> Array:
        return self.parameters["weight"]

    def forward(self, x: Array) -> Array:
        x = self._input(x, "n c h w")
        if x.shape[1] != self.weight.shape[1]:
            raise ArgumentError(
                f"MyConv: x expects {self.weight.shape[1]} channels, got shape {x.shape}"
            )
        self.g = sizes(self.name, x.shape, self.weight.shape, self.stride, self.padding)
        self.padded = pad(x, self.g)
        y = np.empty(self.g.output_shape)
        for i, j, rows, columns in windows(self.g):
            window = self.padded[:, :, rows, columns]  # (n, c, u, v)
            y[:, :, i, j] = np.tensordot(window, self.weight, ([1, 2, 3], [1, 2, 3]))  # (n, o)
        if "bias" in self.parameters:
            y += self.parameters["bias"][:, None, None]
        return self._output(y)

    def backward(self, dy: Array) -> Array:
        dy = self._gradient(dy)
        dx, dw = np.zeros(self.g.padded_shape), np.zeros(self.g.weight_shape)
        for i, j, rows, columns in windows(self.g):
            sent = dy[:, :, i, j]  # (n, o)
            dx[:, :, rows, columns] += np.tensordot(sent, self.weight, ([1], [0]))
            dw += np.tensordot(sent, self.padded[:, :, rows, columns], ([0], [0]))
        self.gradients["weight"] = dw
        if "bias" in self.parameters:
            self.gradients["bias"] = dy.sum(axis=(0, 2, 3))
        return unpad(dx, self.g)
