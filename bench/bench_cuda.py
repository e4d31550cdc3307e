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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from networks import vgg19_to_conv5_1
from torch import Tensor, nn
from torch.nn import functional as F

from fastconv import conv2d, freeze, set_precision
from fastconv.errors import BackendUnavailableError, FastconvError
from fastconv.registry import place_of, resolve
from fastconv.shapes import ConvShape, vgg19
from fastconv.timing import cards

RESULT = Path(__file__).parent / "results" / "cuda.md"
DEVICE = "cuda"
ROUNDS = 15
LAYERS = ((512, 1), (512, 8), (1024, 1), (1024, 8))  # size, batch
STACKS = (512, 1024)
ERRORS_AT = 128  # px
PRODUCT = 8192  # side of the matrices whose product is the ceiling
COPIED = 1 << 28  # numbers
ROTATED_BYTES = 256 << 20  # of inputs in turn: several times the cache of an H200
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}

Call = Callable[[int], object]  # takes the round's number, which picks the input


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


def rotated(make: Callable[[], Tensor]) -> list[Tensor]:
    first = make()
    count = max(1, min(16, ROTATED_BYTES // first.nbytes))
    return [first, *(make() for _ in range(count - 1))]


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
            a, b = (torch.randn(n, n, device=DEVICE, dtype=dtype) for _ in range(2))
            once = medians({"product": lambda _, a=a, b=b: a @ b}, 5)["product"]
        found[name] = 2 * n**3 / (once * 1e-3)
    source = torch.empty(COPIED, device=DEVICE)
    target = torch.empty_like(source)
    once = medians({"copy": lambda _: target.copy_(source)}, 5)["copy"]
    return found | {"copy": 2 * source.nbytes / (once * 1e-3)}


def layer_calls(shape: ConvShape, precision: str) -> dict[str, Call]:
    """Convolution, bias and ReLU: a frozen stack of one layer beside F.conv2d and F.relu."""
    dtype, last = PRECISIONS[precision], torch.channels_last
    conv = nn.Conv2d(shape.c_in, shape.c_out, shape.kernel, padding=shape.padding)
    conv = conv.to(DEVICE, dtype).requires_grad_(False)
    frozen = freeze(nn.Sequential(conv, nn.ReLU()), [1], "native")
    xs = rotated(lambda: torch.randn(shape.input_shape, device=DEVICE, dtype=dtype))
    xs_last = [x.to(memory_format=last) for x in xs]
    plain, weight_last = conv.weight, conv.weight.to(memory_format=last)

    def cudnn(inputs: list[Tensor], weight: Tensor) -> Call:
        def call(number: int) -> Tensor:
            x = inputs[number % len(inputs)]
            return F.relu(F.conv2d(x, weight, conv.bias, padding=shape.padding))

        return torch.no_grad()(call)

    ours = torch.no_grad()(lambda number: frozen(xs_last[number % len(xs_last)]))
    calls = {
        "fastconv": ours,
        "cuDNN channels_last": cudnn(xs_last, weight_last),
        "cuDNN NCHW": cudnn(xs, plain),
    }
    if precision == "fp32":
        calls["fastconv SIMT"] = torch.no_grad()(simt_layer(conv, xs_last))
    return calls


def simt_layer(conv: nn.Conv2d, xs: list[Tensor]) -> Call:
    """The same by the general kernel: a frozen stack keeps what was chosen at its first call."""
    frozen = freeze(nn.Sequential(conv, nn.ReLU()), [1], "native")
    torch.ops.fastconv.cuda_prefer("simt")
    try:
        with torch.no_grad():
            frozen(xs[0])
    finally:
        torch.ops.fastconv.cuda_prefer("")
    return lambda number: frozen(xs[number % len(xs)])


def gradient_calls(shape: ConvShape, operation: str, precision: str) -> dict[str, Call]:
    dtype = PRECISIONS[precision]
    calls: dict[str, Call] = {}
    for label, backend, last in (
        ("fastconv", "native", True),
        ("cuDNN channels_last", "torch", True),
        ("cuDNN NCHW", "torch", False),
    ):
        layout = torch.channels_last if last else torch.contiguous_format
        x = torch.randn(shape.input_shape, device=DEVICE, dtype=dtype).to(memory_format=layout)
        weight = torch.randn(shape.weight_shape, device=DEVICE, dtype=dtype)
        leaf = x if operation == "grad_input" else weight
        leaf.requires_grad_()
        y = conv2d(x, weight, padding=shape.padding, backend=backend)
        dys = rotated(lambda y=y, layout=layout: torch.randn_like(y).to(memory_format=layout))

        def call(number: int, y=y, leaf=leaf, dys=dys) -> object:
            return torch.autograd.grad(y, leaf, dys[number % len(dys)], retain_graph=True)

        calls[label] = call
    return calls


TAPS = (1, 6, 11, 20, 29)  # relu1_1 ... relu5_1, as style transfer taps them


def stack_calls(size: int, precision: str) -> dict[str, Call]:
    """Forward to five taps and back to the picture, eager and replayed from a graph."""
    dtype, last = PRECISIONS[precision], torch.channels_last
    model = vgg19_to_conv5_1().to(DEVICE, dtype)
    taps = [tap for tap in TAPS if tap < len(model)]
    frozen = freeze(model, taps, "native")
    calls: dict[str, Call] = {}
    for label, layout, network in (
        ("fastconv", last, frozen),
        ("torch channels_last", last, tapped(model, taps)),
        ("torch NCHW", torch.contiguous_format, tapped(model, taps)),
    ):
        x = torch.rand(1, 3, size, size, device=DEVICE, dtype=dtype).to(memory_format=layout)
        x.requires_grad_()
        model.to(memory_format=layout)

        def step(_: int, x=x, network=network, model=model, layout=layout) -> object:
            return torch.autograd.grad(sum(y.square().sum() for y in network(x)), x)

        calls[label] = step
    calls["fastconv, graph"] = as_graph(calls["fastconv"])
    calls["torch channels_last, graph"] = as_graph(calls["torch channels_last"])
    return calls


def tapped(model: nn.Sequential, taps: list[int]) -> Callable[[Tensor], list[Tensor]]:
    def network(x: Tensor) -> list[Tensor]:
        found = []
        for index, layer in enumerate(model):
            x = layer(x)
            if index in taps:
                found.append(x)
        return found

    return network


def as_graph(step: Call) -> Call:
    """The same work captured once and replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(0)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(0)
    return lambda _: graph.replay()


def error_rows() -> Iterator[tuple[str, str, dict[str, float]]]:
    """Relative L2 errors of forward, ours and cuDNN's, by layer and precision."""
    for shape in vgg19(ERRORS_AT):
        x = torch.randn(shape.input_shape, dtype=torch.float64, device=DEVICE)
        weight = torch.randn(shape.weight_shape, dtype=torch.float64, device=DEVICE)
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
    resolve("native", place_of(torch.empty(0, device=DEVICE)), torch.float32)


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
