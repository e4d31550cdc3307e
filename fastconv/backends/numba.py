"""im2col and a matrix product, compiled by numba, on threads of its own.

    forward       y = b + w columns(x)             columns[(c,u,v), (i,j)] = x[c, i s + u d - p, ..]
    grad_input    dx = turned w columns(dy)        one such product per rest of a pixel modulo s
    grad_weight   dw = dy columns(x)^T

The columns of a block of up to 11 panels of pixels and 128 (c,u,v) at a time (0.3 MB) are made,
multiplied and forgotten; blocks run on inside and across output rows.  A thread takes less than
4 MB of buffers, once a call.  One to three outputs per group, so depthwise, take no columns at
all.  A 1x1 convolution has its pixels copied as the operand of any packed product would be.
Tensors with other strides than NCHW's are copied once.

The product is compiled too, with its sums in registers (numba_tiles.py): torch.mm reached 194
GFLOP/s on the two cores where it was measured, torch's convolution 440, this one 330.

Threads: numba's own layers are not used.  "omp" brings a second OpenMP pool beside torch's and
ends a forked child; "workqueue" ends the process when two Python threads call at once.  A pool of
Python threads that run the compiled code without the GIL sleeps when idle, follows
torch.set_num_threads at each call and survives a fork.  Measured after a ReLU of torch's (whose
threads still spin), 64 -> 64 channels at 64 x 64: 2.6 ms, with "omp" 8.0, with "workqueue" 2.0;
128 -> 128 at 128 x 128: 39 ms, "omp" 34, "workqueue" 52: threads that sleep cost a little there.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, from_numpy

from ..geometry import ConvGeometry
from . import numba_kernels as kernels
from .base import FLOATS
from .numba_kernels import DEPTH, Cut, Taps
from .numba_tiles import ROWS, VECTORS, lanes

DTYPES = FLOATS
DEVICES = frozenset({"cpu"})
KERNELS = ("pack", "gather", "gather_few", "correlate")

FEW = 3  # outputs per group up to which columns do not pay
STRETCH = 1024  # pixels of a row at once without columns
OUTPUTS = 64 * ROWS  # at most so many outputs of a unit: its sums stay in L2


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, g: ConvGeometry) -> Tensor:
    y = np.empty(g.output_shape, _dtype(x))
    grouped = _array(weight).reshape(g.groups, g.c_out // g.groups, -1, g.kh * g.kw)
    _gather(x, grouped, np.arange(g.kh * g.kw), bias, y, _looking_at_x(g))
    return from_numpy(y)


def grad_input(dy: Tensor, weight: Tensor, g: ConvGeometry) -> Tensor:
    """The pixels k of dx that leave the same rest r = k mod s are a convolution of dy.

    dx[r + t s] = sum_u w[u] dy[t + (r + p - u d) / s] over the u where s divides r + p - u d:
    each pixel gathers what col2im would scatter to it, so that no two threads write to one place.
    """
    grouped = _array(weight).reshape(g.groups, g.c_out // g.groups, -1, g.kh * g.kw)
    turned = grouped.transpose(0, 2, 1, 3)
    sides = (
        _phases(g.h, g.kh, g.stride[0], g.dilation[0], g.padding[0]),
        _phases(g.w, g.kw, g.stride[1], g.dilation[1], g.padding[2]),
    )
    phases = list(itertools.product(*sides))
    covered = sum(rows[1] * columns[1] for rows, columns in phases) == g.h * g.w
    dx = (np.empty if covered else np.zeros)(g.input_shape, _dtype(dy))
    for (r_h, count_h, us, offsets_h), (r_w, count_w, vs, offsets_w) in phases:
        taps = Taps(offsets_h, offsets_w, 1, 1, count_h, count_w, r_h, r_w, *g.stride)
        _gather(dy, turned, np.add.outer(us * g.kw, vs).ravel(), None, dx, taps)
    return from_numpy(dx)


def grad_weight(dy: Tensor, x: Tensor, g: ConvGeometry) -> Tensor:
    gradient, source = _array(dy).reshape(g.n, g.c_out, -1), _array(x)
    outputs, depth = g.c_out // g.groups, g.reduction
    rows, row_length = _up(outputs, VECTORS), _up(depth, ROWS)
    threads = _threads(g.flops)
    width = min(640, _up(gradient.shape[2], lanes(source.dtype)))
    cut_m = _up(-(-rows // -(-rows // 128)), VECTORS)
    wanted = -(-4 * threads // (g.groups * -(-rows // cut_m)))
    cut_q = min(row_length, _up(max(64, -(-row_length // wanted)), ROWS))
    cut = Cut(width, outputs=cut_m, depth=cut_q)
    units = g.groups * -(-rows // cut_m) * -(-row_length // cut_q)
    blocks = g.n * -(-gradient.shape[2] // width)
    parts = min(blocks, -(-2 * threads // units))
    sums = np.empty((parts, g.groups, rows, row_length), source.dtype)
    scratch = (ROWS * width, cut_m * width)
    work = (kernels.correlate, (gradient, source, sums, _looking_at_x(g), cut), scratch)
    _run(*work, units * parts, threads)
    used = sums[:, :, :outputs, :depth]
    total = np.ascontiguousarray(used[0] if parts == 1 else used.sum(0))
    return from_numpy(total.reshape(g.weight_shape))


def grad_bias(dy: Tensor, g: ConvGeometry) -> Tensor:
    return dy.sum((0, 2, 3))


def _looking_at_x(g: ConvGeometry) -> Taps:
    offsets_h = np.arange(g.kh) * g.dilation[0] - g.padding[0]
    offsets_w = np.arange(g.kw) * g.dilation[1] - g.padding[2]
    return Taps(offsets_h, offsets_w, *g.stride, g.out_h, g.out_w, 0, 0, 1, 1)


def _phases(size: int, kernel: int, stride: int, dilation: int, padding: int) -> list[Any]:
    """(rest, number of pixels, taps, their offsets in dy) for each rest with pixels and taps."""
    phases = []
    for rest in range(min(stride, size)):
        reach = rest + padding - np.arange(kernel) * dilation
        taps = np.flatnonzero(reach % stride == 0)
        if len(taps):
            phases.append((rest, -(-(size - rest) // stride), taps, reach[taps] // stride))
    return phases


def _gather(
    source: Tensor,
    weight: Any,
    order: Any,
    bias: Tensor | None,
    into: Any,
    taps: Taps,
) -> None:
    """weight (groups, outputs, channels, kh kw), its taps taken in `order`; into as taps say."""
    groups, outputs, channels = weight.shape[:3]
    x, depth, tiles = _array(source), channels * len(order), -(-outputs // ROWS)
    b = np.zeros(groups * outputs, x.dtype) if bias is None else _array(bias)
    pictures, area = len(x) * groups, taps.out_h * taps.out_w
    threads = _threads(2 * pictures * outputs * depth * area)
    panels = np.empty((groups, tiles, depth, ROWS), x.dtype)
    strides = (*(step // x.itemsize for step in weight.strides[:3]), outputs)
    flat = np.lib.stride_tricks.as_strided(weight, (weight.size,), (x.itemsize,))
    packers = threads if panels.size > 100_000 else 1
    _run(kernels.pack, (flat, strides, order, panels), (), groups * tiles, packers)
    if outputs <= FEW:
        few = (x, panels, b, into, taps, Cut(STRETCH))
        _run(kernels.gather_few, few, (STRETCH,), pictures * taps.out_h, threads)
    else:
        cut, units = _cut(pictures, tiles, area, threads, VECTORS * lanes(x.dtype))
        scratch = (DEPTH * cut.pixels, cut.outputs * cut.pixels)
        _run(kernels.gather, (x, panels, b, into, taps, cut), scratch, units, threads)


def _cut(pictures: int, tiles: int, area: int, threads: int, panel: int) -> tuple[Cut, int]:
    """The cut that makes the slowest thread's share least.

    A block of k panels of pixels costs about k + 1 units of time, so large blocks are better;
    odd k keep the rows of columns apart in the caches.
    """
    cuts = max(-(-tiles * ROWS // OUTPUTS), min(-(-tiles // 8), threads // pictures))
    tiles_at_once = -(-tiles // cuts)
    pieces = pictures * -(-tiles // tiles_at_once)

    def rounds(k: int) -> int:
        return -(-pieces * -(-area // (k * panel)) // threads)

    k = min((1, 3, 5, 7, 9, 11), key=lambda k: rounds(k) * (k + 1))
    blocks = -(-area // (k * panel))
    return Cut(k * panel, outputs=tiles_at_once * ROWS), pieces * blocks


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _dtype(tensor: Tensor) -> Any:
    return tensor.new_empty(0).numpy().dtype


def _array(tensor: Tensor) -> Any:
    return tensor.detach().resolve_neg().contiguous().numpy()


def _threads(flops: int) -> int:
    """torch's number of threads, or one where waking another costs more than it brings."""
    return torch.get_num_threads() if flops > 2_000_000 else 1


def _run(
    kernel: Callable[..., None],
    arguments: tuple[Any, ...],
    scratch: tuple[int, ...],
    units: int,
    threads: int,
) -> None:
    """Call the kernel on all units, in shares that the threads fetch one after the other."""
    share = max(1, -(-units // (threads * 8)))
    starts = iter(range(0, units, share))
    dtype = arguments[0].dtype

    def work() -> None:
        buffers = [np.zeros(size, dtype) for size in scratch]
        for start in starts:
            kernel(*arguments, (start, min(start + share, units)), *buffers)

    helpers = min(threads, -(-units // share)) - 1
    futures = [_pool(threads - 1).submit(work) for _ in range(helpers)]
    work()
    for future in futures:
        if not future.cancel():
            future.result()


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, "fastconv-numba")


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def warm_up() -> float:
    """Compile all kernels, or load them from the cache on disk; the seconds it took."""
    start = time.perf_counter()
    for dtype in sorted(DTYPES, key=str):
        for outputs in (FEW, FEW + 1):
            g = ConvGeometry(1, 1, 2, 2, outputs, 1, 1, (1, 1), (0, 0, 0, 0), (1, 1), 1, 2, 2)
            x, w = torch.zeros(g.input_shape, dtype=dtype), torch.zeros(g.weight_shape, dtype=dtype)
            grad_weight(forward(x, w, None, g), x, g)
    return time.perf_counter() - start
