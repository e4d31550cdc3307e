"""What a layer is: forward, backward, parameters and the gradients to them.

Every layer keeps what its backward pass needs from its forward pass.  `backward(dy)` is given the
gradient of some scalar f to the layer's output and returns that to its input; the gradients to
the layer's own parameters stay in `layer.gradients`, under the same names as `layer.parameters`.
By the chain rule, each is a sum over all the paths by which something reaches f:

    df/dx_k = sum_i  df/dy_i  dy_i/dx_k

Arrays are float64 throughout: x (n, c, h, w) for pictures, (n, features) behind `Flatten`.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DtypeError

Array = NDArray[np.float64]


def whole(owner: str, name: str, value: Any) -> int:
    """`value` as a whole number of 1 or more."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ArgumentError(f"{owner}: {name} expects a whole number of 1 or more, got {value!r}")
    return number


class Layer:
    """A function with a backward pass.  Layers with nothing to learn have no parameters."""

    parameters: dict[str, Array]
    gradients: dict[str, Array]

    def __init__(self) -> None:
        self.parameters, self.gradients = {}, {}
        self._output_shape: tuple[int, ...] | None = None

    def forward(self, x: Array) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array) -> Array:
        raise NotImplementedError

    def __call__(self, x: Array) -> Array:
        return self.forward(x)

    @property
    def name(self) -> str:
        return type(self).__name__

    def _input(self, x: Any, dimensions: str = "") -> Array:
        """x as float64, if it has the named dimensions, say 'n c h w', or any."""
        values = np.asarray(x)
        if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
            raise DtypeError(f"{self.name}: x expects real numbers, got dtype {values.dtype}")
        names = dimensions.split()
        if names and values.ndim != len(names):
            raise ArgumentError(
                f"{self.name}: x expects {len(names)} dimensions ({', '.join(names)}), "
                f"got shape {values.shape}"
            )
        return values.astype(np.float64)

    def _output(self, y: Array) -> Array:
        self._output_shape = y.shape
        return y

    def _gradient(self, dy: Any) -> Array:
        """dy as float64, if forward has run and dy has its output's shape."""
        if self._output_shape is None:
            raise ArgumentError(f"{self.name}: backward needs a forward before it")
        values = np.asarray(dy, dtype=np.float64)
        if values.shape != self._output_shape:
            raise ArgumentError(
                f"{self.name}: dy expects the shape of forward's result {self._output_shape}, "
                f"got {values.shape}"
            )
        return values
