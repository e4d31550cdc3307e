"""Writing files whole or not at all: a temporary file in the same folder, then a rename."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError
from ..files import shown

REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would be larger than allowed here; choose a smaller size",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOTDIR: "a part of its folder's name is a file; choose another folder",
    errno.EEXIST: "a part of its folder's name is a file; choose another folder",
    errno.EISDIR: "it is a folder; add a file name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, of the same suffix, renamed to it when the block ends well.

    If the block fails, or is interrupted, the temporary file is removed and what `path` held
    before stays.  Missing folders are made.  What the system refuses becomes an OutputError.
    """
    target = Path(path)
    temporary = target.with_name(f".{uuid.uuid4().hex[:12]}{target.suffix}")
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # a disk that is full may say so only now
        os.replace(temporary, target)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> OutputError:
    reason = REASONS.get(error.errno or 0, error.strerror or str(error))
    return OutputError(f"{shown(path)}: cannot be written: {reason}")


def check_apart(written: Mapping[str, Path | None], read: Mapping[str, object]) -> None:
    """OutputError if a file would replace one that is read, or one that is written as well."""
    known: dict[str, str] = {}
    for name, source in read.items():
        if isinstance(source, str | os.PathLike):
            known[_place(source)] = name
    for name, path in sorted(written.items()):
        if path is None:
            continue
        place = _place(path)
        if place in known:
            raise OutputError(f"{path}: {name} would replace {known[place]}; choose another name")
        known[place] = name


def _place(path: str | os.PathLike[str]) -> str:
    try:
        return os.path.normcase(os.path.realpath(path))
    except ValueError:  # a zero byte: of no file, as whoever reads or writes it will say
        return str(path)


def folders_to_make(paths: Iterable[Path | None]) -> list[str]:
    """A line for each folder that writing to these paths is going to make, so that a misspelt one
    is seen before the work."""
    folders = dict.fromkeys(path.parent for path in paths if path is not None)
    return [f"folder {each} is not there: it is made" for each in folders if not each.exists()]


def check_folder(path: Path) -> None:
    """Raise OutputError unless `path` can be written; leaves nothing behind."""
    folder = path.parent
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    probe = folder / f".{uuid.uuid4().hex[:12]}"
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "is write-protected")
        with suppress(FileNotFoundError):
            path.lstat()  # refuses a path that is too long
        _check_lengths(path, folder)
        probe.touch(exist_ok=False)
    except ValueError as error:
        raise OutputError(f"{shown(path)}: cannot be written: {error}") from error
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _check_lengths(path: Path, there: Path) -> None:
    """Names below the folder `there`, which a look at the missing path cannot refuse."""
    longest = os.pathconf(there, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    for name in path.parts[len(there.parts) :]:
        if len(os.fsencode(name)) > longest:
            raise OSError(errno.ENAMETOOLONG, "name too long")
