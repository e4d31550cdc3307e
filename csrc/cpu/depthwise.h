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
