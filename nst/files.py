"""Files that are read: regular ones of a bounded size, and what is wrong with any other in words.

A pipe or a device may have no end, or wait for ever for somebody to write into it.  So what a path
leads to is asked before it is opened, and no more is read than the file's size at that moment.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

from .errors import UserError

TOO_LONG = "has a name that is too long for the system; choose a shorter one"
# A picture of as many pixels as are taken, four channels of 16 bits, stored as it is: 1.4 GB.
LARGEST_PICTURE = 2 * 2**30
LARGEST_WEIGHTS = 8 * 2**30  # VGG19 with its classifier has 0.55
LARGEST_TEXT = 2**20


def shown(path: str | os.PathLike[str]) -> str:
    """A path on one line of a message: a name too long to be one is shortened."""
    text = str(path)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 250 else f"{text[:60]}...{text[-20:]} ({len(text)} characters)"


def check_file(path: Path, kind: type[UserError], what: str = "", largest: int = 2**63) -> None:
    """Raise `kind` unless a regular file of at most `largest` bytes can be read at `path`.

    `what` stands before its name in the message: `checkpoint`, `weights file`.
    """
    trouble = _trouble(path, largest)
    if trouble is not None:
        raise kind(f"{what} {shown(path)} {trouble}".lstrip())


def read_file(path: Path, kind: type[UserError], what: str = "", largest: int = 2**63) -> bytes:
    """The bytes of a regular file, checked as above."""
    check_file(path, kind, what, largest)
    try:
        with path.open("rb") as file:
            return file.read(os.fstat(file.fileno()).st_size)
    except OSError as error:
        reason = error.strerror or str(error)
        raise kind(f"{what} {shown(path)} cannot be read: {reason}".lstrip()) from error


def sha256_of(path: Path) -> str:
    """The digest of a regular file, read a block at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def missing_folder(path: Path) -> str | None:
    """Why there is no folder at `path`, in words that follow its name; None if there is one."""
    found = _status(path)
    if isinstance(found, str):
        return found
    return None if stat.S_ISDIR(found.st_mode) else "is not a folder"


def _trouble(path: Path, largest: int) -> str | None:
    found = _status(path)
    if isinstance(found, str):
        return found
    if stat.S_ISDIR(found.st_mode):
        return "is a folder; name a file in it"
    if not stat.S_ISREG(found.st_mode):
        return f"is {_kind(found.st_mode)}; give a file"
    if not os.access(path, os.R_OK):
        return "cannot be read: no permission"
    if found.st_size > largest:
        return f"is too large: expected at most {largest:,} bytes, got {found.st_size:,}"
    return None


def _status(path: Path) -> os.stat_result | str:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist; check the name and the folder"
    except ValueError:  # a zero byte
        return "is no name that a file can have"
    except OSError as error:
        too_long = error.errno == errno.ENAMETOOLONG
        return TOO_LONG if too_long else f"cannot be read: {error.strerror}"


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"
