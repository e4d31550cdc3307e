#include "gather.h"

#include "blocking.h"
#include "depthwise.h"

namespace fastconv {
namespace {

template <class T>
Gather<T> with_groups(const Gather<T>& g, int64_t first, int64_t count) {
  Gather<T> part = g;
  part.groups = count;
  part.src += first * g.src_channels * g.src_strides.channel;
  part.dst += first * g.dst_channels * g.dst_strides.channel;
  part.weight += first * g.weight_group;
  if (g.bias)
    part.bias += first * g.dst_channels;
  return part;
}

// Of a single group.
template <class T>
Gather<T> with_channels(const Gather<T>& g, int64_t first, int64_t count) {
  Gather<T> part = g;
  part.dst_channels = count;
  part.dst += first * g.dst_strides.channel;
  part.weight += first * g.weight_dst;
  if (g.bias)
    part.bias += first;
  return part;
}

std::vector<AxisTap> taps_of(const std::vector<AxisTap>& taps, int64_t phase) {
  std::vector<AxisTap> hits;
  for (const AxisTap& tap : taps)
    if (tap.phase == phase)
      hits.push_back({tap.offset, tap.kernel, 0});
  return hits;
}

// Each phase as a gather of its own; phases that no tap hits are nobody's.
template <class T>
void run_phases(const Gather<T>& g) {
  for (int64_t y = 0; y < g.phases_h.count; ++y)
    for (int64_t x = 0; x < g.phases_w.count; ++x) {
      Gather<T> part = g;
      part.row_taps = taps_of(g.row_taps, y), part.column_taps = taps_of(g.column_taps, x);
      if (part.tap_count() == 0)
        continue;
      part.dst = g.phase_dst(y, x);
      part.rows = part.phases_h.size = g.phases_h.length(y);
      part.columns = part.phases_w.size = g.phases_w.length(x);
      part.phases_h.count = part.phases_h.apart = part.phases_w.count = part.phases_w.apart = 1;
      run_gather(part);
    }
}

// Whether it is a product of matrices: each destination reads the source pixel in its own place.
template <class T>
bool pixels_alone(const Gather<T>& g) {
  return !g.has_phases() && g.tap_count() == 1 && g.row_taps[0].offset == 0 && g.column_taps[0].offset == 0 &&
         g.step_h == 1 && g.step_w == 1 && g.rows == g.src_h && g.columns == g.src_w &&
         g.src_strides.row == g.src_w * g.src_strides.column &&
         g.dst_strides.row == g.columns * g.dst_strides.column;
}

template <class T>
Gather<T> as_one_line(const Gather<T>& g) {
  Gather<T> line = g;
  line.columns = line.src_w = g.rows * g.columns;
  line.rows = line.src_h = 1;
  line.phases_h.size = 1, line.phases_w.size = line.columns;
  return line;
}

template <class T>
bool suits_planes(const Gather<T>& g) {
  // Few channels leave most of a vector empty: then pixels fill it, whatever the layout.
  if (2 * g.dst_channels < gemm<T>().lanes)
    return true;
  // For few pixels, whichever takes the weights of one tap as they are.
  if (g.tap_count() == 1 && g.rows * g.columns < few_pixels &&
      g.dst_channels % gemm<T>().lanes == 0)
    return g.weight_src == 1 || is_used_once(g);
  return g.dst_strides.channel != 1 || g.dst_strides.column == 1;
}

// Whether it was done there.
template <class T>
bool on_matrix_unit(const Gather<T>& g) {
  if constexpr (sizeof(T) == 4)
    if (suits_squares(g)) {
      run_squares(g);
      return true;
    }
  return false;
}

}  // namespace

template <class T>
void run_gather(const Gather<T>& g) {
  if (g.tap_count() == 0)
    return;
  if (g.has_phases() && (g.tap_count() == 1 || g.src_strides.column != 1)) {
    run_phases(g);
    return;
  }
  const double bytes = static_cast<double>(g.groups * g.dst_channels) * g.reduction() * sizeof(T);
  if (bytes > packed_bytes && g.groups > 1) {
    run_gather(with_groups(g, 0, g.groups / 2));
    run_gather(with_groups(g, g.groups / 2, g.groups - g.groups / 2));
    return;
  }
  const int64_t half = round_up(g.dst_channels / 2, 2 * gemm<T>().lanes);
  if (bytes > packed_bytes && half > 0 && half < g.dst_channels) {
    run_gather(with_channels(g, 0, half));
    run_gather(with_channels(g, half, g.dst_channels - half));
    return;
  }
  if (is_depthwise_pixels(g))
    run_depthwise_pixels(g);
  else if (is_depthwise_planes(g))
    run_depthwise_planes(g);
  else if (pixels_alone(g) && g.rows > 1)
    run_gather(as_one_line(g));
  else if (on_matrix_unit(g))
    return;
  else if (suits_planes(g))
    run_planes(g);
  else
    run_pixels(g);
}

template void run_gather(const Gather<float>&);
template void run_gather(const Gather<double>&);

}  // namespace fastconv
