"""What numba's own loops cannot say: two register tiles of a matrix product, bare memory access.

A sum of products is kept in ROWS x VECTORS registers of VECTOR_BYTES each:

    add_outer   c[r, j] += sum_k a[k, r] b[k, j]    j runs through VECTORS whole registers
    add_inner   c[s, r] += sum_k a[r, k] b[s, k]    s < VECTORS: k runs through the registers

They are written as LLVM instructions because compiled loops over arrays keep the sums in memory.
On an AVX-512 core they reach 262 and 230 GFLOP/s, where torch.mm reaches 100.

numba's cache on disk does not notice a change of this file: touch numba_kernels.py after one.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic


def _registers() -> tuple[int, int, int]:
    """(rows, vectors, bytes of a vector): rows * vectors sums + vectors + 1 fit the registers."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 8, 3, 64
    if features.get("avx"):
        return 4, 3, 32
    return (8, 3, 16) if features.get("neon") else (4, 3, 16)


ROWS, VECTORS, VECTOR_BYTES = _registers()
TILE = [(r, v) for r in range(ROWS) for v in range(VECTORS)]


def lanes(dtype: Any) -> int:
    """How many numbers of a dtype a register holds."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def jit(function: Callable[..., Any]) -> Any:
    """Compile without the GIL, cached on disk where any place for it can be written.

    numba tries NUMBA_CACHE_DIR, the package's folder and the user's cache folder, and raises if
    none can be written; then the code is compiled anew in each process.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)


class _Code:
    """The LLVM instructions of one intrinsic; `pointer(i, at)` is where argument i's at-th is."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder, self.arguments = context, builder, arguments
        self.kinds = signature.args
        self.size = self.kinds[0].dtype.bitwidth // 8
        self.number = context.get_value_type(self.kinds[0].dtype)
        self.width = VECTOR_BYTES // self.size
        self.vector = ir.VectorType(self.number, self.width)

    def pointer(self, argument: int, *offsets: Any) -> Any:
        array = self.context.make_array(self.kinds[argument])
        pointer = array(self.context, self.builder, self.arguments[argument]).data
        for offset in offsets:
            pointer = self.builder.gep(pointer, [offset])
        return pointer

    def index(self, number: int) -> Any:
        return self.context.get_constant(types.intp, number)

    def times(self, left: Any, right: Any) -> Any:
        return self.builder.mul(left, right)

    def load(self, pointer: Any) -> Any:
        """A vector from anywhere: aligned as its numbers are, no more."""
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(pointer, align=self.size)

    def spread(self, number: Any) -> Any:
        """The number in all lanes."""
        nothing, lane = ir.Constant(self.vector, ir.Undefined), ir.IntType(32)
        first = self.builder.insert_element(nothing, number, ir.Constant(lane, 0))
        order = ir.Constant(ir.VectorType(lane, self.width), [0] * self.width)
        return self.builder.shuffle_vector(first, nothing, order)

    def zeros(self) -> dict[tuple[int, int], Any]:
        """A tile of sums; LLVM turns these variables into registers."""
        zero = ir.Constant(self.vector, [0.0] * self.width)
        return {rv: cgutils.alloca_once_value(self.builder, zero) for rv in TILE}

    def multiply_add(self, total: Any, left: Any, right: Any) -> None:
        """Two instructions to be contracted: `llvm.fma` is a slow call where there is none."""
        product = self.builder.fmul(left, right, flags=("contract",))
        total_now = self.builder.fadd(self.builder.load(total), product, flags=("contract",))
        self.builder.store(total_now, total)


@intrinsic
def add_outer(typing, c, c_at, c_row, a, a_at, b, b_at, b_row, depth):
    """c[c_at + r c_row + j] += sum_k a[a_at + k ROWS + r] b[b_at + k b_row + j]"""

    def generate(context, builder, signature, arguments):
        code, (_, c_at, c_row, _, a_at, _, b_at, b_row, depth) = (
            _Code(context, builder, signature, arguments),
            arguments,
        )
        sums = code.zeros()
        with cgutils.for_range(builder, depth, intp=depth.type) as loop:
            row_a, row_b = code.times(loop.index, code.index(ROWS)), code.times(loop.index, b_row)
            right = [
                code.load(code.pointer(5, b_at, row_b, code.index(v * code.width)))
                for v in range(VECTORS)
            ]
            for r in range(ROWS):
                left = code.spread(builder.load(code.pointer(3, a_at, row_a, code.index(r))))
                for v in range(VECTORS):
                    code.multiply_add(sums[r, v], left, right[v])
        for r, v in TILE:
            row_c, column = code.times(code.index(r), c_row), code.index(v * code.width)
            there = code.pointer(0, c_at, row_c, column)
            total = builder.fadd(code.load(there), builder.load(sums[r, v]))
            builder.store(total, builder.bitcast(there, code.vector.as_pointer()), align=code.size)
        return context.get_dummy_value()

    return types.void(c, c_at, c_row, a, a_at, b, b_at, b_row, depth), generate


@intrinsic
def add_inner(typing, c, c_at, c_row, a, a_at, a_row, b, b_at, b_row, depth):
    """c[c_at + s c_row + r] += sum_k a[a_at + r a_row + k] b[b_at + s b_row + k]

    depth must be a multiple of the lanes.
    """

    def generate(context, builder, signature, arguments):
        code, (_, c_at, c_row, _, a_at, a_row, _, b_at, b_row, depth) = (
            _Code(context, builder, signature, arguments),
            arguments,
        )
        sums = code.zeros()
        steps = builder.udiv(depth, code.index(code.width))
        with cgutils.for_range(builder, steps, intp=depth.type) as loop:
            k = code.times(loop.index, code.index(code.width))
            right = [
                code.load(code.pointer(6, b_at, code.times(code.index(s), b_row), k))
                for s in range(VECTORS)
            ]
            for r in range(ROWS):
                row_a = code.times(code.index(r), a_row)
                left = code.load(code.pointer(3, a_at, row_a, k))
                for s in range(VECTORS):
                    code.multiply_add(sums[r, s], left, right[s])
        across = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(code.number, [code.number, code.vector]),
            f"llvm.vector.reduce.fadd.v{code.width}f{8 * code.size}",
        )
        for r, s in TILE:
            there = code.pointer(0, c_at, code.times(code.index(s), c_row), code.index(r))
            both = [builder.load(there), builder.load(sums[r, s])]
            builder.store(builder.call(across, both, fastmath=("reassoc",)), there)
        return context.get_dummy_value()

    return types.void(c, c_at, c_row, a, a_at, a_row, b, b_at, b_row, depth), generate


@intrinsic
def move(typing, target, to, source, start, count):
    """target[to : to + count] = source[start : start + count], flat arrays that do not overlap."""

    def generate(context, builder, signature, arguments):
        code, (_, to, _, start, count) = _Code(context, builder, signature, arguments), arguments
        cgutils.raw_memcpy(builder, code.pointer(0, to), code.pointer(2, start), count, code.size)
        return context.get_dummy_value()

    return types.void(target, to, source, start, count), generate


@intrinsic
def get(typing, array, index):
    """array[index], where numba's test for a negative index would keep a loop from vectorising."""

    def generate(context, builder, signature, arguments):
        code = _Code(context, builder, signature, arguments)
        return builder.load(code.pointer(0, arguments[1]))

    return array.dtype(array, index), generate


@intrinsic
def put(typing, array, index, value):
    """array[index] = value, likewise."""

    def generate(context, builder, signature, arguments):
        code = _Code(context, builder, signature, arguments)
        builder.store(arguments[2], code.pointer(0, arguments[1]))
        return context.get_dummy_value()

    return types.void(array, index, array.dtype), generate
