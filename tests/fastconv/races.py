"""Every native operator with 2, 3 and 7 threads, on every instruction set: for ThreadSanitizer.

`make sanitize-threads` runs this with a build whose every load and store the sanitizer sees.  It
reports two accesses of one place, one of them a store, that nothing orders, whether or not they
met this time.  Sizes are small, for the sanitizer is slow, but above those that one thread does.
It does not see what the matrix unit stores (csrc/cpu/amx.h), all of it where one thread alone is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import extension  # noqa: F401  (the build under test, before the package loads another)
import torch
from torch import nn

from fastconv import conv2d, gram_distance, mean_square
from fastconv.backends import native, prepared
from fastconv.frozen import freeze
from fastconv.packed import PackedRows

THREADS = (2, 3, 7)

# input, weight, options; each in both layouts and precisions, forward and backward
CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, int]]] = [
    ((4, 2, 96, 96), (2, 1, 3, 3), {"padding": 1, "groups": 2}),
    ((2, 64, 33, 35), (2, 64, 3, 3), {"padding": 1}),
    ((2, 2, 67, 66), (16, 2, 3, 3), {"padding": 1}),
    ((2, 3, 65, 67), (33, 3, 3, 3), {"padding": 1}),
    ((1, 3, 70, 72), (20, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((2, 24, 35, 37), (40, 24, 3, 3), {"stride": 2, "padding": 1}),
    ((1, 30, 41, 43), (33, 30, 1, 1), {"stride": 2}),
    ((2, 33, 29, 31), (35, 33, 1, 1), {}),
    ((1, 64, 32, 32), (96, 64, 1, 1), {}),
    ((2, 20, 23, 25), (18, 20, 5, 5), {"padding": 2}),
    ((1, 16, 33, 33), (17, 16, 3, 3), {"padding": 12, "dilation": 12}),
    ((1, 48, 41, 42), (48, 48, 3, 3), {"padding": 2, "dilation": 2}),
    ((2, 64, 60, 61), (64, 1, 3, 3), {"padding": 1, "groups": 64}),
    ((1, 33, 60, 61), (33, 1, 5, 5), {"stride": 2, "padding": 2, "groups": 33}),
    ((2, 6, 60, 61), (12, 1, 3, 3), {"padding": 1, "groups": 6}),
    ((2, 4, 60, 61), (6, 2, 3, 3), {"padding": 1, "groups": 2}),
    ((1, 3, 64, 64), (48, 3, 8, 8), {"stride": 8}),
    ((2, 256, 3, 3), (128, 256, 3, 3), {}),
    ((4, 512, 1, 1), (512, 512, 1, 1), {}),
    ((2, 96, 24, 26), (128, 96, 3, 3), {"padding": 1}),
]
# 3x3 by the algorithm named
WINOGRAD = [
    ((1, 16, 37, 41), (20, 16, 3, 3)),
    ((1, 160, 30, 31), (130, 160, 3, 3)),
    ((1, 32, 130, 130), (33, 32, 3, 3)),
]


def convolutions() -> None:
    for shape, kernel, options in CONVOLUTIONS:
        for dtype in (torch.float32, torch.float64):
            for layout in (torch.contiguous_format, torch.channels_last):
                convolve(shape, kernel, dtype, layout, **options)
    for shape, kernel in WINOGRAD:
        for algo in ("f4", "f6"):
            for layout in (torch.contiguous_format, torch.channels_last):
                convolve(shape, kernel, torch.float32, layout, padding=1, algo=algo)


def convolve(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    dtype: torch.dtype,
    layout: torch.memory_format,
    **options: int | str,
) -> None:
    prepared.clear()  # so that weights are transformed anew, by so many threads
    x = torch.randn(shape, dtype=dtype).to(memory_format=layout).requires_grad_()
    weight = torch.randn(kernel, dtype=dtype, requires_grad=True)
    bias = torch.randn(kernel[0], dtype=dtype, requires_grad=True)
    y = conv2d(x, weight, bias, backend="native", **options)  # type: ignore[arg-type]
    y.backward(torch.randn_like(y))


def stacks() -> None:
    for channels, pool in ((16, nn.MaxPool2d), (72, nn.AvgPool2d)):
        layers = [
            *(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), pool(2, 2)),
            *(nn.Conv2d(channels, channels + 9, 3, padding=1), nn.ReLU()),
        ]
        frozen = freeze(nn.Sequential(*layers), [1, 6], "native", [1, 3, 6])
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.rand(2, 3, 45, 52).to(memory_format=layout).requires_grad_()
            first, last, *found = frozen(x)
            moments = sum(t.square().sum() for pair in found for t in pair)
            (first.sum() + last.sum() + moments).backward()


def distances() -> None:
    a, b = torch.rand(70001, requires_grad=True), torch.rand(70001)
    mean_square(a, b).backward()
    mean = torch.rand(1, 100, requires_grad=True)
    covariance = torch.rand(1, 100, 100, requires_grad=True)
    gram_distance((mean, covariance), torch.rand(100, 100)).backward()  # type: ignore[arg-type]


def packed_rows() -> None:
    """Several parts of rows long."""
    matrix, numbers = PackedRows(4, 70003), torch.randn(4, 70003)
    for row in range(3):
        matrix.put(row, numbers[row])
    matrix.products(numbers)
    matrix.combine(torch.randn(4).double())


def fingerprints() -> None:
    torch.ops.fastconv.fingerprint(torch.randn(700, 1000))


def integers() -> None:
    """Of several pieces, which are looked at side by side."""
    conv2d(torch.ones(2, 64, 60, 60), torch.ones(64, 64, 3, 3), padding=1, backend="native")


def operators() -> Iterator[tuple[str, int]]:
    for threads in THREADS:
        os.environ["FASTCONV_THREADS"] = str(threads)
        for work in (convolutions, stacks, distances, packed_rows, fingerprints, integers):
            work()
            yield work.__name__, threads


def main() -> int:
    torch.set_num_threads(1)  # torch's own, whose waiting the sanitizer does not see
    if "FASTCONV_ISA" in os.environ:
        for work, threads in operators():
            print(f"{native.instruction_set()}: {work} with {threads} threads", flush=True)
        return 0
    codes = []
    for isa in native.instruction_sets():
        environment = {**os.environ, "FASTCONV_ISA": isa}
        codes.append(subprocess.run([sys.executable, __file__], env=environment).returncode)
    if all(code == 0 for code in codes):
        print("no data race")
    return max(codes, key=abs)


if __name__ == "__main__":
    sys.exit(main())
