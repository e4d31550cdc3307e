// Depthwise convolutions (one source channel per group) by kernels of their own.
#pragma once
#include "blocking.h"

namespace fastconv {

template <class T>
const DepthwiseKernelsOf<T>& depthwise() {
  if constexpr (sizeof(T) == 4)
    return kernels().depthwise->f32;
  else
    return kernels().depthwise->f64;
}

// Destinations [begin, end) of one axis that the same taps [first, last) reach inside the source.
// Offsets of taps must grow or fall along the axis, as all convolutions' do.
struct AxisRun {
  int64_t begin, end;
  size_t first, last;
};
std::vector<AxisRun> axis_runs(const std::vector<AxisTap>& taps, int64_t step, int64_t destinations,
                               int64_t size);

// The gather with one source and one destination channel per group, channels side by side.
template <class T>
bool is_depthwise_pixels(const Gather<T>& g) {
  return g.src_channels == 1 && g.dst_channels == 1 && g.src_strides.channel == 1 &&
         g.dst_strides.channel == 1 && g.groups >= depthwise<T>().lanes;
}
template <class T>
void run_depthwise_pixels(const Gather<T>&);

// The same, pixels side by side.
template <class T>
bool is_depthwise_planes(const Gather<T>& g) {
  return g.src_channels == 1 && g.dst_channels == 1 &&
         (g.src_strides.channel != 1 || g.groups == 1);
}
template <class T>
void run_depthwise_planes(const Gather<T>&);

}  // namespace fastconv
