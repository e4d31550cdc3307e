"""The `fastconv` command: info, check, bench, filter, demo.

Exit codes: 0 done; 1 a check missed; 2 the user's mistake, reported in one line; 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .errors import ArgumentError, BackendUnavailableError, FastconvError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `fastconv ... | head` has seen enough
        sys.stderr.close()  # Python's own last words
        return 1
    except FastconvError as error:
        print(f"fastconv: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"fastconv: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        print("fastconv: not enough memory; choose a smaller --size", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastconv: interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"fastconv: {message} ({self.prog} --help tells all options)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastconv", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Any], int], about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(run=run)
        return added

    command("info", _info, "versions, processor, instruction sets, backends and the choice of auto")

    check = command("check", _check, "compare backends with torch on random cases")
    check.add_argument("--backend", help="one backend (default: every one that is there)")
    check.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    check.add_argument("--cases", type=_positive, default=300, help="how many (default: 300)")
    check.add_argument("--seed", type=int, default=0, help="which cases (default: 0)")

    bench = command("bench", _bench, "time VGG19's layers on every backend, beside torch")
    bench.add_argument("--backend", action="append", help="only these (repeatable); torch always")
    bench.add_argument("--size", type=_side, default=256, help="picture's side (default: 256)")
    bench.add_argument("--batch", type=_positive, default=1, help="pictures (default: 1)")
    bench.add_argument("--seconds", type=_seconds, default=0.5, help="per figure (default: 0.5)")
    bench.add_argument(
        "--json", metavar="FILE", help="also write the figures ('-': only, to stdout)"
    )

    about = "apply classic filters to a picture and lay the results out on a labelled sheet"
    filtering = command("filter", _filter, about)
    filtering.add_argument("picture", nargs="?", help="any file that Pillow reads")
    filtering.add_argument(
        "-k",
        "--kernel",
        default="sobel,gaussian:2,sharpen,laplacian,gabor:8:45",
        metavar="NAMES",
        help="separated by commas, parameters by colons (default: %(default)s); "
        "--kernel list shows all",
    )
    filtering.add_argument("-o", "--out", default="out/filters.png", help="the sheet's file")
    filtering.add_argument("--backend", help="who convolves (default: auto)")
    filtering.add_argument(
        "--size", type=_positive, default=1024, help="longest side, if larger (default: 1024)"
    )

    demo = command("demo", _demo, "edges and blur of a drawn picture on every backend")
    demo.add_argument(
        "-o", "--out", default="out/fastconv-demo.png", help="where to save the sheet"
    )
    return parser


def _positive(text: str, least: int = 1) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of {least} or more, got {text}")
    return value


def _side(text: str) -> int:
    return _positive(text, 16)  # below, VGG19's pools leave nothing


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, an hour at most, got {text}")
    return value


def _info(options: argparse.Namespace) -> int:
    import numpy
    import torch

    from .registry import backends, current_backend, known, load, resolve
    from .tools.timing import cards, machine

    facts = {"fastconv": __version__, **machine(), "numpy": numpy.__version__}
    facts["CUDA"] = "; ".join(cards()) or "no card in reach"
    table = backends()
    if table["native"].available:
        native: Any = load("native")
        facts["CUDA kernels"] = _kernels(native)
        sets = ", ".join(native.instruction_sets())
        facts["instruction set"] = f"{native.instruction_set()} (this machine has {sets})"
        kept = "kept (FASTCONV_KEEP_MB=0: not)" if native.keeps_results() else "torch's own"
        facts["results' memory"] = kept
    if table["numba"].available:
        numba: Any = load("numba")
        facts["numba"] = f"kernels ready after {numba.warm_up():.1f} s (compiled once, then cached)"
    for name, value in facts.items():
        print(f"{name + ':':17}{value}")
    print("\nbackends, in the order of 'auto':")
    for name, info in table.items():
        state = f"on {', '.join(info.devices)}" if info.available else info.reason
        print(f"  {name:8}{info.about}; {state}")
    winner = resolve("auto", "cpu", torch.float32)[0].NAME
    print(f"\n'auto' takes '{winner}' on the CPU: the first of the order that is there.")
    if current_backend() != "auto":
        print(f"In force now: '{known(current_backend())}', by FASTCONV_BACKEND.")
    return 0


def _kernels(native: Any) -> str:
    """Whether the native backend has CUDA kernels, and for which of the cards in reach not."""
    import torch

    from .precision import current_precision

    if native.WITHOUT_CUDA:
        return f"none: {native.WITHOUT_CUDA}"
    places = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    refused = [f"; not on {place}: {why}" for place in places if (why := native.against(place))]
    return f"there; float32 in {current_precision()}{''.join(refused)}"


def _demo(options: argparse.Namespace) -> int:
    from .tools import demo

    picture = demo.drawn_picture()
    rows = demo.run(picture)
    path = Path(options.out)
    if path.suffix.lower() != ".png":
        raise ArgumentError(f"{path}: --out expects a name in .png")
    _save(path, lambda temporary: demo.sheet(picture, rows).save(temporary, format="PNG"))
    print(f"{'backend':10}{'seconds':>10}{'largest difference to torch':>30}")
    for row in rows:
        print(f"{row.backend:10}{row.seconds:10.4f}{row.difference:30.1e}")
    print(f"\nEdges and blur of a drawn picture, {picture.shape[-1]} px: {path}")
    return 0


def _filter(options: argparse.Namespace) -> int:
    import torch

    from .figures import check_suffix, write
    from .registry import current_backend, resolve
    from .tools import filters
    from .tools.pictures import load_picture
    from .tools.sheets import filter_sheet

    if options.kernel == "list":
        print(filters.usage().replace(", ", "\n"))
        return 0
    if options.picture is None:
        raise ArgumentError("filter expects a picture: fastconv filter photo.jpg -o sheet.png")
    chosen, path = filters.parse(options.kernel), Path(options.out)
    check_suffix(path.suffix)
    _check_apart(path, options.picture)
    backend = options.backend or current_backend()
    computed = resolve(backend, "cpu", torch.float32)[0].NAME
    picture = load_picture(options.picture, options.size)
    height, width = picture.shape[1:]
    sheet = filter_sheet(
        picture, chosen, backend, f"{Path(options.picture).name}  {width}x{height}"
    )
    _save(path, lambda temporary: write(sheet, temporary, path.suffix))
    print(f"{', '.join(each.label for each in chosen)} on backend '{computed}': {path}")
    return 0


def _save(path: Path, write: Callable[[Path], object]) -> None:
    """Write to a temporary neighbour and rename, so that no half-written file is left."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _check_writable(path: Path) -> None:
    """Before the work that fills it."""
    if path.is_dir():
        raise ArgumentError(f"{path}: cannot be written: it is a folder")
    probe = path.with_name(f".{path.name}.probe")
    _save(probe, lambda temporary: temporary.touch())
    probe.unlink()


def _check_apart(path: Path, source: str) -> None:
    if os.path.realpath(path) == os.path.realpath(source):
        raise ArgumentError(f"{path}: --out would replace the picture; choose another name")


def _bench(options: argparse.Namespace) -> int:
    from .registry import backends, known, load
    from .tools.benchmark import table, vgg19_rows
    from .tools.timing import machine

    for name in options.backend or []:
        load(known(name))
    if options.json and options.json != "-":
        _check_writable(Path(options.json))
    there = [n for n, info in backends().items() if info.available and n != "naive"]
    rows: list[dict[str, Any]] = []
    facts = machine()

    def measured() -> Iterator[dict[str, Any]]:
        for row in vgg19_rows(
            options.backend or there, options.size, options.batch, options.seconds
        ):
            rows.append(row)
            yield row

    readable = sys.stderr if options.json == "-" else sys.stdout
    print(", ".join(f"{name} {value}" for name, value in facts.items()), file=readable)
    for line in table(measured()):
        print(line, flush=True, file=readable)
    if options.json:
        _write_json(options.json, {"machine": facts, "rows": rows})
    return 0


def _write_json(target: str, content: object) -> None:
    import json

    text = json.dumps(content, indent=1) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        _save(Path(target), lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _check(options: argparse.Namespace) -> int:
    import torch

    from .backends.table import AUTO
    from .registry import backends, known, load
    from .tools.checking import check_backend

    if options.device not in ("cpu", "cuda"):
        raise ArgumentError(f"--device expects cpu or cuda, got {options.device!r}")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailableError("--device cuda: torch sees no such device here")

    names = [options.backend] if options.backend else list(backends())
    missed = 0
    for name in names:
        if not options.backend and not backends()[name].available:
            print(f"{name}: {backends()[name].reason}")
            continue
        if not options.backend and options.device not in backends()[name].devices:
            print(f"{name}: runs on {', '.join(backends()[name].devices)}")
            continue
        if known(name) != AUTO:
            load(name)
        print(f"{name} on {options.device}: {options.cases} random cases, seed {options.seed}")
        for finding in check_backend(name, options.device, options.cases, options.seed):
            missed += not finding.passed
            print(
                f"  {finding.kind:12}{str(finding.dtype)[6:]:10}{finding.cases:4} cases   "
                f"worst error {finding.error:8.1e} = {finding.ratio:5.2f} of the tolerance"
            )
            if not finding.passed:
                print(f"    MISSED by {finding.case} {finding.problem}")
    print(f"{missed} missed" if missed else "all within tolerance")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
