"""How the gradients of a float16 network are kept within float16's range.

float16 ends at 65504, and what is below 6e-8 is lost in it.  Where the objective's gradient lies
between them depends on the losses' weights, and it shrinks as the loss does: with the built-in
network at 256 pixels, the quality preset has room for factors of 2^-12 to 2^12, the gatys preset
begins with 2^6 at most and has 2^12 later.  So the gradient is multiplied by a factor where it
enters the network from behind, and divided by it again where it leaves in front:

    losses, float32 --- x s ---> network, float16 --- / s ---> picture, float32

s is a power of two, which rounds nothing.  It is as large as it can be: a gradient that is not
finite makes it smaller and is computed again, and after a while without one it is tried larger.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

State = dict[str, Any]


class _Scaled(torch.autograd.Function):
    """x itself; its gradient is multiplied by `factor`, which is read when that comes by."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:  # type: ignore[override]
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return dy * ctx.factor, None


class GradientScale:
    """The factor s, which lives on the device: a recorded evaluation reads it anew each time."""

    FIRST, LEAST, MOST = 2.0**8, 2.0**-40, 2.0**40
    PATIENCE = 100  # evaluations without overflow until a larger factor is tried

    def __init__(self) -> None:
        self.value, self.passed = self.FIRST, 0
        self._factor, self._inverse = torch.ones(2)
        self._write()

    def _write(self) -> None:
        self._factor.fill_(self.value)
        self._inverse.fill_(1 / self.value)

    def in_front(self, picture: Tensor) -> Tensor:
        """What goes into the network."""
        if self._factor.device != picture.device:
            self._factor, self._inverse = (
                t.to(picture.device) for t in (self._factor, self._inverse)
            )
        return _Scaled.apply(picture, self._inverse)  # type: ignore[no-any-return]

    def behind(self, output: Tensor) -> Tensor:
        """What comes out of it, float32."""
        return _Scaled.apply(output, self._factor)  # type: ignore[no-any-return]

    def lower(self) -> bool:
        """After an overflow: True if a smaller factor is worth another evaluation."""
        self.passed = 0
        if self.value <= self.LEAST:
            return False
        self.value /= 16
        self._write()
        return True

    def passes(self) -> None:
        """After an evaluation whose gradient was finite."""
        self.passed += 1
        if self.passed >= self.PATIENCE and self.value < self.MOST:
            self.passed, self.value = 0, self.value * 4
            self._write()

    def state(self) -> State:
        return {"value": self.value, "passed": self.passed}

    def load(self, state: State) -> None:
        self.value, self.passed = state["value"], state["passed"]
        self._write()
