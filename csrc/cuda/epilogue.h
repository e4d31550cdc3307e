// What happens to a sum before it is stored, in forward and in grad_input:
//
//   v = sum + bias[channel] + added[place]
//   v = max(v, 0)                      if relu
//   v = 0 unless mask[place] > 0       if there is a mask: the ReLU before, on the way back
//
// `added` and `mask` are pictures like the result, dense and in its layout; NaN passes a ReLU.
#pragma once
#include "device.h"

namespace fastconv::cuda {

template <class T>
struct Epilogue {
  const T* bias;
  const T* added;
  const T* mask;
  bool relu;
};

template <class T, class Sum>
FASTCONV_DEVICE Sum finished(Sum v, const Epilogue<T>& e, int64_t channel, int64_t place) {
  if (e.bias) v += to_float(e.bias[channel]);
  if (e.added) v += to_float(e.added[place]);
  if (e.relu && v < Sum(0)) v = Sum(0);
  if (e.mask && !(to_float(e.mask[place]) > Sum(0))) v = Sum(0);
  return v;
}

}  // namespace fastconv::cuda
