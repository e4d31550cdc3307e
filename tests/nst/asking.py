"""What tells whether a device would be asked for a number, where there is only a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Operators that tell a number, or whose result's shape depends on numbers.
OPERATORS = ("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero",
             "aten::masked_select", "aten::equal", "aten::unique")  # fmt: skip
# On a CPU these look into memory without an operator.
METHODS = ("tolist", "item", "numpy", "cpu", "__bool__", "__float__", "__int__")


class _Watch(TorchDispatchMode):
    def __init__(self, asked: Callable[[str], None]) -> None:
        super().__init__()
        self.asked = asked

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in OPERATORS:
            self.asked(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def questions() -> Iterator[list[str]]:
    """What is asked of tensors within it, in order."""
    found: list[str] = []
    kept = {name: getattr(Tensor, name) for name in METHODS}

    def asking(name: str) -> Callable[..., Any]:
        def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            found.append(name)
            with torch.utils._python_dispatch._disable_current_modes():
                return kept[name](self, *args, **kwargs)

        return method

    own = {name for name in METHODS if name in vars(Tensor)}
    try:
        for name in METHODS:
            setattr(Tensor, name, asking(name))
        with _Watch(found.append):
            yield found
    finally:
        for name in METHODS:
            if name in own:
                setattr(Tensor, name, kept[name])
            else:  # torch's base class has it
                delattr(Tensor, name)
