// The micro-kernel of the general path, and the copies that feed it.
//
//   c[m][n] (+)= row_start[m] + column_start[n]
//              + sum over taps t, depth k:  A(m, t, k) * B(t, k, n)
//
//   A(m, t, k) = a[taps[t].a + m * a_row + k * a_step]      one number, broadcast
//   B(t, k, n) = b[taps[t].b + k * b_step + n]              n runs along vectors
//
//          n: 2 vectors                Neither operand is expanded into columns: a tap is an offset
//        +---------+---------+         into a copy of the picture (gather.h), so a 3x3 convolution
//      k | B  B  B | B  B  B |         reads 1x its input, not 9x.  k runs innermost, with three
//        +---------+---------+         adds and a few pointers, so that any stride of the operands
//   m A  | c  c  c | c  c  c |         costs nothing.
//     A  | c  c  c | c  c  c |
//
// Tile: 14 x 2 AVX-512 vectors (28 accumulators, 2 of B, 1 broadcast), 6 x 2 AVX2, 4 x 2 else.
// Rows left over have their own kernels; the drivers split rows evenly.
#include "kernels.h"
#include "vec.h"

#if defined(__GNUC__)
#define FASTCONV_UNROLL _Pragma("GCC unroll 16")
// Hides where a pointer came from: otherwise gcc keeps one pointer per row and spills them.
#define FASTCONV_OPAQUE(pointer) asm("" : "+r"(pointer))
#else
#define FASTCONV_UNROLL
#define FASTCONV_OPAQUE(pointer)
#endif

namespace fastconv::FASTCONV_ISA {
namespace {

constexpr int tile_rows = FASTCONV_VECTOR_BYTES == 64 ? 14 : FASTCONV_VECTOR_BYTES == 32 ? 6 : 4;

template <class T, int M, int V>
void start_tile(Vec<T> (&acc)[M][V], const TileArguments<T>& t) {
  FASTCONV_UNROLL
  for (int m = 0; m < M; ++m) {
    const Vec<T> start = broadcast(t.row_start ? t.row_start[m] : T{0});
    FASTCONV_UNROLL
    for (int v = 0; v < V; ++v) {
      acc[m][v] = t.accumulate ? load(t.c + m * t.c_row + v * lanes<T>) : start;
      if (!t.accumulate && t.column_start) acc[m][v] += load(t.column_start + v * lanes<T>);
    }
  }
}

// One pointer serves three rows, by the addressing modes p, p + row, p + 2 row.
template <class T, int M, int V>
void tile(const TileArguments<T>& t) {
  constexpr int pointers = (M + 2) / 3;
  Vec<T> acc[M][V];
  start_tile<T, M, V>(acc, t);
  const int64_t a_row = t.a_row, a_step = t.a_step, b_step = t.b_step;
  const TapOffset* tap = t.taps;
  const TapOffset* const end = tap + t.tap_count;
  do {
    const T* a[pointers];
    FASTCONV_UNROLL
    for (int p = 0; p < pointers; ++p) a[p] = t.a + tap->a + 3 * p * a_row;
    const T* b = t.b + tap->b;
    int64_t k = t.depth;
    do {
      Vec<T> columns[V];
      FASTCONV_UNROLL
      for (int v = 0; v < V; ++v) columns[v] = load(b + v * lanes<T>);
      FASTCONV_UNROLL
      for (int m = 0; m < M; ++m) {
        const Vec<T> row = broadcast(a[m / 3][(m % 3) * a_row]);
        FASTCONV_UNROLL
        for (int v = 0; v < V; ++v) acc[m][v] += row * columns[v];
      }
      FASTCONV_UNROLL
      for (int p = 0; p < pointers; ++p) {
        a[p] += a_step;
        FASTCONV_OPAQUE(a[p]);
      }
      b += b_step;
    } while (--k > 0);
  } while (++tap != end);
  T* const c = t.c;
  const int64_t c_row = t.c_row;
  FASTCONV_UNROLL
  for (int m = 0; m < M; ++m)
    FASTCONV_UNROLL
    for (int v = 0; v < V; ++v) store(c + m * c_row + v * lanes<T>, acc[m][v]);
}

template <class T>
void copy_strided(T* to, const T* from, int64_t count, int64_t stride) {
  if (stride == 1) {
    int64_t i = 0;
    for (; i + lanes<T> <= count; i += lanes<T>) store(to + i, load(from + i));
    for (; i < count; ++i) to[i] = from[i];
  } else if (stride == 2) {
    for (int64_t i = 0; i < count; ++i) to[i] = from[2 * i];
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i * stride];
  }
}

template <class T>
void copy_matrix(T* to, int64_t to_row, const T* from, int64_t from_row, int64_t from_column,
                 int64_t rows, int64_t columns) {
  if (from_column == 1) {
    for (int64_t i = 0; i < rows; ++i) copy_strided(to + i * to_row, from + i * from_row, columns, 1);
    return;
  }
  constexpr int64_t block = 16;
  for (int64_t i0 = 0; i0 < rows; i0 += block)
    for (int64_t j = 0; j < columns; ++j)
      for (int64_t i = i0; i < i0 + block && i < rows; ++i)
        to[i * to_row + j] = from[i * from_row + j * from_column];
}

template <class T, int M>
constexpr void fill_rows(GemmKernelsOf<T>& table) {
  table.tile[0][M - 1] = tile<T, M, 1>;
  table.tile[1][M - 1] = tile<T, M, 2>;
  if constexpr (M > 1) fill_rows<T, M - 1>(table);
}

template <class T>
constexpr GemmKernelsOf<T> table_of() {
  GemmKernelsOf<T> table{};
  table.lanes = lanes<T>;
  table.rows = tile_rows;
  fill_rows<T, tile_rows>(table);
  table.copy_strided = copy_strided<T>;
  table.copy_matrix = copy_matrix<T>;
  return table;
}

}  // namespace

extern const GemmKernels gemm_kernels;
const GemmKernels gemm_kernels = {table_of<float>(), table_of<double>()};

}  // namespace fastconv::FASTCONV_ISA
