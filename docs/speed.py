"""The measured table of docs/speed.md: one layer, convolved in every way there is.

    python docs/speed.py            print the table
    python docs/speed.py --write    and put it into docs/speed.md

Every way is called before its clock runs; the fast ones take turns, and the lower quartile of
their calls counts; those that need seconds are timed once.  Nothing else should run meanwhile.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fastconv import backends, conv2d
from fastconv.geometry import geometry_of
from fastconv.lessons import MyConv
from fastconv.mechanics import winograd_matrices
from fastconv.tools.timing import machine, measure

PAGE = Path(__file__).with_name("speed.md")
BEGIN, END = "<!-- measured by docs/speed.py -->", "<!-- end of measurements -->"
CHANNELS, SIDE = 64, 128  # VGG19's conv1_2 on a picture of 128 x 128

ALGORITHMS = {
    "direct": "every product, own vector kernels",
    "f4": "Winograd F(4x4) in blocks",
    "f6": "Winograd F(6x6) in blocks",
}
Way = tuple[str, Callable[[], object]]


def operands() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, CHANNELS, SIDE, SIDE, generator=generator)
    return x, torch.randn(CHANNELS, CHANNELS, 3, 3, generator=generator) / 24


def by_im2col(x: Tensor, weight: Tensor) -> Tensor:
    """The whole column matrix written out, then one product: nine times x in memory."""
    padded = np.pad(x[0].numpy(), ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    columns = windows.transpose(0, 3, 4, 1, 2).reshape(9 * CHANNELS, -1)
    y = weight.reshape(CHANNELS, -1).numpy() @ columns
    return torch.from_numpy(y.reshape(1, CHANNELS, SIDE, SIDE))


def slow_ways(x: Tensor, weight: Tensor) -> list[Way]:
    layer = MyConv(CHANNELS, CHANNELS, padding=1, bias=False)
    layer.parameters["weight"] = weight.double().numpy()
    return [
        ("naive: every output on its own", lambda: conv2d(x, weight, padding=1, backend="naive")),
        ("window by window (`MyConv`)", lambda: torch.from_numpy(layer(x.numpy()))),
    ]


def fast_ways(x: Tensor, weight: Tensor) -> list[Way]:
    there, tools = backends(), winograd_matrices(4)
    ways: list[Way] = [
        ("im2col, then one matrix product (NumPy)", lambda: by_im2col(x, weight)),
        ("Winograd F(4x4), in tensor operations", lambda: tools.convolve(x, weight)),
    ]
    backed: list[tuple[str, str, str | None]] = [("numba: im2col in blocks", "numba", None)]
    backed += [(f"native: {about}", "native", algo) for algo, about in ALGORITHMS.items()]
    backed += [("torch: the yardstick", "torch", None)]
    for label, name, algo in backed:
        if there[name].available:
            ways.append((label, partial(conv2d, x, weight, padding=1, backend=name, algo=algo)))
    return ways


def gpu_ways(x: Tensor, weight: Tensor) -> list[Way]:
    if not torch.cuda.is_available():
        return []
    there, on_gpu = backends(), (x.cuda(), weight.cuda())

    def synchronised(backend: str) -> Callable[[], object]:
        def call() -> Tensor:
            y = conv2d(*on_gpu, padding=1, backend=backend)
            torch.cuda.synchronize()
            return y

        return call

    names = [name for name in ("native", "torch") if "cuda" in there[name].devices]
    return [(f"{name} on {torch.cuda.get_device_name()}", synchronised(name)) for name in names]


def checked(name: str, call: Callable[[], object], expected: Tensor) -> float:
    """The seconds of one call, whose result must be right."""
    started = time.perf_counter()
    y = call()
    seconds = time.perf_counter() - started
    assert isinstance(y, Tensor)
    if not torch.allclose(y.cpu().float(), expected, rtol=1e-3, atol=1e-3):
        raise SystemExit(f"{name}: the result is wrong")
    return seconds


def table() -> list[str]:
    x, weight = operands()
    expected = F.conv2d(x, weight, padding=1)
    fast = [*fast_ways(x, weight), *gpu_ways(x, weight)]
    seconds = {name: checked(name, call, expected) for name, call in slow_ways(x, weight)}
    for name, call in fast:
        checked(name, call, expected)
    seconds |= {name: t.low for name, t in measure(dict(fast), seconds=0.7, rounds=5).items()}
    flops = geometry_of(x.shape, weight.shape, padding=1).flops
    facts = ", ".join(f"{name}: {value}" for name, value in machine().items())
    first = next(iter(seconds.values()))
    layer = f"{CHANNELS} channels to {CHANNELS}, 3x3, {SIDE}x{SIDE} pixels, float32"
    lines = [
        f"One layer forward: {layer}; {flops / 1e9:.1f} billion multiplications and additions. "
        f"{facts}.",
        "",
        "| way | milliseconds | times as fast as naive | billion operations per second |",
        "|---|---:|---:|---:|",
    ]
    for name, each in seconds.items():
        lines.append(f"| {name} | {_ms(each)} | {first / each:,.0f} | {_rate(flops / each)} |")
    return lines


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}" if seconds > 0.1 else f"{1000 * seconds:.2f}"


def _rate(per_second: float) -> str:
    billions = per_second / 1e9
    return f"{billions:,.0f}" if billions > 10 else f"{billions:.2g}"


def main() -> None:
    lines = table()
    print("\n".join(lines))
    if "--write" in sys.argv[1:]:
        text = PAGE.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
