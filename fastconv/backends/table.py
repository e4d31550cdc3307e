"""The table of backends; light to import, so that help can list them without torch.

The rows stand in the order in which `auto` tries them.
"""

from __future__ import annotations

from dataclasses import dataclass

AUTO = "auto"


@dataclass(frozen=True)
class Row:
    """One backend: where it lives, what it is, and what to do when it is missing."""

    name: str
    module: str
    about: str
    remedy: str


ROWS = (
    Row(
        "native",
        "fastconv.backends.native",
        "C++ extension, own kernels chosen for this processor",
        "build it with `pip install .` in the project's folder (it needs a C++17 compiler)",
    ),
    Row(
        "torch",
        "fastconv.backends.torch",
        "torch.nn.functional.conv2d, the yardstick",
        "install torch",
    ),
    Row(
        "numba",
        "fastconv.backends.numba",
        "NumPy arrays, JIT-compiled im2col and a matrix product",
        "`pip install numba`",
    ),
    Row(
        "naive",
        "fastconv.backends.naive",
        "NumPy loops, the specification",
        "`pip install numpy`",
    ),
)
TABLE = {row.name: row for row in ROWS}
CHOICES = (AUTO, *TABLE)
