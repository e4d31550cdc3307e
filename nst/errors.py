"""The exceptions of nst.

    NstError
     `- UserError (ValueError)     what the user can mend; the command line exits with 2
         |- ConfigError            an option's value that cannot work
         |- PictureError           a picture that cannot be read or used
         |- OutputError            a result that cannot be written
         |- LayerError             a layer that the network does not have
         |- WeightsError           weights that are missing, damaged, or of another network
         `- CheckpointError        a checkpoint that is damaged, or of another run or version

Each message is one line: what was expected, what came, and how to mend it.
"""

from __future__ import annotations

from collections.abc import Iterable


class NstError(Exception):
    """The base of every error that nst raises on purpose."""


class UserError(NstError, ValueError):
    """A mistake that the user can mend."""


class ConfigError(UserError):
    """An option's value that cannot work."""


class PictureError(UserError):
    """A picture that cannot be read or used."""


class OutputError(UserError):
    """A result that cannot be written."""


class LayerError(UserError):
    """A layer that the network does not have."""


class WeightsError(UserError):
    """Weights that are missing, damaged, or made for another network."""


class CheckpointError(UserError):
    """A checkpoint that is damaged, or of another run or version."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """fastconv's hint for a mistyped word, imported when needed: fastconv brings torch along."""
    from fastconv.errors import did_you_mean as hint

    return hint(word, choices)
