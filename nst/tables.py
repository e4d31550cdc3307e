"""Tables of what can be named: built-in rows, and `module:name` for what is not built in.

Losses, optimisers and networks are rows of such tables.  A table is light to import: a row says
where its code is, and the code (with torch) is imported when the row is first used.  A user's own
object is given as itself in Python, and as `module:name` on the command line.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError, did_you_mean

OWN = "own:"  # how settings in a file name an object that no module can be asked for


@dataclass(frozen=True)
class Row:
    """What a row is, in words, and the `module:name` that computes it."""

    about: str
    where: str


def check_word(option: str, value: Any, choices: Iterable[str]) -> None:
    """ConfigError unless `value` is an object, one of the choices, or `module:name`."""
    words = list(choices)
    if isinstance(value, str) and value not in words and ":" not in value:
        raise ConfigError(f"{option} has no choice {value!r}: {did_you_mean(value, words)}")


def found(option: str, value: Any, table: Mapping[str, Row]) -> Any:
    """What `value` names: a row's code, a user's `module:name`, or the object that it is."""
    if not isinstance(value, str):
        return value
    check_word(option, value, table)
    return load(option, table[value].where if value in table else value)


def load(option: str, where: str) -> Any:
    """The object called `name` in `module`, of a word `module:name`."""
    if where.startswith(OWN):
        raise ConfigError(f"{option} was an object given in Python ({where}): give it again")
    module, _, name = where.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ConfigError(f"{option} {where}: {module!r} cannot be imported: {error}") from None
    except AttributeError:
        raise ConfigError(f"{option} {where}: module {module!r} has no {name!r}") from None


def made(option: str, value: Any, table: Mapping[str, Row]) -> Any:
    """The same, and an instance of it if it is a class."""
    code = found(option, value, table)
    return code() if isinstance(code, type) else code


def word_of(value: Any) -> str:
    """How settings name a choice: its word, or `own:` and the name of an object or of its class."""
    return (
        value if isinstance(value, str) else OWN + getattr(value, "__name__", type(value).__name__)
    )


def metavar(choices: Iterable[str]) -> str:
    """What the help page shows for an option: `adam|lbfgs|MODULE:NAME`."""
    return "|".join([*choices, "MODULE:NAME"])
