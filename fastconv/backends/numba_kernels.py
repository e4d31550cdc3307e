"""The compiled half of numba.py: im2col and the loops around the register tiles.

Everything here is compiled for one thread and runs without the GIL; numba.py hands shares of the
units of work to threads.  No two units write to the same place.
"""

# mypy: disable-error-code="no-untyped-def,call-arg"

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .numba_tiles import ROWS, VECTOR_BYTES, VECTORS, add_inner, add_outer, get, jit, move, put

DEPTH = 128  # channels x taps at once: then a panel of columns, 24 KB, stays in L1


class Taps(NamedTuple):
    """Where a pixel t = (t_h, t_w) of the result looks, and where it is written.

    It reads source[c, t_h step_h + offsets_h[u], t_w step_w + offsets_w[v]], 0 outside, for all
    (u, v), and goes to target[m, first_h + t_h every_h, first_w + t_w every_w].
    """

    offsets_h: np.ndarray
    offsets_w: np.ndarray
    step_h: int
    step_w: int
    out_h: int  # how many t_h
    out_w: int
    first_h: int
    first_w: int
    every_h: int
    every_w: int


class Cut(NamedTuple):
    """The size of a unit of work: so many pixels, outputs, channels x taps."""

    pixels: int
    outputs: int = 0
    depth: int = 0


@jit
def clear(target, to, count):
    """target[to : to + count] = 0"""
    for j in range(count):
        put(target, to + j, 0)


@jit
def pack(weights, strides, order, panels, units):
    """panels[group, tile, q, r] = weights of output tile ROWS + r at the q-th (channel, tap).

    weights flat, strides those of (group, output, channel); order the taps' places.  A unit is
    one tile of one group.  Outputs beyond the last are 0.
    """
    tiles, depth = panels.shape[1:3]
    outputs, taps = strides[3], len(order)
    flat = panels.reshape(panels.size)
    for unit in range(units[0], units[1]):
        group, m = unit // tiles, unit % tiles * ROWS
        base = group * strides[0] + m * strides[1]
        filled = min(ROWS, outputs - m)
        for q in range(depth):
            start = base + q // taps * strides[2] + order[q % taps]
            at = (unit * depth + q) * ROWS
            for r in range(filled):
                put(flat, at + r, get(weights, start + r * strides[1]))
            clear(flat, at + filled, ROWS - filled)


@jit
def im2col(columns, width, rows, x, base, size, q, taps, pixel, count):
    """columns[r, j]: what pixel + j sees at the (q + r)-th (channel, tap), 0 from j = count on.

    columns (rows, width), flat; x the flat source, its channel 0 at `base`, size = (h, w).
    """
    taps_w = len(taps.offsets_w)
    per_channel = len(taps.offsets_h) * taps_w
    channel, tap = q // per_channel, q % per_channel
    first_row, first_column = pixel // taps.out_w, pixel % taps.out_w
    for r in range(rows):
        u, v = tap // taps_w, tap % taps_w
        row, column, done = first_row, first_column, 0
        while done < count:
            length = min(taps.out_w - column, count - done)
            k = row * taps.step_h + taps.offsets_h[u]
            if 0 <= k < size[0]:
                start = column * taps.step_w + taps.offsets_w[v]
                line = base + (channel * size[0] + k) * size[1]
                _look(columns, r * width + done, length, x, line, size[1], start, taps.step_w)
            else:
                clear(columns, r * width + done, length)
            done, row, column = done + length, row + 1, 0
        clear(columns, r * width + count, width - count)
        tap += 1
        if tap == per_channel:
            channel, tap = channel + 1, 0


@jit
def _inside(length, size, start, step):
    """The j in [low, high) with 0 <= start + j step < size."""
    if step == 1:
        low, high = -start, size - start
    else:
        low, high = -(start // step), (size - 1 - start) // step + 1
    low = min(max(low, 0), length)
    return low, max(min(high, length), low)


@jit
def _look(target, to, length, x, line, size, start, step):
    """target[to + j] = x[line + start + j step], 0 outside of the line of `size`."""
    low, high = _inside(length, size, start, step)
    clear(target, to, low)
    if step == 1:
        move(target, to + low, x, line + start + low, high - low)
    elif step == 2:  # a constant that the compiler can make vectors of
        for j in range(low, high):
            put(target, to + j, get(x, line + start + j * 2))
    else:
        for j in range(low, high):
            put(target, to + j, get(x, line + start + j * step))
    clear(target, to + high, length - high)


@jit
def _add_look(target, weight, length, x, line, size, start, step):
    """target[j] += weight x[line + start + j step], 0 outside of the line of `size`."""
    low, high = _inside(length, size, start, step)
    if step == 1:
        for j in range(low, high):
            put(target, j, get(target, j) + weight * get(x, line + start + j))
    elif step == 2:
        for j in range(low, high):
            put(target, j, get(target, j) + weight * get(x, line + start + j * 2))
    else:
        for j in range(low, high):
            put(target, j, get(target, j) + weight * get(x, line + start + j * step))


@jit
def _write(y, plane, row_length, results, at, taps, pixel, count):
    """Bring a block of results to its pixels in the plane of y that begins at `plane`."""
    row, column, done = pixel // taps.out_w, pixel % taps.out_w, 0
    while done < count:
        length = min(taps.out_w - column, count - done)
        line = plane + (taps.first_h + row * taps.every_h) * row_length
        to = line + taps.first_w + column * taps.every_w
        if taps.every_w == 1:
            move(y, to, results, at + done, length)
        else:
            for j in range(length):
                put(y, to + j * taps.every_w, get(results, at + done + j))
        done, row, column = done + length, row + 1, 0


@jit
def gather(source, panels, bias, target, taps, cut, units, columns, sums):
    """target[n, m, pixels] = bias[m] + sum_q panels[., ., q, .] columns[q, pixels]

    source (n, groups * channels, h, w); panels (groups, tiles, depth, ROWS); target
    (n, groups * outputs, h', w').  A unit is `cut.pixels` pixels of `cut.outputs` outputs of one
    group and picture; units = (first, after last).  Scratch: columns (DEPTH * cut.pixels,), sums
    (cut.outputs * cut.pixels,).
    """
    groups, tiles, depth = panels.shape[:3]
    outputs, area = target.shape[1] // groups, taps.out_h * taps.out_w
    plane, width, size = target.shape[2] * target.shape[3], cut.pixels, source.shape[2:]
    blocks, cuts = -(-area // width), -(-outputs // cut.outputs)
    x, y = source.reshape(source.size), target.reshape(target.size)
    weights = panels.reshape(panels.size)
    for unit in range(units[0], units[1]):
        pixel, rest = unit % blocks * width, unit // blocks
        m, picture = rest % cuts * cut.outputs, rest // cuts  # picture counts n and group
        group, count = picture % groups, min(width, area - pixel)
        used = min(cut.outputs, outputs - m)
        tile_from, tile_count = group * tiles + m // ROWS, -(-used // ROWS)
        clear(sums, 0, tile_count * ROWS * width)
        for q in range(0, depth, DEPTH):
            rows = min(DEPTH, depth - q)
            base = picture * (source.shape[1] // groups) * size[0] * size[1]
            im2col(columns, width, rows, x, base, size, q, taps, pixel, count)
            for j in range(0, count, VECTORS * (VECTOR_BYTES // columns.itemsize)):
                for tile in range(tile_count):
                    to, a = tile * ROWS * width + j, ((tile_from + tile) * depth + q) * ROWS
                    add_outer(sums, to, width, weights, a, columns, j, width, rows)
        for r in range(used):
            for j in range(count):
                put(sums, r * width + j, get(sums, r * width + j) + bias[group * outputs + m + r])
            to = (picture * outputs + m + r) * plane
            _write(y, to, target.shape[3], sums, r * width, taps, pixel, count)


@jit
def gather_few(source, panels, bias, target, taps, cut, units, sums):
    """As `gather`, row by row without columns: for depthwise and other one to three outputs.

    A unit is one row of all outputs of one group and picture; the scratch sums (cut.pixels,)
    stays in L1.
    """
    groups, depth = panels.shape[0], panels.shape[2]
    channels, outputs = source.shape[1] // groups, target.shape[1] // groups
    plane, size = target.shape[2] * target.shape[3], source.shape[2:]
    taps_h, taps_w = len(taps.offsets_h), len(taps.offsets_w)
    x, y = source.reshape(source.size), target.reshape(target.size)
    for unit in range(units[0], units[1]):
        row, picture = unit % taps.out_h, unit // taps.out_h
        group = picture % groups
        for m in range(outputs):
            for first in range(0, taps.out_w, cut.pixels):
                count = min(cut.pixels, taps.out_w - first)
                for j in range(count):
                    put(sums, j, bias[group * outputs + m])
                for q in range(0, depth, taps_w):
                    k = row * taps.step_h + taps.offsets_h[q // taps_w % taps_h]
                    if 0 <= k < size[0]:
                        channel = picture * channels + q // taps_w // taps_h
                        line = (channel * size[0] + k) * size[1]
                        for v in range(taps_w):
                            weight = panels[group, 0, q + v, m]
                            start = first * taps.step_w + taps.offsets_w[v]
                            _add_look(sums, weight, count, x, line, size[1], start, taps.step_w)
                to = (picture * outputs + m) * plane
                pixel = row * taps.out_w + first
                _write(y, to, target.shape[3], sums, 0, taps, pixel, count)


@jit
def correlate(dy, source, parts, taps, cut, units, columns, block):
    """parts[part, group, m, q] = sum_pixels dy[n, m, pixels] columns[q, pixels]

    dy (n, groups * outputs, area); source (n, groups * channels, h, w); parts (parts, groups,
    outputs up to VECTORS, depth up to ROWS).  A unit is `cut.outputs` x `cut.depth` of one group
    over one part of all blocks of `cut.pixels` pixels.  Scratch: columns (ROWS * cut.pixels,),
    block (cut.outputs * cut.pixels,).
    """
    part_count, groups, rows, row_length = parts.shape
    channels, outputs = source.shape[1] // groups, dy.shape[1] // groups
    area, width, size = dy.shape[2], cut.pixels, source.shape[2:]
    depth = channels * len(taps.offsets_h) * len(taps.offsets_w)
    blocks = -(-area // width)
    cuts_m, cuts_q = -(-rows // cut.outputs), -(-row_length // cut.depth)
    flat, x, gradient = parts.reshape(parts.size), source.reshape(source.size), dy.reshape(dy.size)
    for unit in range(units[0], units[1]):
        part, rest = unit % part_count, unit // part_count
        q_from, rest = rest % cuts_q * cut.depth, rest // cuts_q
        m_from, group = rest % cuts_m * cut.outputs, rest // cuts_m
        m_to, q_to = min(m_from + cut.outputs, rows), min(q_from + cut.depth, row_length)
        into = ((part * groups + group) * rows) * row_length
        for m in range(m_from, m_to):
            clear(flat, into + m * row_length + q_from, q_to - q_from)
        first, last = part * dy.shape[0] * blocks, (part + 1) * dy.shape[0] * blocks
        for at in range(first // part_count, last // part_count):
            picture, pixel = at // blocks * groups + group, at % blocks * width
            count = min(width, area - pixel)
            lanes = VECTOR_BYTES // columns.itemsize
            used = -(-count // lanes) * lanes
            for m in range(m_from, m_to):
                to, filled = (m - m_from) * width, count if m < outputs else 0
                move(block, to, gradient, (picture * outputs + m) * area + pixel, filled)
                clear(block, to + filled, used - filled)
            base = picture * channels * size[0] * size[1]
            for q in range(q_from, q_to, ROWS):
                im2col(columns, width, min(ROWS, depth - q), x, base, size, q, taps, pixel, count)
                for m in range(m_from, m_to, VECTORS):
                    to, b = into + m * row_length + q, (m - m_from) * width
                    add_inner(flat, to, row_length, columns, 0, width, block, b, width, used)
