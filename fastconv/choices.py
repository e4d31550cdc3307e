"""A choice that is one for the whole process: by a call, by the environment, or by default.

    use_backend("numba")            as a statement, until the next one
    with use_backend("numba"): ...  until the block ends, whichever way it ends

The environment is read once, when fastconv is imported: reading it takes 0.4 us each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, TypeVar

Self = TypeVar("Self", bound="Choosing")


class Choice:
    """One such choice, and the name that is in force."""

    def __init__(self, variable: str, default: str, checked: Callable[[str], str]) -> None:
        self.chosen: str | None = None
        self.from_environment = os.environ.get(variable) or default
        self.checked = checked

    @property
    def name(self) -> str:
        """The name in force; the environment's is checked where it is used."""
        return self.chosen or self.from_environment


class Choosing:
    """Makes a choice at once; in a `with` block, takes it back at the end."""

    choice: ClassVar[Choice]

    def __init__(self, name: str | None) -> None:
        if name is not None:
            self.choice.checked(name)
        self._before, self.choice.chosen = self.choice.chosen, name

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.choice.chosen = self._before
