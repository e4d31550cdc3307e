// The micro-kernel of the weights' gradient where few channels come in: sums over lines of pixels.
//
//   sums[m][r] += sum over lines i, columns j:
//                 dy[rows[m] + i * dy_line + j] * x[taps[r] + i * x_line + j]
//
// Pixels lie along vectors, so both operands are read as planes hold them: nothing is transposed,
// and an operand's line is followed by the hardware's prefetcher.  Every sum is a vector; its lanes
// are added up once, at the end (`total`).
//
// Tile: 3 outputs x 9 taps with 32 registers (27 sums, 3 of dy, 1 of x: 12 loads for 27
// multiply-adds), 3 x 3 with 16.
#include "kernels.h"
#include "vec.h"

namespace fastconv::FASTCONV_ISA {
namespace {

constexpr int rows = 3, taps = FASTCONV_VECTOR_BYTES == 64 ? 9 : 3;

#if defined(__GNUC__)
#define FASTCONV_UNROLL _Pragma("GCC unroll 16")
#else
#define FASTCONV_UNROLL
#endif
#if defined(FASTCONV_VECTORS) && defined(__x86_64__)
#define FASTCONV_KEPT(vector) asm("" : "+v"(vector))
#else
#define FASTCONV_KEPT(vector)
#endif

template <class T>
using Tile = Vec<T>[rows][taps];

// One load of x serves all rows: gcc would repeat it as an operand of each multiply-add, and loads
// that cross a cache line are what bounds the loop then.
template <class T>
inline void add_products(Tile<T>& sum, const Vec<T> (&dy)[rows], int r, Vec<T> x) {
  FASTCONV_KEPT(x);
  FASTCONV_UNROLL
  for (int m = 0; m < rows; ++m) sum[m][r] += dy[m] * x;
}

// The last columns of a line, fewer than a vector.  Both operands are cut off: a NaN beyond the end
// of one would outlive a zero in the other.
template <class T>
inline void add_rest(Tile<T>& sum, const T* const* from, const T* dy_end, const T* const* x,
                     int64_t count) {
#if defined(FASTCONV_VECTORS)
  T numbers[lanes<T>];
  for (int i = 0; i < lanes<T>; ++i) numbers[i] = static_cast<T>(i);
  const auto inside = load(numbers) < broadcast(static_cast<T>(count));
  Vec<T> dy[rows];
  FASTCONV_UNROLL
  for (int m = 0; m < rows; ++m)
    dy[m] = dy_end - from[m] >= lanes<T> ? (inside ? load(from[m]) : Vec<T>{})
                                         : load_first(from[m], count);
  FASTCONV_UNROLL
  for (int r = 0; r < taps; ++r) add_products<T>(sum, dy, r, inside ? load(x[r]) : Vec<T>{});
#endif
}

template <class T>
void add(const DotArguments<T>& a) {
  Tile<T> sum = {};
  const int64_t whole = a.columns / lanes<T> * lanes<T>, rest = a.columns - whole;
  for (int64_t line = 0; line < a.lines; ++line) {
    const T *from[rows], *x[taps];
    FASTCONV_UNROLL
    for (int m = 0; m < rows; ++m) from[m] = a.dy + a.rows[m] + line * a.dy_line;
    FASTCONV_UNROLL
    for (int r = 0; r < taps; ++r) x[r] = a.x + a.taps[r] + line * a.x_line;
    const int64_t ahead = a.ahead;
    for (int64_t column = 0; column < whole; column += lanes<T>) {
      Vec<T> dy[rows];
      FASTCONV_UNROLL
      for (int m = 0; m < rows; ++m) {
        dy[m] = load(from[m]);
        prefetch(from[m] + ahead);
        from[m] += lanes<T>;
      }
      FASTCONV_UNROLL
      for (int r = 0; r < taps; ++r) add_products<T>(sum, dy, r, load(x[r] + column));
    }
    FASTCONV_UNROLL
    for (int r = 0; r < taps; ++r) x[r] += whole;
    if (rest > 0)
      add_rest<T>(sum, from, a.dy_end, x, rest);
  }
  FASTCONV_UNROLL
  for (int m = 0; m < rows; ++m) FASTCONV_UNROLL
  for (int r = 0; r < taps; ++r) {
    T* to = a.sums + (m * taps + r) * lanes<T>;
    store(to, load(to) + sum[m][r]);
  }
}

template <class T>
void total(const T* sums, int64_t stride, int64_t slices, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i, sums += lanes<T>) {
    Vec<T> sum = load(sums);
    for (int64_t slice = 1; slice < slices; ++slice) sum += load(sums + slice * stride);
    T each[lanes<T>];
    store(each, sum);
    FASTCONV_UNROLL
    for (int half = lanes<T> / 2; half > 0; half /= 2)
      for (int lane = 0; lane < half; ++lane) each[lane] += each[lane + half];
    to[i] = each[0];
  }
}

template <class T>
constexpr DotKernelsOf<T> table_of() {
  return {lanes<T>, rows, taps, add<T>, total<T>};
}

}  // namespace

extern const DotKernels dot_kernels;
const DotKernels dot_kernels = {table_of<float>(), table_of<double>()};

}  // namespace fastconv::FASTCONV_ISA
