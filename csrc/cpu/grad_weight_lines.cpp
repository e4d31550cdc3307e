// dW[o, c, u, v] = sum over n, i, j: dy[n, o, i, j] x[n, c, i s + u d - p, j s + v d - p], where few
// channels come in and pixels lie side by side.
//
// Every dW is the inner product of two pictures (dot_kernels.cpp).  A block of x is copied plane by
// plane with zeros around it (BlockCopy), where every tap is an offset; dy is read in place, once,
// three lines at a time for all taps:
//
//   x's copy  [c][row band][column band][line][pitch]      sums  [slice][o / 3][taps / 9][3][9][lanes]
//
// Threads share slices of the blocks; slices are added in order at the end.
//
// 3 -> 64 at 512 x 512 (0.9 GFLOP, 67 MB of dy): 3.0 ms, where transposing dy's pixels
// (grad_weight.cpp) takes 5.7 and torch 7.0.  Blocks of 12 or 40 KB are 7-9 % slower, and dy fetched
// ahead into the first level instead of the second takes 1.3 ms more: planes a power of two apart
// share its sets.  With more taps the sums leave the caches: 7 x 7 over 3 channels loses a third.
#include "blocking.h"
#include "operations.h"
#include "parallel.h"
#include "pictures.h"
#include "workspace.h"

namespace fastconv {
namespace {

constexpr int64_t block_bytes = 24 << 10;  // of x's copy and three outputs: the first-level cache
constexpr int64_t widest = 1024;           // columns of a block
constexpr int64_t most_taps = 75;          // 3 channels of 5 x 5
constexpr int64_t most_channels = 4;       // each is copied; 1x1 over 64 is a product of matrices

template <class T>
const DotKernelsOf<T>& dot() {
  if constexpr (sizeof(T) == 4)
    return kernels().dot->f32;
  else
    return kernels().dot->f64;
}

template <class T>
class GradWeightLines {
 public:
  GradWeightLines(const Problem& problem, const Operands& operands)
      : g(problem.g),
        k(dot<T>()),
        dy(static_cast<const T*>(operands.a)),
        x(static_cast<const T*>(operands.b)),
        dw(static_cast<T*>(operands.out)),
        threads(products() < serial_products ? 1 : thread_count()),
        columns(g.out_w, widest),
        rows(g.out_h, std::max<int64_t>(pixels() / columns.part, 1)),
        copy(Bands(forward_taps(g.kh, g.dil_h, g.pad_top), g.stride_h, rows.part),
             Bands(forward_taps(g.kw, g.dil_w, g.pad_left), g.stride_w, columns.part), rows.part,
             columns.part),
        plane(odd_lines(copy.area)),
        slices(blocks(), ceil_div(blocks(), threads > 1 ? 4 * threads : 1)),
        row_groups(ceil_div(g.c_out, k.rows)),
        tap_groups(ceil_div(tap_count(), k.taps)) {}

  void run() {
    const int64_t x_copy = g.c_in * plane + k.lanes, all_sums = slices.count * slice_sums();
    Workspace space(Workspace::bytes_for<T>(all_sums) + threads * Workspace::bytes_for<T>(x_copy));
    sums = space.take<T>(all_sums);
    std::vector<T*> copies;
    for (int64_t t = 0; t < threads; ++t) copies.push_back(space.take<T>(x_copy));
    make_offsets();
    parallel_for(
        slices.count, [&](int64_t slice, int64_t t) { run_slice(slice, copies[t]); }, threads);
    parallel_for(
        row_groups, [&](int64_t group, int64_t) { write_rows(group); }, threads);
  }

 private:
  static int64_t odd_lines(int64_t elements) {
    constexpr int64_t line = 64 / sizeof(T);
    return (ceil_div(elements, line) | 1) * line;
  }
  double products() const {
    return static_cast<double>(g.n * g.out_h * g.out_w) * g.c_out * tap_count();
  }
  int64_t tap_count() const { return g.c_in * g.kh * g.kw; }
  int64_t pixels() const {
    return block_bytes / static_cast<int64_t>(sizeof(T)) /
           (g.c_in * g.stride_h * g.stride_w + k.rows);
  }
  int64_t blocks() const { return g.n * rows.count * columns.count; }
  int64_t tile() const { return k.rows * k.taps * k.lanes; }
  int64_t slice_sums() const { return row_groups * tap_groups * tile(); }

  // The last groups are filled up with the last row and tap: their sums are nobody's.
  void make_offsets() {
    for (int64_t o = 0; o < row_groups * k.rows; ++o)
      planes.push_back(std::min(o, g.c_out - 1) * g.out_h * g.out_w);
    for (int64_t index = 0; index < tap_groups * k.taps; ++index) {
      const int64_t r = std::min(index, tap_count() - 1);
      const int64_t c = r / (g.kh * g.kw), u = r / g.kw % g.kh, v = r % g.kw;
      taps.push_back(c * plane + copy.tap_at(static_cast<size_t>(u), static_cast<size_t>(v)));
    }
  }

  void run_slice(int64_t slice, T* x_copy) const {
    T* const to = sums + slice * slice_sums();
    std::fill_n(to, slice_sums(), T{0});
    const int64_t first = slices.begin(slice), last = first + slices.length(slice);
    for (int64_t index = first; index < last; ++index) {
      const int64_t j0 = columns.begin(index % columns.count), rest = index / columns.count;
      const int64_t i0 = rows.begin(rest % rows.count), n = rest / rows.count;
      DotArguments<T> a{};
      a.lines = rows.length(rest % rows.count), a.columns = columns.length(index % columns.count);
      copy_planes(copy, x + n * g.c_in * g.h * g.w, Strides{0, g.h * g.w, g.w, 1}, g.h, g.w, i0, j0,
                  a.lines, a.columns, g.c_in, x_copy, plane);
      a.dy = dy + (n * g.c_out * g.out_h + i0) * g.out_w + j0;
      a.dy_line = g.out_w, a.dy_end = dy + g.n * g.c_out * g.out_h * g.out_w;
      a.x = x_copy, a.x_line = copy.pitch;
      add_block(a, to);
    }
  }

  void add_block(DotArguments<T>& a, T* to) const {
    for (int64_t m = 0; m < row_groups; ++m) {
      a.rows = planes.data() + m * k.rows;
      const bool last = m + 1 == row_groups;  // then this block's first outputs, further down
      a.ahead = last ? a.lines * a.dy_line - a.rows[0] : a.rows[k.rows] - a.rows[0];
      for (int64_t r = 0; r < tap_groups; ++r, to += tile()) {
        a.taps = taps.data() + r * k.taps;
        a.sums = to;
        k.add(a);
        a.ahead = 0;
      }
    }
  }

  void write_rows(int64_t group) const {
    T tile_sums[64];
    const int64_t first = group * k.rows, last = std::min(first + k.rows, g.c_out);
    for (int64_t r0 = 0; r0 < tap_groups * k.taps; r0 += k.taps) {
      const T* from = sums + (group * tap_groups + r0 / k.taps) * tile();
      k.total(from, slice_sums(), slices.count, k.rows * k.taps, tile_sums);
      const int64_t count = std::min<int64_t>(k.taps, tap_count() - r0);
      for (int64_t o = first; o < last; ++o)
        std::copy_n(tile_sums + (o - first) * k.taps, count, dw + o * tap_count() + r0);
    }
  }

  const Geometry g;
  const DotKernelsOf<T>& k;
  const T *dy, *x;
  T* dw;
  const int64_t threads;
  const Split columns, rows;
  const BlockCopy copy;
  const int64_t plane;
  const Split slices;
  const int64_t row_groups, tap_groups;
  std::vector<int64_t> planes, taps;
  T* sums = nullptr;
};

}  // namespace

bool accepts_grad_weight_lines(const Problem& problem) {
  const Geometry& g = problem.g;
  return !problem.channels_last && g.groups == 1 && g.c_in <= most_channels &&
         g.c_in * g.kh * g.kw <= most_taps && g.out_w >= 12;
}

void grad_weight_lines(const Problem& problem, const Operands& operands) {
  if (problem.dtype == DType::f32)
    GradWeightLines<float>(problem, operands).run();
  else
    GradWeightLines<double>(problem, operands).run();
}

}  // namespace fastconv
