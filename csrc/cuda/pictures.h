// Problems as the general kernels take them: strides of dense pictures, and operands read around
// positions.  Host code.
#pragma once
#include "epilogue.h"
#include "simt_loads.cuh"
#include "table.h"

namespace fastconv::cuda {

struct Strides {
  int64_t image, channel, row, column;
};

inline Strides strides_of(bool channels_last, int64_t channels, int64_t h, int64_t w) {
  if (channels_last) return {channels * h * w, 1, w * channels, channels};
  return {channels * h * w, h * w, w, 1};
}
inline Strides input_strides(const Problem& p) { return strides_of(p.channels_last, p.g.c_in, p.g.h, p.g.w); }
inline Strides output_strides(const Problem& p) {
  return strides_of(p.channels_last, p.g.c_out, p.g.out_h, p.g.out_w);
}

template <class T>
bool aligned_for_four(const T* data) {
  return reinterpret_cast<uintptr_t>(data) % sizeof(Four<T>) == 0;
}

// Whether each of a pixel's groups of channels can be read four at a time.
template <class T>
bool four_channels(const T* data, const Strides& s, int64_t channels_per_group) {
  return s.channel == 1 && channels_per_group % 4 == 0 && aligned_for_four(data);
}

// x around the pixels of y: forward and grad_weight.
template <class T>
Around<T> input_around_outputs(const Problem& p, const void* x) {
  const Geometry& g = p.g;
  const Strides s = input_strides(p);
  const T* data = static_cast<const T*>(x);
  const auto i = [](int64_t v) { return static_cast<int>(v); };
  return {data, s.image, s.channel, s.row, s.column, i(g.c_in_per_group()), i(g.h), i(g.w), i(g.out_h), i(g.out_w),
          i(g.kh), i(g.kw), i(g.stride_h), i(g.stride_w), i(-g.pad_top), i(-g.pad_left), i(g.dil_h), i(g.dil_w),
          1, 1, g.c_in_per_group() % 4 == 0, four_channels(data, s, g.c_in_per_group())};
}

// dy around the pixels of x: grad_input.
template <class T>
Around<T> output_around_inputs(const Problem& p, const void* dy) {
  const Geometry& g = p.g;
  const Strides s = output_strides(p);
  const T* data = static_cast<const T*>(dy);
  const auto i = [](int64_t v) { return static_cast<int>(v); };
  return {data, s.image, s.channel, s.row, s.column, i(g.c_out_per_group()), i(g.out_h), i(g.out_w), i(g.h), i(g.w),
          i(g.kh), i(g.kw), 1, 1, i(g.pad_top), i(g.pad_left), i(-g.dil_h), i(-g.dil_w),
          i(g.stride_h), i(g.stride_w), g.c_out_per_group() % 4 == 0, four_channels(data, s, g.c_out_per_group())};
}

template <class T>
Epilogue<T> epilogue_of(const Operands& o) {
  const auto t = [](const void* data) { return static_cast<const T*>(data); };
  return {t(o.bias), t(o.added), t(o.mask), o.relu};
}

// Calls f(T{}) with T the type that `type` says.
template <class F>
int with_type(Type type, F&& f) {
  switch (type) {
    case Type::f32: return f(float{});
    case Type::f64: return f(double{});
    case Type::f16: return f(f16{});
    default: return f(bf16{});
  }
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace fastconv::cuda
