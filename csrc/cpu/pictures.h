// From a Problem's pictures to strides, and from kernels to taps.
#pragma once
#include "gather.h"
#include "implementations.h"

namespace fastconv {

inline Strides picture_strides(const Problem& problem, int64_t channels, int64_t h, int64_t w) {
  if (problem.channels_last)
    return {channels * h * w, 1, w * channels, channels};
  return {channels * h * w, h * w, w, 1};
}

// Tap u of a forward axis reads source coordinate i * stride + u * dilation - padding.
inline std::vector<AxisTap> forward_taps(int64_t kernel, int64_t dilation, int64_t padding) {
  std::vector<AxisTap> taps;
  taps.reserve(static_cast<size_t>(kernel));
  for (int64_t u = 0; u < kernel; ++u) taps.push_back({u * dilation - padding, u});
  return taps;
}

}  // namespace fastconv
