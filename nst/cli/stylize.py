"""From the words of a command line to a StyleConfig.

Later sources win: the preset, the settings in a picture (`--from`) or a checkpoint (`--resume`),
the TOML file (`--config`), the flags.  The sources are read first, because the defaults
that the help shows follow from them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional

from ..config.options import SECTIONS, PresetName, StyleConfig, flag, switch
from ..config.presets import PRESETS
from ..config.toml import read_toml
from ..errors import CheckpointError, ConfigError
from .repeat import Former

Parse = Callable[..., Any]
# Bytes of a name that is made up.  Systems take 255, and numbers and suffixes are added to it.
LONGEST_STEM = 200


@dataclass(frozen=True)
class Call:
    """What `nst stylize` was asked to do."""

    content: Any
    styles: tuple[Any, ...]
    config: StyleConfig
    resume: Path | None
    dry_run: bool
    show: bool
    profile: bool
    quiet: bool


@dataclass(frozen=True)
class CallOptions:
    """What to do."""

    preset: PresetName = "quality"
    """Where the defaults come from: quality, gatys (the paper) or seed (the tutorials)."""
    config: Annotated[Path | None, flag(metavar="TOML")] = None
    """A file of options, with the names that the flags have."""
    from_: Annotated[Path | None, flag(name="from", metavar="PICTURE")] = None
    """Repeat what made this picture, with whatever other flags say."""
    resume: Annotated[Path | None, flag(metavar="CHECKPOINT")] = None
    """Go on with an unfinished run; no pictures need to be given."""
    dry_run: Annotated[FlagCreatePairsOff[bool], switch(name="dry-run")] = False
    """Print the plan and the memory it needs, and stop."""
    show: Annotated[FlagCreatePairsOff[bool], switch()] = False
    """Open the result in the system's viewer."""
    profile: Annotated[FlagCreatePairsOff[bool], switch()] = False
    """Print at the end where the time went, layer by layer."""
    quiet: Annotated[FlagCreatePairsOff[bool], switch(aliases=["-q"])] = False
    """Print nothing but errors and warnings."""


def stylize_config(words: list[str], parse: Parse) -> Call | None:
    """Read the command line of `nst stylize`; None if it asked for help."""
    base, former = _base(words)
    content, styles = former.pictures if former else (None, ())
    parsed = parse(_form(base), "stylize", words)
    if parsed is None:
        return None
    call: CallOptions = parsed.call
    options: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        part = getattr(parsed, name)
        options |= {f.name: getattr(part, f.name) for f in fields(section)}
    given = parsed.content or content, parsed.styles or styles
    if call.resume is not None:
        _check_same_pictures(call.resume, parsed, content, styles)
    elif isinstance(former, Former):
        former.check(*given, options, words)
    elif given[0] is None or not given[1]:
        raise ConfigError(
            "expected CONTENT and STYLE: nst stylize photo.jpg painting.jpg -o out.png"
        )
    if options["output"] is None and call.resume is None:
        options["output"] = _new_name([Path(path).stem for path in (given[0], *given[1])])
    config = StyleConfig(**options, preset=call.preset)
    return Call(*given, config, call.resume, call.dry_run, call.show, call.profile, call.quiet)


def _new_name(stems: Sequence[str]) -> Path:
    """A name that was not asked for: short enough, and of no picture that is there."""
    stem = "-".join(stems)
    if len(os.fsencode(stem)) > LONGEST_STEM:
        each = max(1, LONGEST_STEM // len(stems) - 1)
        stem = _cut("-".join(_cut(one, each) for one in stems), LONGEST_STEM)
    path, number = Path(f"{stem}.png"), 1
    while os.path.lexists(path):
        number += 1
        path = Path(f"{stem}-{number}.png")
    return path


def _cut(text: str, longest: int) -> str:
    """The beginning of a name, of at most so many bytes and of whole characters."""
    return os.fsencode(text)[:longest].decode(errors="ignore")


def _form(base: StyleConfig) -> type:
    """The dataclass that tyro reads: pictures by position, then a titled box per section."""
    content = Annotated[
        Positional[Path | None], flag(metavar="CONTENT", help="The picture to paint.")
    ]
    styles = Annotated[
        Positional[tuple[Path, ...]],
        flag(metavar="STYLE ...", help="The painting, or several, in whose style."),
    ]
    call = Annotated[CallOptions, OmitArgPrefixes]
    sections = [
        (name, Annotated[section, OmitArgPrefixes], field(default=_part(section, base)))
        for name, section in SECTIONS.items()
    ]
    form = make_dataclass(
        "Stylize",
        [
            ("content", content, field(default=None)),
            ("styles", styles, field(default=())),
            ("call", call, field(default=CallOptions(base.preset))),
            *sections,
        ],
        frozen=True,
    )
    form.__doc__ = "Paint CONTENT in the style of STYLE, or of several."
    return form


def _part(section: type, base: StyleConfig) -> Any:
    values = {f.name: getattr(base, f.name) for f in fields(section)}
    if isinstance(values.get("init"), Path):  # tyro warns of a default that is no word
        values["init"] = str(values["init"])
    return section(**values)


@dataclass(frozen=True)
class Resumed:
    """The pictures of a run that is resumed, by the paths that it was given."""

    pictures: tuple[Any, tuple[Any, ...]]


def _base(words: list[str]) -> tuple[StyleConfig, Former | Resumed | None]:
    """The defaults under the flags, and the former run that they are of."""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("preset", "config", "from", "resume"):
        peek.add_argument(f"--{name}", nargs="?")
    seen = vars(peek.parse_known_args(words)[0])
    former: Former | Resumed | None = None
    options: dict[str, Any] = {}
    if seen["resume"] and seen["from"]:
        raise ConfigError("--resume and --from cannot go together: choose one")
    if seen["resume"]:
        from ..run import checkpoint

        saved = checkpoint.load(Path(seen["resume"]))
        options = saved.config.plain()
        former = Resumed((saved.sources["content"], tuple(saved.sources["styles"])))
    elif seen["from"]:
        former = Former.of(Path(seen["from"]))
        options = dict(former.options)
    if seen["config"]:
        options |= read_toml(seen["config"])
    preset = options.pop("preset", "quality")
    if seen["preset"] in PRESETS:  # if it is another word, tyro will name the choices
        preset = seen["preset"]
    return StyleConfig.of(preset, **options), former


def _check_same_pictures(resume: Path, parsed: Any, content: Any, styles: Any) -> None:
    given = (parsed.content, parsed.styles)
    for name, mine, kept in zip(("content", "styles"), given, (content, styles)):
        theirs = tuple(map(str, kept)) if isinstance(kept, tuple) else str(kept)
        ours = tuple(map(str, mine)) if isinstance(mine, tuple) else str(mine)
        if mine and ours != theirs:
            raise CheckpointError(f"{resume} is of another run: its {name} is {kept}, not {mine}")
