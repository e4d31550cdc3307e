// What the operators of every device have in common: checking what came from Python, and tensors in
// the layouts that kernels expect.  `geometry` is ConvGeometry.flat.  Everything is validated before
// any kernel runs, so that no list of integers can make a kernel leave its tensors.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "geometry.h"

namespace fastconv {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = std::vector<int64_t>;

[[noreturn]] inline void refuse(const std::string& what) { throw std::invalid_argument("fastconv: " + what); }

// torch reports a failed allocation through its stable interface as a failed call, without a reason.
[[noreturn]] inline void out_of_memory() {
  throw std::runtime_error("fastconv: allocation failed, not enough memory");
}

// A string among an operator's arguments, to be taken once.  torch's own way, a std::string, loses
// the copy that it makes: 48 bytes at every call.  Operators that run at every call take integers.
struct Text {
  StringHandle handle;
  std::string take() const {
    size_t length = 0;
    const char* data = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(torch_string_length(handle, &length));
    STABLE_TORCH_ERROR_CODE_CHECK(torch_string_c_str(handle, &data));
    std::string taken(data, length);
    STABLE_TORCH_ERROR_CODE_CHECK(torch_delete_string(handle));
    return taken;
  }
};

inline Geometry geometry_from(const Sizes& flat) {
  if (flat.size() != Geometry::fields) refuse("geometry expects 18 integers, in ConvGeometry's order");
  Geometry g;
  std::memcpy(&g, flat.data(), sizeof g);
  constexpr int64_t most = int64_t{1} << 30;  // so that no product of two numbers leaves 64 bits
  // No step is taken to a single output, and none between the taps of a single one.
  if (g.out_h == 1) g.stride_h = std::min(g.stride_h, most - 1);
  if (g.out_w == 1) g.stride_w = std::min(g.stride_w, most - 1);
  if (g.kh == 1) g.dil_h = std::min(g.dil_h, most - 1);
  if (g.kw == 1) g.dil_w = std::min(g.dil_w, most - 1);
  for (const int64_t value : {g.n, g.c_in, g.h, g.w, g.c_out, g.kh, g.kw, g.stride_h, g.stride_w, g.pad_top,
                              g.pad_bottom, g.pad_left, g.pad_right, g.dil_h, g.dil_w, g.groups, g.out_h, g.out_w})
    if (value >= most) refuse("geometry expects numbers below 2^30, got " + std::to_string(value));
  const bool positive = g.n > 0 && g.c_in > 0 && g.h > 0 && g.w > 0 && g.c_out > 0 && g.kh > 0 &&
                        g.kw > 0 && g.stride_h > 0 && g.stride_w > 0 && g.dil_h > 0 && g.dil_w > 0 &&
                        g.groups > 0 && g.out_h > 0 && g.out_w > 0;
  const bool padded = g.pad_top >= 0 && g.pad_bottom >= 0 && g.pad_left >= 0 && g.pad_right >= 0;
  if (!positive || !padded) refuse("geometry expects positive sizes and non-negative padding");
  if (g.c_in % g.groups || g.c_out % g.groups) refuse("geometry: groups must divide both channels");
  const int64_t last_row = (g.out_h - 1) * g.stride_h + (g.kh - 1) * g.dil_h;
  const int64_t last_column = (g.out_w - 1) * g.stride_w + (g.kw - 1) * g.dil_w;
  if (last_row >= g.pad_top + g.h + g.pad_bottom || last_column >= g.pad_left + g.w + g.pad_right)
    refuse("geometry: the output reaches beyond the padded input");
  return g;
}

inline Sizes input_sizes(const Geometry& g) { return {g.n, g.c_in, g.h, g.w}; }
inline Sizes output_sizes(const Geometry& g) { return {g.n, g.c_out, g.out_h, g.out_w}; }
inline Sizes weight_sizes(const Geometry& g) { return {g.c_out, g.c_in_per_group(), g.kh, g.kw}; }

inline void require(const Tensor& tensor, const char* name, const Sizes& sizes, ScalarType dtype) {
  const auto actual = tensor.sizes();
  bool same = actual.size() == sizes.size();
  for (size_t i = 0; same && i < sizes.size(); ++i) same = actual[i] == sizes[i];
  if (!same) refuse(std::string(name) + " does not have the shape that geometry says");
  if (tensor.scalar_type() != dtype) refuse(std::string(name) + " has another dtype than the first tensor");
}

// What an operator reads and writes on the CPU without torch: numbers of one type, without gaps between them.
struct NumberKind {
  ScalarType type;
  const char* name;
};
template <class Number>
constexpr NumberKind kind_of() {
  if constexpr (std::is_same_v<Number, float>) return {ScalarType::Float, "float32"};
  if constexpr (std::is_same_v<Number, double>) return {ScalarType::Double, "float64"};
  if constexpr (std::is_same_v<Number, int16_t>) return {ScalarType::Short, "int16"};
  if constexpr (std::is_same_v<Number, int64_t>) return {ScalarType::Long, "int64"};
  if constexpr (std::is_same_v<Number, bool>) return {ScalarType::Bool, "bool"};
}

// `least` of them or more: memory that is kept from call to call.
template <class Number>
Number* memory_of(const Tensor& t, int64_t least, const char* name) {
  constexpr NumberKind kind = kind_of<std::remove_const_t<Number>>();
  if (t.scalar_type() != kind.type || !t.is_cpu() || !t.is_contiguous() || t.numel() < least)
    refuse(std::string(name) + " expects " + std::to_string(least) + " " + kind.name +
           " numbers, contiguous and on the CPU");
  return static_cast<Number*>(t.data_ptr());
}

// `count` of them and no more.
template <class Number>
Number* numbers_of(const Tensor& t, int64_t count, const char* name) {
  Number* numbers = memory_of<Number>(t, count, name);
  if (t.numel() != count)
    refuse(std::string(name) + " expects " + std::to_string(count) + " numbers, got " + std::to_string(t.numel()));
  return numbers;
}

// Channels-last only if it is not also plain: a picture of one channel or one pixel is both.  As in
// torch, the stride of an axis of size one says nothing.
inline bool is_channels_last(const Tensor& t) {
  if (t.is_contiguous()) return false;
  const int64_t c = t.size(1), h = t.size(2), w = t.size(3);
  const auto steps = [&](int axis, int64_t step) { return t.size(axis) == 1 || t.stride(axis) == step; };
  return steps(1, 1) && steps(3, c) && steps(2, w * c) && steps(0, h * w * c);
}

inline Tensor dense(const Tensor& t, bool channels_last) try {
  if (channels_last)
    return is_channels_last(t) ? t : torch::stable::contiguous(t, MemoryFormat::ChannelsLast);
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
} catch (const std::exception&) {
  out_of_memory();  // of a copy
}

}  // namespace fastconv
