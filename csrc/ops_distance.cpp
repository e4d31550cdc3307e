// How far two sets of n float32 numbers are apart, without memory for their difference:
//
//   mean_square(a, b, to)                  to = sum (a - b)^2 / n, one number
//   mean_square_backward(a, b, grad, to)   to = 2 grad / n (a - b), grad one number
//
// and how far the Gram matrix of c channels with mean mu and covariance S is from a target A, (c, c),
// with D = scale (S + mu mu^T) - A, symmetric:
//
//   gram_distance(mu, S, A, scale, to)                           to = sum D^2 / c^2
//   gram_distance_backward(mu, S, A, scale, grad, d_mu, d_S)     d_S = 2 grad scale / c^2 D,
//                                                                d_mu = 2 d_S mu
//
// Single numbers are tensors, as on other devices, where Python could not have them without waiting.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/picture.h"
#include "tensors.h"

namespace fastconv {
namespace {

constexpr int64_t piece = 16384;  // numbers that a thread takes at a time
constexpr int64_t lanes = 32;     // sums side by side, which any compiler turns into vectors

// sum_i term(i)
template <class Term>
double sum_of(int64_t count, const Term& term) {
  float sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (int64_t lane = 0; lane < lanes; ++lane) sums[lane] += term(i + lane);
  double whole = 0;
  for (; i < count; ++i) whole += double{term(i)};
  for (const float sum : sums) whole += sum;
  return whole;
}

double square_distance_of(const float* a, const float* b, int64_t count) {
  return sum_of(count, [&](int64_t i) { return (a[i] - b[i]) * (a[i] - b[i]); });
}

void mean_square(const Tensor& a, const Tensor& b, Tensor to) {
  const int64_t count = a.numel();
  const float *first = numbers_of<const float>(a, count, "a"), *second = numbers_of<const float>(b, count, "b");
  float* result = numbers_of<float>(to, 1, "the distance");
  std::vector<double> sums(ceil_div(count, piece));  // of each piece, so that no thread's luck is in the result
  parallel_for(ceil_div(count, piece), [&](int64_t index, int64_t) {
    const int64_t at = index * piece;
    sums[index] = square_distance_of(first + at, second + at, std::min(piece, count - at));
  });
  double whole = 0;
  for (const double sum : sums) whole += sum;
  *result = static_cast<float>(whole / static_cast<double>(count));
}

void mean_square_backward(const Tensor& a, const Tensor& b, const Tensor& grad, Tensor to) {
  const int64_t count = a.numel();
  const float *first = numbers_of<const float>(a, count, "a"), *second = numbers_of<const float>(b, count, "b");
  float* result = numbers_of<float>(to, count, "the gradient");
  const float mean = 2 / static_cast<float>(count);
  const float scale = mean * *numbers_of<const float>(grad, 1, "the distance's gradient");
  parallel_for(ceil_div(count, piece), [&](int64_t index, int64_t) {
    const int64_t end = std::min(count, (index + 1) * piece);
    for (int64_t i = index * piece; i < end; ++i) result[i] = scale * (first[i] - second[i]);
  });
}

struct Grams {
  int64_t channels;
  const float *mean, *covariance, *target;
  float scale;

  Grams(const Tensor& mu, const Tensor& s, const Tensor& a, double scale)
      : channels(mu.numel()), mean(numbers_of<const float>(mu, channels, "the mean")),
        covariance(numbers_of<const float>(s, channels * channels, "the covariance")),
        target(numbers_of<const float>(a, channels * channels, "the target")),
        scale(static_cast<float>(scale)) {}

  // work(i, a row of D) for all rows, in parallel.
  template <class Work>
  void for_rows(const Work& work) const {
    constexpr int64_t rows = 8;  // that a thread takes at a time
    std::vector<float> differences(thread_count() * channels);
    parallel_for(ceil_div(channels, rows), [&](int64_t index, int64_t thread) {
      float* const difference = differences.data() + thread * channels;
      for (int64_t i = index * rows; i < std::min(channels, (index + 1) * rows); ++i) {
        const float *s = covariance + i * channels, *a = target + i * channels, mu = mean[i];
        for (int64_t j = 0; j < channels; ++j) difference[j] = scale * (s[j] + mu * mean[j]) - a[j];
        work(i, difference);
      }
    });
  }
};

void gram_distance(const Tensor& mean, const Tensor& covariance, const Tensor& target, double scale,
                   Tensor to) {
  const Grams grams(mean, covariance, target, scale);
  float* result = numbers_of<float>(to, 1, "the distance");
  std::vector<double> sums(grams.channels);
  grams.for_rows([&](int64_t i, const float* row) {
    sums[i] = sum_of(grams.channels, [&](int64_t j) { return row[j] * row[j]; });
  });
  double whole = 0;
  for (const double sum : sums) whole += sum;
  *result = static_cast<float>(whole / (double(grams.channels) * grams.channels));
}

void gram_distance_backward(const Tensor& mean, const Tensor& covariance, const Tensor& target, double scale,
                            const Tensor& grad, Tensor d_mean, Tensor d_covariance) {
  const Grams grams(mean, covariance, target, scale);
  const int64_t c = grams.channels;
  float* to_mean = numbers_of<float>(d_mean, c, "the mean's gradient");
  float* to_covariance = numbers_of<float>(d_covariance, c * c, "the covariance's gradient");
  const float scaled = 2 * grams.scale / static_cast<float>(c * c);
  const float factor = scaled * *numbers_of<const float>(grad, 1, "the distance's gradient");
  grams.for_rows([&](int64_t i, const float* row) {
    float* to = to_covariance + i * c;
    for (int64_t j = 0; j < c; ++j) to[j] = factor * row[j];
    to_mean[i] = static_cast<float>(2 * sum_of(c, [&](int64_t j) { return to[j] * grams.mean[j]; }));
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastconv, m) {
  m.def("mean_square(Tensor a, Tensor b, Tensor(a!) to) -> ()");
  m.def("mean_square_backward(Tensor a, Tensor b, Tensor grad, Tensor(a!) to) -> ()");
  m.def("gram_distance(Tensor mean, Tensor covariance, Tensor target, float scale, Tensor(a!) to) -> ()");
  m.def("gram_distance_backward(Tensor mean, Tensor covariance, Tensor target, float scale, "
        "Tensor grad, Tensor(a!) d_mean, Tensor(b!) d_covariance) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CPU, m) {
  m.impl("mean_square", TORCH_BOX(&mean_square));
  m.impl("mean_square_backward", TORCH_BOX(&mean_square_backward));
  m.impl("gram_distance", TORCH_BOX(&gram_distance));
  m.impl("gram_distance_backward", TORCH_BOX(&gram_distance_backward));
}

}  // namespace fastconv
