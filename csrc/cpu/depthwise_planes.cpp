// y[i, j] = bias[c] + sum over u, v: W[c, u, v] x[i s + u d - p, j s + v d - p], each channel a
// plane of its own; forward and, with the taps of each phase, backward to the input.
//
// A block of a plane is copied with zeros around it (BlockCopy) into L1, where every tap is an
// offset.  Destinations that do not lie side by side (a phase of the stride) are computed apart and
// spread afterwards.
#include "depthwise.h"
#include "parallel.h"
#include "workspace.h"

namespace fastconv {
namespace {

constexpr int64_t block_pixels = 4096;  // with its copy about 32 KB in float32

template <class T>
class DepthwisePlanes {
 public:
  explicit DepthwisePlanes(const Gather<T>& g)
      : g(g),
        k(depthwise<T>()),
        columns(g.columns, 1024),
        rows(g.rows, std::max<int64_t>(block_pixels / columns.part, 1)),
        copy(g, rows.part, columns.part),
        kernel(g.kernel_offsets()) {
    for (int64_t y = 0; y < g.phases_h.count; ++y)
      for (int64_t x = 0; x < g.phases_w.count; ++x) add_phase(y, x);
  }

  void run() {
    const int64_t threads = g.products() < serial_products ? 1 : thread_count();
    const int64_t x_copy = copy.area + k.lanes, apart = is_spread() ? rows.part * columns.part : 0;
    Workspace space(threads * (Workspace::bytes_for<T>(x_copy) + Workspace::bytes_for<T>(apart) +
                               Workspace::bytes_for<T>(g.tap_count())));
    std::vector<Buffers> buffers;
    for (int64_t t = 0; t < threads; ++t)
      buffers.push_back({space.take<T>(x_copy), space.take<T>(apart), space.take<T>(g.tap_count())});
    // Several planes at a time, so that threads seldom meet at the counter.
    const Split planes(g.images * g.groups, ceil_div(g.images * g.groups, 8 * threads));
    const int64_t blocks = rows.count * columns.count;
    parallel_for(
        planes.count * blocks,
        [&](int64_t item, int64_t t) {
          const int64_t first = planes.begin(item / blocks), block = item % blocks;
          for (int64_t p = first; p < first + planes.length(item / blocks); ++p)
            run_block(p / g.groups, p % g.groups, block / columns.count, block % columns.count,
                      buffers[t]);
        },
        threads);
  }

 private:
  struct Buffers {
    T *x, *apart, *weights;
  };
  struct Phase {
    int64_t y, x;
    std::vector<int64_t> taps, kernel;  // in the copy, in the weights
  };

  void add_phase(int64_t y, int64_t x) {
    Phase phase{y, x, {}, {}};
    for (size_t u = 0; u < g.row_taps.size(); ++u)
      for (size_t v = 0; v < g.column_taps.size(); ++v)
        if (g.row_taps[u].phase == y && g.column_taps[v].phase == x) {
          phase.taps.push_back(copy.tap_at(u, v));
          phase.kernel.push_back(kernel[u * g.column_taps.size() + v]);
        }
    if (!phase.taps.empty())
      phases.push_back(phase);
  }

  bool is_spread() const { return g.dst_strides.column != 1; }

  void run_block(int64_t image, int64_t c, int64_t r, int64_t q, const Buffers& buffers) const {
    const int64_t i0 = rows.begin(r), j0 = columns.begin(q);
    copy_planes(copy, g.src + image * g.src_strides.image + c * g.src_strides.channel,
                g.src_strides, g.src_h, g.src_w, i0, j0, rows.length(r), columns.length(q), 1,
                buffers.x, copy.area);
    PlaneLines<T> l{};
    l.start = g.bias ? g.bias[c] : T{0};
    l.x = buffers.x, l.x_line = copy.pitch, l.w = buffers.weights;
    for (const Phase& phase : phases) {
      l.lines = std::min(rows.length(r), g.phases_h.length(phase.y) - i0);
      l.columns = std::min(columns.length(q), g.phases_w.length(phase.x) - j0);
      l.taps = phase.taps.data(), l.tap_count = static_cast<int64_t>(phase.taps.size());
      for (size_t t = 0; t < phase.kernel.size(); ++t)
        buffers.weights[t] = g.weight[c * g.weight_group + phase.kernel[t]];
      T* const y = g.phase_dst(phase.y, phase.x) + image * g.dst_strides.image +
                   c * g.dst_strides.channel + i0 * g.dst_strides.row + j0 * g.dst_strides.column;
      if (l.lines > 0 && l.columns > 0)
        run_phase(l, y, buffers.apart);
    }
  }

  void run_phase(PlaneLines<T>& l, T* y, T* apart) const {
    l.y = is_spread() ? apart : y, l.y_line = is_spread() ? l.columns : g.dst_strides.row;
    k.correlate_plane(l);
    if (is_spread())
      for (int64_t i = 0; i < l.lines; ++i)
        gemm<T>().spread(y + i * g.dst_strides.row, g.dst_strides.column, apart + i * l.columns,
                         l.columns, false, g.owns_gaps);
  }

  const Gather<T>& g;
  const DepthwiseKernelsOf<T>& k;
  const Split columns, rows;
  const BlockCopy copy;
  const std::vector<int64_t> kernel;
  std::vector<Phase> phases;
};

}  // namespace

template <class T>
void run_depthwise_planes(const Gather<T>& g) {
  DepthwisePlanes<T>(g).run();
}

template void run_depthwise_planes(const Gather<float>&);
template void run_depthwise_planes(const Gather<double>&);

}  // namespace fastconv
