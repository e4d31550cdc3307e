"""The `nst` command.

Exit codes: 0 done, 2 the user's mistake (one line on stderr), 130 interrupted (what there was is
written), 1 anything else.  Results go to stdout, progress and remarks to stderr.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

ABOUT = {
    "stylize": "paint a photograph in the style of a painting",
    "demo": "see it work on pictures drawn by the project itself",
    "show": "print the settings kept in a result",
    "animate": "make a GIF or MP4 of saved frames",
    "compare": "lay pictures side by side",
    "network": "print a network layer by layer",
    "features": "draw what a network sees",
    "reconstruct": "draw what layers know of a picture: content, style",
    "train": "train a network of your own on pictures",
}


def command() -> int:
    """The command in a process of its own.

    Importing torch makes half a million objects that stay.  Garbage collection over all of them,
    repeated during the import and once more at exit, would take 0.4 of 1.5 s (da33077, 2026-11).
    """
    gc.set_threshold(50_000, 20, 100)
    sys.path.append("")  # the current folder, for module:name; last, it hides nothing
    try:
        return main()
    finally:
        gc.freeze()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            code = _dispatch(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("nst: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `nst ... | head` has seen enough
        sys.stderr.close()  # Python's own last words
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return _failed(error)
        print("nst: what was told could not be written: the disk is full", file=sys.stderr)
        return 1
    except Exception as error:
        return _failed(error)


def _warn(message: Warning | str, *where: Any, **more: Any) -> None:
    """A warning as one line, without the place in the code that Python would add."""
    print(f"nst: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] in ("-V", "--version"):
        from .. import __version__

        print(f"nst {__version__}")
        return 0
    if words[0] == "stylize":
        return _stylize(words[1:])
    from ..errors import UserError, did_you_mean
    from .commands import COMMANDS

    if words[0] not in COMMANDS:
        raise UserError(f"unknown command {words[0]!r}: {did_you_mean(words[0], ABOUT)}")
    command = _parsed(COMMANDS[words[0]], words[0], words[1:])
    if command is None:
        return 0
    for line in command.run(_observer()):
        print(line)
    return 0


def _help() -> str:
    width = max(map(len, ABOUT))
    commands = "\n".join(f"  {name:{width}}  {about}" for name, about in ABOUT.items())
    return (
        "nst: neural style transfer\n\nusage: nst COMMAND [OPTIONS]\n\n"
        f"  nst stylize photo.jpg painting.jpg -o out.png\n\ncommands:\n{commands}\n\n"
        "nst COMMAND --help tells a command's options."
    )


def _parsed(kind: Any, name: str, words: list[str]) -> Any:
    """The options of a command; None if it was the help that was asked for."""
    import tyro

    from ..errors import UserError

    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            return tyro.cli(kind, prog=f"nst {name}", args=words)
    except SystemExit as stop:
        if not stop.code:
            return None
        raise UserError(f"{name}: {_one_line(message.getvalue(), name)}") from None


def _one_line(box: str, name: str) -> str:
    """What tyro says in a box of several lines, drawn in Unicode or, into a pipe, in ASCII."""
    box = re.sub(r"\x1b\[[0-9;]*m", "", box)
    rows = [row.strip(" │|") for row in box.splitlines() if not re.match(r"[╭╰+]", row)]
    text = " ".join(row for row in rows if row.strip("─-"))
    text = re.split(r"For full help|Argument helptext", text)[0].strip(" .")
    text = re.sub(r"^(Value error )?(Error parsing \w+: )?", "", text)
    # of an option that was meant, its names are enough
    text = re.sub(r"(Perhaps you meant: (?:--?[\w-]+(?:, )?)+).*", r"\1", text)
    return f"{text} (nst {name} --help tells all options)"


def _observer(quiet: bool = False) -> Any:
    from ..observers.progress import Bar, LogLines
    from ..run.observer import Observer

    if quiet:
        return Observer()
    return Bar(sys.stderr) if sys.stderr.isatty() else LogLines(sys.stderr)


def _stylize(words: list[str]) -> int:
    from .stylize import stylize_config

    call = stylize_config(words, _parsed)
    if call is None:
        return 0
    from ..api import plan, stylize

    if call.dry_run:
        for line in plan(call.content, list(call.styles), call.config, call.resume):
            print(line)
        return 0
    from ..observers.profile import Profiler
    from ..run.observer import Observers

    profiler = Profiler()
    watching = [_observer(call.quiet), *([profiler] if call.profile else [])]
    result = stylize(
        call.content,
        list(call.styles) or None,
        config=call.config,
        resume=call.resume,
        observer=Observers(*watching),
    )
    code = _tell(result, call.show, call.quiet)
    if call.profile:
        print("", *profiler.lines(), sep="\n")
    return code


def _tell(result: Any, show: bool, quiet: bool) -> int:
    config = result.config
    height, width = result.rgb.shape[-2:]
    if not quiet:
        print(f"network {result.network}")
        print(f"computed by {result.computed}")
        written = [config.output, config.csv, config.plot, result.frames, config.animate]
        print(f"wrote {', '.join(str(path) for path in written if path is not None)}")
        print(f"{width}x{height}, {len(result.losses)} iterations, {result.seconds:.1f} s")
    if show:
        _show(result.image)
    if result.interrupted:
        print(
            f"nst: interrupted; go on with: nst stylize --resume {result.checkpoint}",
            file=sys.stderr,
        )
        return 130
    return 0


def _show(image: Any) -> None:
    """Open the system's viewer; where there is none, say so: the run itself has gone well."""
    from PIL import ImageShow

    headless = sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if headless:
        print("nst: --show: there is no display here", file=sys.stderr)
    elif not ImageShow.show(image, title="nst"):
        print("nst: --show: no viewer found; install xdg-utils, for one", file=sys.stderr)


def _failed(error: Exception) -> int:
    from ..errors import NstError, UserError

    if isinstance(error, UserError) or _fastconv_user_error(error):
        print(f"nst: {error}", file=sys.stderr)
        return 2
    if isinstance(error, NstError):
        print(f"nst: {error}", file=sys.stderr)
    elif isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        print("nst: not enough memory; choose a smaller --size", file=sys.stderr)
    else:
        traceback.print_exception(error)
    return 1


def _fastconv_user_error(error: Exception) -> bool:
    if type(error).__module__ != "fastconv.errors":
        return False
    from fastconv import ArgumentError, BackendUnavailableError, DtypeError

    return isinstance(error, ArgumentError | BackendUnavailableError | DtypeError)


if __name__ == "__main__":
    sys.exit(main())
