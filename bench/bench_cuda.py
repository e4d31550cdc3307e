"""The CUDA kernels beside cuDNN: `make bench-cuda` writes bench/results/cuda.md.

    python bench/bench_cuda.py [--seconds 420] [-o FILE]

Three questions, each answered at equal precision on both sides, in one process:

  layers      every convolution of VGG19 with bias and ReLU, at 512 and 1024 px, batch 1 and 8;
              both gradients at 512 px, batch 1
  stack       VGG19 to conv5_1, forward and back to the picture, eager and as a CUDA graph
  errors      relative L2 errors against float64

cuDNN runs through torch, on plain (NCHW) and on channels_last tensors, in benchmark mode.  Times
are CUDA events around single calls, medians of rounds in which the contenders take turns; inputs
rotate, so that none is still in the cache.  Without a card, or without kernels for it, one line
says so and the exit code is 1.  After --seconds no further row is begun, and the table says so.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cuda_calls
import torch
from cuda_calls import PRECISIONS, Call, gradient_calls, layer_calls, stack_calls
from torch.nn import functional as F

from fastconv import conv2d, set_precision
from fastconv.errors import BackendUnavailableError, FastconvError
from fastconv.registry import place_of, resolve
from fastconv.tools.shapes import ConvShape, vgg19
from fastconv.tools.timing import cards

RESULT = Path(__file__).parent / "results" / "cuda.md"
ROUNDS = 15
LAYERS = ((512, 1), (512, 8), (1024, 1), (1024, 8))  # size, batch
STACKS = (512, 1024)
ERRORS_AT = 128  # px
PRODUCT = 8192  # side of the matrices whose product is the ceiling
COPIED = 1 << 28  # numbers


@contextmanager
def at_precision(name: str) -> Iterator[None]:
    """Both sides: torch's own switch, and ours."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32 = matmul.allow_tf32 = name == "tf32"
    cudnn.benchmark = True
    try:
        with set_precision("tf32" if name == "tf32" else "fp32"):
            yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = before


def medians(calls: dict[str, Call], rounds: int = ROUNDS) -> dict[str, float]:
    """Milliseconds of each call; infinitely many where the memory does not suffice."""
    alive: dict[str, list[float]] = {}
    for label, call in calls.items():
        try:
            for number in range(3):  # compiles, lets cuDNN choose, fills the allocator
                call(number)
            torch.cuda.synchronize()
            alive[label] = []
        except (torch.OutOfMemoryError, MemoryError):
            torch.cuda.empty_cache()
    for number in range(rounds):
        for label, times in alive.items():
            started = torch.cuda.Event(enable_timing=True)
            ended = torch.cuda.Event(enable_timing=True)
            started.record()
            calls[label](number)
            ended.record()
            ended.synchronize()
            times.append(started.elapsed_time(ended))
    return {label: statistics.median(alive.get(label, [math.inf])) for label in calls}


@dataclass
class Table:
    """Rows of milliseconds by contender; the first contender is ours."""

    title: str
    contenders: list[str]
    rows: list[tuple[str, dict[str, float], str]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        yield f"## {self.title}\n"
        yield "| | " + " | ".join(self.contenders) + " | |"
        yield "|---|" + "---:|" * len(self.contenders) + "---|"
        for name, times, note in self.rows:
            cells = (self._cell(label, times) for label in self.contenders)
            yield f"| {name} | " + " | ".join(cells) + f" | {note} |"
        yield ""

    def _cell(self, label: str, times: dict[str, float]) -> str:
        if label not in times:
            return ""
        ours, time = times[self.contenders[0]], times[label]
        if math.isinf(time):
            return "out of memory"
        comparable = label != self.contenders[0] and math.isfinite(ours)
        return f"{time:.3f}{f' ({time / ours:.2f}x)' if comparable else ''}"


def peaks() -> dict[str, float]:
    """Measured ceilings: FLOP/s of 8192^3 products by precision, and bytes/s of a copy."""
    found = {}
    n = PRODUCT
    for name, dtype in PRECISIONS.items():
        with at_precision(name):
            a, b = (torch.randn(n, n, device=cuda_calls.DEVICE, dtype=dtype) for _ in range(2))
            once = medians({"product": lambda _, a=a, b=b: a @ b}, 5)["product"]
        found[name] = 2 * n**3 / (once * 1e-3)
    source = torch.empty(COPIED, device=cuda_calls.DEVICE)
    target = torch.empty_like(source)
    once = medians({"copy": lambda _: target.copy_(source)}, 5)["copy"]
    return found | {"copy": 2 * source.nbytes / (once * 1e-3)}


def error_rows() -> Iterator[tuple[str, str, dict[str, float]]]:
    """Relative L2 errors of forward, ours and cuDNN's, by layer and precision."""
    for shape in vgg19(ERRORS_AT):
        x = torch.randn(shape.input_shape, dtype=torch.float64, device=cuda_calls.DEVICE)
        weight = torch.randn(shape.weight_shape, dtype=torch.float64, device=cuda_calls.DEVICE)
        for precision, dtype in PRECISIONS.items():
            small, filters = x.to(dtype), weight.to(dtype)
            exact = F.conv2d(small.double(), filters.double(), padding=shape.padding)
            small = small.to(memory_format=torch.channels_last)
            with at_precision(precision):
                answers = {
                    "fastconv": conv2d(small, filters, padding=shape.padding, backend="native"),
                    "cuDNN": F.conv2d(small, filters, padding=shape.padding),
                }
            yield (
                shape.name,
                precision,
                {
                    label: float((y.double() - exact).norm() / exact.norm())
                    for label, y in answers.items()
                },
            )


class Deadline:
    def __init__(self, seconds: float) -> None:
        self.end, self.missed = time.monotonic() + seconds, 0

    def passed(self) -> bool:
        late = time.monotonic() > self.end
        self.missed += late
        return late


def measured(deadline: Deadline) -> Iterator[Table]:
    ceiling = peaks()
    for size, batch in LAYERS:
        title = f"VGG19's layers with bias and ReLU at {size} px, batch {batch}"
        yield layer_table(title, vgg19(size, batch), ceiling, deadline)
    for operation in ("grad_input", "grad_weight"):
        yield gradient_table(operation, vgg19(LAYERS[0][0]), deadline)
    yield stack_table(STACKS, deadline)


def layer_table(
    title: str, shapes: Iterable[ConvShape], ceiling: dict[str, float], deadline: Deadline
) -> Table:
    table = Table(title, ["fastconv", "cuDNN channels_last", "cuDNN NCHW", "fastconv SIMT"])
    for shape in shapes:
        for precision in PRECISIONS:
            if deadline.passed():
                continue
            with at_precision(precision):
                times = medians(layer_calls(shape, precision))
            share = shape.geometry.flops / (times["fastconv"] * 1e-3) / ceiling[precision]
            table.rows.append((f"{shape.name} {precision}", times, f"{share:.0%} of the peak"))
    return table


def gradient_table(operation: str, shapes: Iterable[ConvShape], deadline: Deadline) -> Table:
    title = f"{operation} of VGG19's layers at {LAYERS[0][0]} px, batch 1"
    table = Table(title, ["fastconv", "cuDNN channels_last", "cuDNN NCHW"])
    for shape in shapes:
        for precision in PRECISIONS:
            if not deadline.passed():
                with at_precision(precision):
                    times = medians(gradient_calls(shape, operation, precision))
                table.rows.append((f"{shape.name} {precision}", times, ""))
    return table


def stack_table(sizes: Iterable[int], deadline: Deadline) -> Table:
    labels = ["fastconv", "torch channels_last", "torch NCHW"]
    labels += ["fastconv, graph", "torch channels_last, graph"]
    table = Table("VGG19 to conv5_1 with five taps, forward and back to the picture", labels)
    for size in sizes:
        for precision in PRECISIONS:
            if not deadline.passed():
                with at_precision(precision):
                    times = medians(stack_calls(size, precision))
                table.rows.append((f"{size} px {precision}", times, ""))
    return table


def report(
    tables: list[Table], errors: list[tuple[str, str, dict[str, float]]], missed: int
) -> str:
    peak = "; ".join(cards())
    lines = [
        "# Benchmarks on CUDA\n",
        f"{peak}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}. Medians in "
        "milliseconds; in brackets, how many times as fast fastconv is (more than 1: faster). "
        "fp32 is fp32-accurate on both sides.\n",
    ]
    for table in tables:
        lines += table.lines()
    lines += [
        "## Relative L2 errors against float64\n",
        "| | fastconv | cuDNN |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {name} {precision} | {error['fastconv']:.1e} | {error['cuDNN']:.1e} |"
        for name, precision, error in errors
    ]
    if missed:
        lines.append(f"\n{missed} rows were not begun: the time was up.")
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def check_card() -> None:
    if not torch.cuda.is_available():
        raise BackendUnavailableError("no CUDA card in reach of torch; this benchmark needs one")
    resolve("native", place_of(torch.empty(0, device=cuda_calls.DEVICE)), torch.float32)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=420, help="begin no row after that")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    try:
        check_card()
    except FastconvError as error:
        print(f"bench-cuda: {error}", file=sys.stderr)
        return 1
    deadline = Deadline(options.seconds)
    errors = list(error_rows())
    tables = []
    for table in measured(deadline):
        print("\n".join(table.lines()), flush=True)
        tables.append(table)
        write(options.output, report(tables, errors, deadline.missed))
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
