"""`nst stylize --from RESULT`: the settings of a former run, and its files found again.

A result keeps the names and digests of its files, and their paths only where it was told to.  A
file is looked for where its path leads, from here and from the result's folder, and by its name in
both; by name alone it is taken only if its digest is right.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.options import OUTPUT_PATHS, STARTS
from ..errors import ConfigError
from ..files import sha256_of

DIGITS = 12  # of a digest, in messages


@dataclass(frozen=True)
class KeptFile:
    """A file that a result was made of."""

    what: str  # "content", "style 1", "weights"
    name: str
    sha256: str = ""  # empty in results of older versions, and of what was no file
    path: str = ""

    @classmethod
    def of(cls, what: str, kept: Any) -> KeptFile:
        """From the result's settings: a dict, or in results of older versions a path."""
        if isinstance(kept, str):
            return cls(what, Path(kept).name, path="" if kept.startswith("<") else kept)
        return cls(what, kept["name"], kept.get("sha256", ""), kept.get("path", ""))

    @property
    def words(self) -> str:
        digest = f" (SHA-256 {self.sha256[:DIGITS]}...)" if self.sha256 else ""
        return f"{self.what} {self.name}{digest}"

    def found(self, folder: Path) -> Path | None:
        """Where the file is; of a kept path that leads nowhere, that path."""
        places = [place for place in (self.path, self.name) if place]
        there = [
            path
            for path in (Path(base, place) for place in places for base in ("", folder))
            if os.path.isfile(path)
        ]
        same = [path for path in there if self.sha256 and sha256_of(path) == self.sha256]
        if same or not self.path:
            return same[0] if same else None
        return there[0] if there else Path(self.path)

    def warn_if_other(self, path: object, result: Path) -> None:
        """A warning where `path` is a file with another digest."""
        if not (self.sha256 and isinstance(path, str | os.PathLike) and os.path.isfile(path)):
            return
        if (got := sha256_of(Path(path))) != self.sha256:
            warnings.warn(
                f"{path} is not the {self.words} that {result} was made of, got SHA-256 "
                f"{got[:DIGITS]}...: the picture will be another",
                stacklevel=2,
            )


@dataclass(frozen=True)
class Former:
    """The run that made a picture."""

    result: Path
    content: KeptFile
    styles: tuple[KeptFile, ...]
    files: dict[str, KeptFile]  # by the option that names it: mask, init, weights
    options: dict[str, Any]  # but where it wrote its files

    @classmethod
    def of(cls, result: Path) -> Former:
        """Read the settings; where `auto` chose the network, the choice is repeated."""
        from ..outputs import read_settings

        settings = read_settings(result)
        try:
            kept = settings["config"]
            options = {name: kept[name] for name in kept if name not in OUTPUT_PATHS}
            if options["network"] == "auto" and not options["weights"]:
                options["network"] = settings["network"].split(":")[0]
            files = {
                name: KeptFile.of(name, settings.get(name, options[name]))
                for name in ("mask", "init", "weights")
                if options[name] is not None and not (name == "init" and options[name] in STARTS)
            }
            styles = [KeptFile.of(f"style {n}", s) for n, s in enumerate(settings["styles"], 1)]
            content = KeptFile.of("content", settings["content"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{result} holds no settings of a run: {error} is missing") from None
        former = cls(result, content, tuple(styles), files, options)
        options |= {name: str(former.found(file) or file.name) for name, file in files.items()}
        return former

    def found(self, file: KeptFile) -> Path | None:
        return file.found(self.result.parent)

    @property
    def pictures(self) -> tuple[Path | None, tuple[Path, ...]]:
        """Content and styles, as far as they are found; styles only if all of them are."""
        styles = [self.found(style) for style in self.styles]
        there = tuple(path for path in styles if path is not None)
        return self.found(self.content), there if len(there) == len(styles) else ()

    def check(
        self, content: Any, styles: Sequence[Any], options: dict[str, Any], words: Sequence[str]
    ) -> None:
        """ConfigError that names the files which must be given; warnings where others were.

        `words` are the command line's: a file that it names is taken whatever its digest.
        """
        given = {word.split("=")[0] for word in words}
        missing = [self.content] * (content is None) + list(self.styles) * (not styles)
        flags = ["CONTENT STYLE"] if missing else []
        for name, file in self.files.items():
            if f"--{name}" not in given and self.found(file) is None:
                missing.append(file)
                flags.append(f"--{name} PATH")
        if missing:
            raise ConfigError(
                f"{self.result} keeps no paths; it was made of "
                f"{', '.join(file.words for file in missing)}, not found here: give "
                f"nst stylize {' '.join(flags)} --from {self.result}"
            )
        self.content.warn_if_other(content, self.result)
        for file, style in zip(self.styles, styles):
            file.warn_if_other(style, self.result)
        for name, file in self.files.items():
            file.warn_if_other(options[name], self.result)
