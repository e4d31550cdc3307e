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
// Rows left over have their own kernels; the drivers split rows evenly.  Tiles of few rows are up
// to 8 vectors wide: multiply-adds take 4 cycles, two a cycle, so fewer than 8 accumulators wait.
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
      if (!t.accumulate && t.column_start)
        acc[m][v] += load(t.column_start + v * lanes<T>);
    }
  }
}

// The products of one k: the side with fewer vectors waits in registers.
template <class T, int M, int V>
inline void add_products(Vec<T> (&acc)[M][V], const T* const* a, int64_t a_row, const T* b) {
  if constexpr (M < V) {
    Vec<T> rows[M];
    FASTCONV_UNROLL
    for (int m = 0; m < M; ++m) rows[m] = broadcast(a[m / 3][(m % 3) * a_row]);
    FASTCONV_UNROLL
    for (int v = 0; v < V; ++v) {
      const Vec<T> column = load(b + v * lanes<T>);
      FASTCONV_UNROLL
      for (int m = 0; m < M; ++m) acc[m][v] += rows[m] * column;
    }
  } else {
    Vec<T> columns[V];
    FASTCONV_UNROLL
    for (int v = 0; v < V; ++v) columns[v] = load(b + v * lanes<T>);
    FASTCONV_UNROLL
    for (int m = 0; m < M; ++m) {
      const Vec<T> row = broadcast(a[m / 3][(m % 3) * a_row]);
      FASTCONV_UNROLL
      for (int v = 0; v < V; ++v) acc[m][v] += row * columns[v];
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
      add_products<T, M, V>(acc, a, a_row, b);
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
  if (t.streamed) {
    FASTCONV_UNROLL
    for (int m = 0; m < M; ++m) FASTCONV_UNROLL
    for (int v = 0; v < V; ++v) stream(c + m * c_row + v * lanes<T>, acc[m][v]);
    return;
  }
  FASTCONV_UNROLL
  for (int m = 0; m < M; ++m) FASTCONV_UNROLL
  for (int v = 0; v < V; ++v) store(c + m * c_row + v * lanes<T>, acc[m][v]);
}

// Fewer than 2 N elements, at least N: two pieces that overlap.
template <class T, int N>
inline void copy_pair(T* to, const T* from, int64_t count) {
  T first[N], last[N];
  memcpy(first, from, sizeof first);
  memcpy(last, from + count - N, sizeof last);
  memcpy(to, first, sizeof first);
  memcpy(to + count - N, last, sizeof last);
}

template <class T>
inline void copy_run(T* to, const T* from, int64_t count) {
  if (count >= lanes<T>) {
    int64_t i = 0;
    for (; i + lanes<T> <= count; i += lanes<T>) store(to + i, load(from + i));
    if (i < count)
      store(to + count - lanes<T>, load(from + count - lanes<T>));
    return;
  }
  if (count >= 8)
    copy_pair<T, 8>(to, from, count);
  else if (count >= 4)
    copy_pair<T, 4>(to, from, count);
  else
    for (int64_t i = 0; i < count; ++i) to[i] = from[i];
}

template <class T>
inline void copy_strided(T* to, const T* from, int64_t count, int64_t stride) {
  if (stride == 1)
    copy_run(to, from, count);
  else if (stride == 2)
    for (int64_t i = 0; i < count; ++i) to[i] = from[2 * i];
  else
    for (int64_t i = 0; i < count; ++i) to[i] = from[i * stride];
}

template <class T>
inline void clear_run(T* to, int64_t count) {
  int64_t i = 0;
  for (; i + lanes<T> <= count; i += lanes<T>) store(to + i, Vec<T>{});
  for (; i < count; ++i) to[i] = 0;
}

// Lines without margins.
template <class T>
inline void copy_whole_lines(const LinesArguments<T>& l) {
  for (int64_t e = 0; e < l.lines; ++e)
    copy_run(l.to + e * l.to_line, l.from + e * l.from_line, l.length);
}

template <class T>
void copy_lines(const LinesArguments<T>& l) {
  if (l.begin == 0 && l.end == l.length && l.first == 0 && l.last == l.lines && l.from_step == 1) {
    copy_whole_lines(l);
    return;
  }
  T* to = l.to;
  for (int64_t e = 0; e < l.lines; ++e, to += l.to_line) {
    if (e < l.first || e >= l.last) {
      clear_run(to, l.length);
      continue;
    }
    clear_run(to, l.begin);
    copy_strided(to + l.begin, l.from + (e - l.first) * l.from_line, l.end - l.begin, l.from_step);
    clear_run(to + l.end, l.length - l.end);
  }
}

// to[i * to_row + j] = from[i + j * from_column] for a square of one vector's lanes.
template <class T>
inline void transpose_square(T* to, int64_t to_row, const T* from, int64_t from_column) {
#if defined(FASTCONV_SHUFFLES)
  Vec<T> square[lanes<T>];
  FASTCONV_UNROLL
  for (int j = 0; j < lanes<T>; ++j) square[j] = load(from + j * from_column);
  transpose<T>(square);
  FASTCONV_UNROLL
  for (int i = 0; i < lanes<T>; ++i) store(to + i * to_row, square[i]);
#else
  for (int i = 0; i < lanes<T>; ++i)
    for (int j = 0; j < lanes<T>; ++j) to[i * to_row + j] = from[i + j * from_column];
#endif
}

template <class T>
void copy_matrix(T* to, int64_t to_row, const T* from, int64_t from_row, int64_t from_column,
                 int64_t rows, int64_t columns) {
  if (from_column == 1) {
    for (int64_t i = 0; i < rows; ++i) copy_run(to + i * to_row, from + i * from_row, columns);
    return;
  }
  constexpr int64_t block = lanes<T> > 1 ? lanes<T> : 16;
  const int64_t squares = from_row == 1 ? columns / lanes<T> * lanes<T> : 0;
  for (int64_t i0 = 0; i0 < rows; i0 += block) {
    const int64_t i1 = i0 + block < rows ? i0 + block : rows;
    int64_t j = 0;
    for (; i1 - i0 == lanes<T> && j < squares; j += lanes<T>)
      transpose_square(to + i0 * to_row + j, to_row, from + i0 + j * from_column, from_column);
    for (; j < columns; ++j)
      for (int64_t i = i0; i < i1; ++i) to[i * to_row + j] = from[i * from_row + j * from_column];
  }
}

// Any strides, any taps.  Reads run along memory: whichever of m and k lies further apart in the
// source is the outer loop.  The writes of 16 steps fill whole cache lines that stay in L1.
template <class T>
void pack_any(const WeightsArguments<T>& w) {
  constexpr int64_t block = 16;
  const bool k_outside = w.from_k > w.from_m;
  const int64_t outer = k_outside ? w.k_count : w.m_count,
                inner = k_outside ? w.m_count : w.k_count;
  const int64_t from_outer = k_outside ? w.from_k : w.from_m,
                from_inner = k_outside ? w.from_m : w.from_k;
  const int64_t to_outer = k_outside ? w.to_k : w.to_m, to_inner = k_outside ? w.to_m : w.to_k;
  for (int64_t i0 = 0; i0 < inner; i0 += block) {
    const int64_t i1 = i0 + block < inner ? i0 + block : inner;
    for (int64_t o = 0; o < outer; ++o) {
      const T* from = w.from + o * from_outer;
      T* to = w.to + o * to_outer;
      if (w.tap_count == 1)
        for (int64_t i = i0; i < i1; ++i) to[i * to_inner] = from[w.taps[0] + i * from_inner];
      else
        for (int64_t i = i0; i < i1; ++i)
          for (int64_t t = 0; t < w.tap_count; ++t)
            to[i * to_inner + t * w.to_tap] = from[i * from_inner + w.taps[t]];
    }
  }
}

#if defined(FASTCONV_SHUFFLES)
// One vector of lines r (to_r = 1) of `run` numbers each: number j goes to (j / taps) * to_q +
// (j % taps) * to_tap.  Squares are read whole where that stays before `end`.
template <class T>
void pack_lines(T* to, int64_t to_q, int64_t to_tap, const T* from, int64_t from_r, const T* end,
                int64_t run, int64_t taps) {
  int64_t tap = 0;
  for (int64_t j0 = 0; j0 < run; j0 += lanes<T>) {
    const int64_t count = run - j0 < lanes<T> ? run - j0 : lanes<T>;
    const T* at = from + j0;
    Vec<T> square[lanes<T>];
    if (end - at >= (lanes<T> - 1) * from_r + lanes<T>) {
      FASTCONV_UNROLL
      for (int r = 0; r < lanes<T>; ++r) square[r] = load(at + r * from_r);
    } else {
      for (int r = 0; r < lanes<T>; ++r) square[r] = load_first(at + r * from_r, count);
    }
    transpose<T>(square);
    alignas(64) T columns[lanes<T>][lanes<T>];
    FASTCONV_UNROLL
    for (int j = 0; j < lanes<T>; ++j) store(columns[j], square[j]);
    for (int64_t j = 0; j < count; ++j) {
      store(to + tap * to_tap, load(columns[j]));
      if (++tap == taps)
        tap = 0, to += to_q;
    }
  }
}

// A whole kernel's taps, r the side that the packed weights run along and q the other one.
template <class T>
bool pack_squares(const WeightsArguments<T>& w) {
  for (int64_t t = 0; t < w.tap_count; ++t)
    if (w.taps[t] != t)
      return false;
  const bool along_m = w.to_m == 1;
  const int64_t from_r = along_m ? w.from_m : w.from_k, from_q = along_m ? w.from_k : w.from_m;
  const int64_t to_q = along_m ? w.to_k : w.to_m;
  const int64_t r_count = along_m ? w.m_count : w.k_count,
                q_count = along_m ? w.k_count : w.m_count;
  if (from_r == 1 && w.tap_count == 1) {
    for (int64_t q = 0; q < q_count; ++q) copy_run(w.to + q * to_q, w.from + q * from_q, r_count);
    return true;
  }
  const bool q_runs = from_q == w.tap_count;
  if (r_count % lanes<T> != 0 || (!q_runs && from_r != w.tap_count))
    return false;
  const int64_t run = q_runs ? q_count * w.tap_count : w.tap_count;
  for (int64_t q = 0; q < (q_runs ? 1 : q_count); ++q)
    for (int64_t r = 0; r < r_count; r += lanes<T>)
      pack_lines(w.to + q * to_q + r, to_q, w.to_tap, w.from + q * from_q + r * from_r, from_r,
                 w.end, run, w.tap_count);
  return true;
}
#endif

template <class T>
void pack_weights(const WeightsArguments<T>& w) {
#if defined(FASTCONV_SHUFFLES)
  if (pack_squares(w))
    return;
#endif
  pack_any(w);
}

#if defined(FASTCONV_SHUFFLES)
// old with its even lanes replaced by one half of v.
template <class T, int Half, int... I>
inline Vec<T> into_even(Vec<T> v, Vec<T> old, Indices<I...>) {
  constexpr int n = lanes<T>;
  return __builtin_shufflevector(v, old, (I % 2 ? n + I : Half * n / 2 + I / 2)...);
}

// Whole vectors of every second element; returns how many elements are done.  What lies between is
// written as it was read, so no other thread may write it meanwhile.
template <class T>
inline int64_t spread_pairs(T* to, const T* from, int64_t count, bool add) {
  constexpr int n = lanes<T>;
  const typename CountTo<n>::type all{};
  int64_t i = 0;
  for (; i + n < count; i += n) {
    const Vec<T> low = load(to + 2 * i), high = load(to + 2 * i + n), v = load(from + i);
    const Vec<T> a = into_even<T, 0>(v, add ? Vec<T>{} : low, all);
    const Vec<T> b = into_even<T, 1>(v, add ? Vec<T>{} : high, all);
    store(to + 2 * i, add ? low + a : a);
    store(to + 2 * i + n, add ? high + b : b);
  }
  return i;
}
#endif

template <class T>
void spread(T* to, int64_t step, const T* from, int64_t count, bool add, [[maybe_unused]] bool owns_gaps) {
  int64_t i = 0;
  if (step == 1 && !add) {
    copy_run(to, from, count);
    return;
  }
  if (step == 1)
    for (; i + lanes<T> <= count; i += lanes<T>) store(to + i, load(to + i) + load(from + i));
#if defined(FASTCONV_SHUFFLES)
  if (step == 2 && owns_gaps && lanes<T> > 1)
    i = spread_pairs(to, from, count, add);
#endif
  if (add)
    for (; i < count; ++i) to[i * step] += from[i];
  else
    for (; i < count; ++i) to[i * step] = from[i];
}

// log2 of the most vectors beside m rows: accumulators, the shorter side and one more fit.
constexpr int width_of(int m) {
  constexpr int registers = FASTCONV_VECTOR_BYTES == 64 ? 32 : 16;
  int width = 1;
  while (width < 3 && (m << (width + 1)) + (m < 2 << width ? m : 2 << width) + 1 <= registers)
    ++width;
  return width;
}

template <class T, int M, int W>
constexpr void fill_widths(GemmKernelsOf<T>& table) {
  table.tile[W][M - 1] = tile<T, M, 1 << W>;
  if constexpr (W > 0)
    fill_widths<T, M, W - 1>(table);
}

template <class T, int M>
constexpr void fill_rows(GemmKernelsOf<T>& table) {
  table.widths[M - 1] = width_of(M);
  fill_widths<T, M, width_of(M)>(table);
  if constexpr (M > 1)
    fill_rows<T, M - 1>(table);
}

template <class T>
constexpr GemmKernelsOf<T> table_of() {
  GemmKernelsOf<T> table{};
  table.lanes = lanes<T>;
  table.rows = tile_rows;
  fill_rows<T, tile_rows>(table);
  table.copy_lines = copy_lines<T>;
  table.copy_matrix = copy_matrix<T>;
  table.pack_weights = pack_weights<T>;
  table.spread = spread<T>;
  table.stream_end = stream_end;
  return table;
}

}  // namespace

extern const GemmKernels gemm_kernels;
const GemmKernels gemm_kernels = {table_of<float>(), table_of<double>()};

}  // namespace fastconv::FASTCONV_ISA
