// How far two sets of float32 numbers are apart, without memory for their difference:
//
//   square_distance(a, b, to)                to = sum (a - b)^2, one number
//   scaled_difference(a, b, factor, to)      to = factor (a - b), factor one number
//
// Single numbers are tensors, as on other devices, where Python could not have them without waiting.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/picture.h"
#include "tensors.h"

namespace fastconv {
namespace {

constexpr int64_t piece = 16384;  // numbers that a thread takes at a time
constexpr int64_t lanes = 32;     // sums side by side, which any compiler turns into vectors

template <class Number>
Number* numbers_of(const Tensor& t, int64_t count) {
  if (t.scalar_type() != ScalarType::Float || !t.is_cpu() || !t.is_contiguous() || t.numel() != count)
    refuse("distance: expects " + std::to_string(count) + " float32 numbers on the CPU, contiguous");
  return static_cast<Number*>(t.data_ptr());
}

double square_distance_of(const float* a, const float* b, int64_t count) {
  float sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const float d = a[i + lane] - b[i + lane];
      sums[lane] += d * d;
    }
  double whole = 0;
  for (; i < count; ++i) whole += double(a[i] - b[i]) * (a[i] - b[i]);
  for (const float sum : sums) whole += sum;
  return whole;
}

void square_distance(const Tensor& a, const Tensor& b, Tensor to) {
  const int64_t count = a.numel();
  const float *first = numbers_of<const float>(a, count), *second = numbers_of<const float>(b, count);
  float* result = numbers_of<float>(to, 1);
  std::vector<double> sums(ceil_div(count, piece));  // of each piece, so that no thread's luck is in the result
  parallel_for(ceil_div(count, piece), [&](int64_t index, int64_t) {
    const int64_t at = index * piece;
    sums[index] = square_distance_of(first + at, second + at, std::min(piece, count - at));
  });
  double whole = 0;
  for (const double sum : sums) whole += sum;
  *result = static_cast<float>(whole);
}

void scaled_difference(const Tensor& a, const Tensor& b, const Tensor& factor, Tensor to) {
  const int64_t count = a.numel();
  const float *first = numbers_of<const float>(a, count), *second = numbers_of<const float>(b, count);
  float* result = numbers_of<float>(to, count);
  const float scale = *numbers_of<const float>(factor, 1);
  parallel_for(ceil_div(count, piece), [&](int64_t index, int64_t) {
    const int64_t end = std::min(count, (index + 1) * piece);
    for (int64_t i = index * piece; i < end; ++i) result[i] = scale * (first[i] - second[i]);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastconv, m) {
  m.def("square_distance(Tensor a, Tensor b, Tensor(a!) to) -> ()");
  m.def("scaled_difference(Tensor a, Tensor b, Tensor factor, Tensor(a!) to) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CPU, m) {
  m.impl("square_distance", TORCH_BOX(&square_distance));
  m.impl("scaled_difference", TORCH_BOX(&scaled_difference));
}

}  // namespace fastconv
