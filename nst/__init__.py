"""nst: neural style transfer, from two pictures to a finished one.

    import nst
    result = nst.stylize("photo.jpg", "painting.jpg", size=512)
    result.image.save("out.png")

The names are loaded when they are first used: `nst --help` need not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_HOMES = {
    "Observer": "run.observer",
    "Picture": "pictures.sizing",
    "Result": "run.result",
    "Step": "run.step",
    "StyleConfig": "config.options",
    "Stylizer": "api",
    "iterate": "api",
    "load_picture": "pictures.sizing",
    "stylize": "api",
}

if TYPE_CHECKING:
    from .api import Stylizer, iterate, stylize
    from .config.options import StyleConfig
    from .pictures.sizing import Picture, load_picture
    from .run.observer import Observer
    from .run.result import Result
    from .run.step import Step

__all__ = [
    "Observer",
    "Picture",
    "Result",
    "Step",
    "StyleConfig",
    "Stylizer",
    "__version__",
    "iterate",
    "load_picture",
    "stylize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nst' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nst.{_HOMES[name]}"), name)
