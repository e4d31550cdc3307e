// dx where dy is a single pixel of each image: a row of numbers times the weights as they lie.
//
//   t[c, u, v] = sum over o: dy[o] W[o, c, u, v]        dx[c, u d - p, v d - p] = t[c, u, v]
//
// A single pixel uses each weight once, so that the time is that of reading them, and reading what
// lies in order is fastest, though some taps read outside of the picture: 3x3 over one pixel uses one
// tap of nine, from every cache line.  512 -> 512: 0.46 ms instead of 0.93 (a Xeon, 2 threads).
#include <algorithm>
#include <cstring>

#include "blocking.h"
#include "operations.h"
#include "parallel.h"
#include "pictures.h"
#include "workspace.h"

namespace fastconv {
namespace {

constexpr int64_t most_images = 4;
constexpr int64_t depth_at_once = 8;     // lines of weights that are read side by side
constexpr int64_t columns_at_once = 1024;  // of one thread; its part of t stays in the first-level cache

// t[image, j] += sum over o: dy[image, o] W[o, j] for columns j of one part.
template <class T>
void multiply(const Geometry& g, const T* dy, const T* weight, int64_t columns, int64_t begin,
              int64_t end, T* t) {
  const GemmKernelsOf<T>& k = gemm<T>();
  const TapOffset origin{0, 0};
  TileArguments<T> a{};
  a.taps = &origin, a.tap_count = 1;
  a.a_row = g.c_out, a.a_step = 1, a.b_step = a.c_row = columns;
  for (int64_t o = 0; o < g.c_out; o += depth_at_once) {
    a.depth = std::min(depth_at_once, g.c_out - o);
    a.a = dy + o, a.accumulate = o > 0;
    int64_t vectors = 0;
    for (int64_t j = begin; j < end; j += vectors * k.lanes) {
      int width = k.widths[g.n - 1];
      while (j + (int64_t{k.lanes} << width) > end) --width;
      vectors = int64_t{1} << width;
      a.b = weight + o * columns + j, a.c = t + j;
      k.tile[width][g.n - 1](a);
    }
  }
}

// Each tap of t to the pixel that it belongs to; pixels without a tap stay zero.
template <class T>
void put(const Problem& problem, const T* t, T* dx) {
  const Geometry& g = problem.g;
  const Strides to = picture_strides(problem, g.c_in, g.h, g.w);
  const int64_t taps = g.kh * g.kw;
  std::memset(dx, 0, static_cast<size_t>(g.n * g.c_in * g.h * g.w) * sizeof(T));
  for (int64_t u = 0; u < g.kh; ++u)
    for (int64_t v = 0; v < g.kw; ++v) {
      const int64_t y = u * g.dil_h - g.pad_top, x = v * g.dil_w - g.pad_left;
      if (y < 0 || y >= g.h || x < 0 || x >= g.w) continue;
      for (int64_t n = 0; n < g.n; ++n)
        for (int64_t c = 0; c < g.c_in; ++c)
          dx[n * to.image + c * to.channel + y * to.row + x * to.column] =
              t[(n * g.c_in + c) * taps + u * g.kw + v];
    }
}

template <class T>
void run(const Problem& problem, const Operands& operands) {
  const Geometry& g = problem.g;
  const int64_t columns = g.c_in * g.kh * g.kw;
  Workspace space(Workspace::bytes_for<T>(g.n * columns));
  T* const t = space.take<T>(g.n * columns);
  const Split parts(columns, columns_at_once, gemm<T>().lanes);
  const bool serial = g.c_out * columns * int64_t{sizeof(T)} < (1 << 20);
  parallel_for(parts.count, [&](int64_t part, int64_t) {
    const int64_t begin = parts.begin(part);
    multiply(g, static_cast<const T*>(operands.a), static_cast<const T*>(operands.b), columns, begin,
             begin + parts.length(part), t);
  }, serial ? 1 : INT64_MAX);
  put(problem, t, static_cast<T*>(operands.out));
}

}  // namespace

bool is_one_pixel(const Problem& problem) {
  const Geometry& g = problem.g;
  const int lanes = problem.dtype == DType::f32 ? gemm<float>().lanes : gemm<double>().lanes;
  return g.out_h == 1 && g.out_w == 1 && g.groups == 1 && g.n <= most_images && g.kh * g.kw > 1 &&
         g.c_in * g.kh * g.kw % lanes == 0;
}

void grad_input_one_pixel(const Problem& problem, const Operands& operands) {
  problem.dtype == DType::f32 ? run<float>(problem, operands) : run<double>(problem, operands);
}

}  // namespace fastconv
