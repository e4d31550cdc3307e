// dW[c, u, v] = sum over n, i, j: dy[n, c, i, j] x[n, c, i s + u d - p, j s + v d - p], per
// channel.
//
// Channels side by side: slices of the lines add up all channels' sums, [slice][tap][channel]; read
// in place, by runs of columns that the same taps reach.  Planes: a thread takes a channel and some
// of its outputs, copies the plane block by block (BlockCopy, zeros outside) and keeps the sums of
// the taps.
#include "depthwise.h"
#include "operations.h"
#include "parallel.h"
#include "pictures.h"
#include "workspace.h"

namespace fastconv {
namespace {

template <class T>
class ChannelSums {
 public:
  ChannelSums(const Problem& problem, const Operands& operands)
      : g(problem.g),
        k(depthwise<T>()),
        dy(static_cast<const T*>(operands.a)),
        x(static_cast<const T*>(operands.b)),
        dw(static_cast<T*>(operands.out)),
        row_taps(forward_taps(g.kh, g.dil_h, g.pad_top)),
        column_taps(forward_taps(g.kw, g.dil_w, g.pad_left)),
        row_runs(axis_runs(row_taps, g.stride_h, g.out_h, g.h)),
        column_runs(axis_runs(column_taps, g.stride_w, g.out_w, g.w)),
        row(round_up(g.c_in, k.lanes)),
        threads(products() < serial_products ? 1 : thread_count()),
        slices(g.n * g.out_h, ceil_div(g.n * g.out_h, threads > 1 ? 4 * threads : 1)) {}

  void run() {
    const int64_t taps = g.kh * g.kw, slice = taps * row;
    Workspace space(Workspace::bytes_for<T>(slices.count * slice) +
                    2 * threads * Workspace::bytes_for<int64_t>(taps));
    T* const sums = space.take<T>(slices.count * slice);
    std::vector<int64_t*> tables;
    for (int64_t t = 0; t < 2 * threads; ++t) tables.push_back(space.take<int64_t>(taps));
    parallel_for(
        slices.count,
        [&](int64_t index, int64_t t) {
          std::fill(sums + index * slice, sums + (index + 1) * slice, T{0});
          for (int64_t line = slices.begin(index), left = slices.length(index); left > 0;
               --left, ++line)
            add_line(line / g.out_h, line % g.out_h, sums + index * slice, tables[2 * t],
                     tables[2 * t + 1]);
        },
        threads);
    for (int64_t c = 0; c < g.c_in; ++c) {
      const int64_t vector = c / k.lanes * k.lanes, begin = std::min(vector, g.c_in - k.lanes);
      for (int64_t tap = 0; tap < taps; ++tap) {
        T sum = 0;
        for (int64_t index = 0; index < slices.count; ++index)
          sum += sums[index * slice + tap * row + vector + c - begin];
        dw[c * taps + tap] = sum;
      }
    }
  }

 private:
  double products() const {
    return static_cast<double>(g.n * g.out_h * g.out_w) * g.c_in * (g.kh * g.kw);
  }

  void add_line(int64_t image, int64_t i, T* sums, int64_t* taps, int64_t* rows) const {
    const AxisRun* vertical = row_runs.data();
    while (i >= vertical->end) ++vertical;
    const int64_t x_row = g.w * g.c_in;
    ChannelsSums<T> s{};
    s.taps = taps, s.rows = rows, s.x_step = g.stride_w * g.c_in, s.dy_step = g.c_in;
    s.sums = sums, s.sums_row = row, s.channels = g.c_in;
    for (const AxisRun& horizontal : column_runs) {
      s.tap_count = 0;
      for (size_t u = vertical->first; u < vertical->last; ++u)
        for (size_t v = horizontal.first; v < horizontal.last; ++v) {
          taps[s.tap_count] = row_taps[u].offset * x_row + column_taps[v].offset * g.c_in;
          rows[s.tap_count++] = static_cast<int64_t>(u * column_taps.size() + v);
        }
      s.x = x + image * g.h * x_row + i * g.stride_h * x_row + horizontal.begin * s.x_step;
      s.dy = dy + ((image * g.out_h + i) * g.out_w + horizontal.begin) * g.c_in;
      s.pixels = horizontal.end - horizontal.begin;
      if (s.tap_count > 0)
        k.add_channel_sums(s);
    }
  }

  const Geometry g;
  const DepthwiseKernelsOf<T>& k;
  const T *dy, *x;
  T* dw;
  const std::vector<AxisTap> row_taps, column_taps;
  const std::vector<AxisRun> row_runs, column_runs;
  const int64_t row;
  const int64_t threads;
  const Split slices;
};

template <class T>
class PlaneTaps {
 public:
  PlaneTaps(const Problem& problem, const Operands& operands)
      : g(problem.g),
        k(depthwise<T>()),
        dy(static_cast<const T*>(operands.a)),
        x(static_cast<const T*>(operands.b)),
        dw(static_cast<T*>(operands.out)),
        columns(g.out_w, 1024),
        rows(g.out_h, std::max<int64_t>(8192 / columns.part, 1)),
        copy(Bands(forward_taps(g.kh, g.dil_h, g.pad_top), g.stride_h, rows.part),
             Bands(forward_taps(g.kw, g.dil_w, g.pad_left), g.stride_w, columns.part), rows.part,
             columns.part),
        outputs(g.c_out_per_group(), ceil_div(g.c_out_per_group() * g.groups, 2 * thread_count())) {
    for (size_t u = 0; u < static_cast<size_t>(g.kh); ++u)
      for (size_t v = 0; v < static_cast<size_t>(g.kw); ++v) taps.push_back(copy.tap_at(u, v));
  }

  void run() {
    const double products = static_cast<double>(g.n * g.out_h * g.out_w) * g.c_out * (g.kh * g.kw);
    const int64_t threads = products < serial_products ? 1 : thread_count();
    const int64_t x_copy = copy.area + k.lanes;
    Workspace space(threads * Workspace::bytes_for<T>(x_copy));
    std::vector<T*> buffers;
    for (int64_t t = 0; t < threads; ++t) buffers.push_back(space.take<T>(x_copy));
    parallel_for(
        g.groups * outputs.count,
        [&](int64_t item, int64_t t) {
          const int64_t part = item % outputs.count;
          sum_channel(item / outputs.count, outputs.begin(part), outputs.length(part), buffers[t]);
        },
        threads);
  }

 private:
  // Outputs [first, first + count) of input channel c.
  void sum_channel(int64_t c, int64_t first, int64_t count, T* x_copy) const {
    const int64_t o0 = c * g.c_out_per_group() + first, taps_count = g.kh * g.kw;
    std::fill(dw + o0 * taps_count, dw + (o0 + count) * taps_count, T{0});
    PlaneSums<T> s{};
    s.taps = taps.data(), s.tap_count = taps_count;
    s.x = x_copy, s.x_line = copy.pitch, s.dy_line = g.out_w;
    for (int64_t n = 0; n < g.n; ++n)
      for (int64_t r = 0; r < rows.count; ++r)
        for (int64_t q = 0; q < columns.count; ++q) {
          s.lines = rows.length(r), s.columns = columns.length(q);
          const int64_t i0 = rows.begin(r), j0 = columns.begin(q);
          copy_planes(copy, x + (n * g.c_in + c) * g.h * g.w, Strides{0, 0, g.w, 1}, g.h, g.w, i0,
                      j0, s.lines, s.columns, 1, x_copy, copy.area);
          for (int64_t o = o0; o < o0 + count; ++o) {
            s.dy = dy + ((n * g.c_out + o) * g.out_h + i0) * g.out_w + j0;
            s.sums = dw + o * taps_count;
            k.add_plane_sums(s);
          }
        }
  }

  const Geometry g;
  const DepthwiseKernelsOf<T>& k;
  const T *dy, *x;
  T* dw;
  const Split columns, rows;
  const BlockCopy copy;
  const Split outputs;
  std::vector<int64_t> taps;
};

template <class T>
void run(const Problem& problem, const Operands& operands) {
  if (problem.channels_last)
    ChannelSums<T>(problem, operands).run();
  else
    PlaneTaps<T>(problem, operands).run();
}

}  // namespace

bool accepts_depthwise_grad_weight(const Problem& problem) {
  const Geometry& g = problem.g;
  if (g.c_in_per_group() != 1 || g.c_out < 2 * thread_count())
    return false;
  if (!problem.channels_last)
    return true;
  const int lanes =
      problem.dtype == DType::f32 ? depthwise<float>().lanes : depthwise<double>().lanes;
  return g.c_out == g.c_in && g.c_in >= lanes;
}

void grad_weight_depthwise(const Problem& problem, const Operands& operands) {
  problem.dtype == DType::f32 ? run<float>(problem, operands) : run<double>(problem, operands);
}

}  // namespace fastconv
