// y[i, j, c] = bias[c] + sum over u, v: W[c, u, v] x[i s + u d - p, j s + v d - p, c], channels
// side by side; forward and, with the taps of each phase, backward to the input.
//
// The picture is read in place: lines and columns are cut into runs that the same taps reach, so
// that nothing is read outside and nothing multiplied by padding.
#include "depthwise.h"

#include "parallel.h"
#include "workspace.h"

namespace fastconv {

namespace {

template <class T>
class DepthwisePixels {
 public:
  explicit DepthwisePixels(const Gather<T>& g)
      : g(g),
        k(depthwise<T>()),
        row_runs(axis_runs(g.row_taps, g.step_h, g.rows, g.src_h)),
        column_runs(axis_runs(g.column_taps, g.step_w, g.columns, g.src_w)) {}

  void run() {
    const int64_t threads = g.products() < serial_products ? 1 : thread_count();
    const int64_t taps = g.tap_count();
    Workspace space(Workspace::bytes_for<T>(taps * g.groups) +
                    2 * threads * Workspace::bytes_for<int64_t>(taps));
    T* const packed = space.take<T>(taps * g.groups);
    const std::vector<int64_t> kernel = g.kernel_offsets();
    for (int64_t c = 0; c < g.groups; ++c)
      for (int64_t t = 0; t < taps; ++t)
        packed[t * g.groups + c] = g.weight[c * g.weight_group + kernel[t]];
    weights = packed;
    std::vector<int64_t*> tables;
    for (int64_t t = 0; t < 2 * threads; ++t) tables.push_back(space.take<int64_t>(taps));
    parallel_for(
        g.images * g.rows,
        [&](int64_t item, int64_t t) {
          run_line(item / g.rows, item % g.rows, tables[2 * t], tables[2 * t + 1]);
        },
        threads);
  }

 private:
  void run_line(int64_t image, int64_t i, int64_t* taps, int64_t* rows) const {
    const AxisRun* vertical = row_runs.data();
    while (i >= vertical->end) ++vertical;
    ChannelsLine<T> l{};
    l.taps = taps, l.weights = rows;
    l.x_step = g.step_w * g.src_strides.column, l.y_step = g.dst_strides.column;
    l.w = weights, l.start = g.bias, l.channels = g.groups;
    const T* x = g.src + image * g.src_strides.image + i * g.step_h * g.src_strides.row;
    T* y = g.dst + image * g.dst_strides.image + i * g.dst_strides.row;
    for (const AxisRun& horizontal : column_runs) {
      l.tap_count = 0;
      for (size_t u = vertical->first; u < vertical->last; ++u)
        for (size_t v = horizontal.first; v < horizontal.last; ++v) {
          taps[l.tap_count] = g.row_taps[u].offset * g.src_strides.row +
                              g.column_taps[v].offset * g.src_strides.column;
          rows[l.tap_count++] = static_cast<int64_t>(u * g.column_taps.size() + v) * g.groups;
        }
      l.x = x + horizontal.begin * l.x_step, l.y = y + horizontal.begin * l.y_step;
      l.pixels = horizontal.end - horizontal.begin;
      k.correlate(l);
    }
  }

  const Gather<T>& g;
  const DepthwiseKernelsOf<T>& k;
  const std::vector<AxisRun> row_runs, column_runs;
  const T* weights = nullptr;  // [tap][channel]
};

}  // namespace

template <class T>
void run_depthwise_pixels(const Gather<T>& g) {
  DepthwisePixels<T>(g).run();
}

template void run_depthwise_pixels(const Gather<float>&);
template void run_depthwise_pixels(const Gather<double>&);

}  // namespace fastconv
