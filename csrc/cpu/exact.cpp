#include "exact.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "parallel.h"
#include "picture.h"

namespace fastconv {
namespace {

constexpr int64_t sampled = 64, piece = 1 << 16;

// The largest absolute value, or infinity if not all are integers.  NaN is none; infinity is large enough.
float largest_integer(const float* from, int64_t count, int64_t step) {
  float largest = 0;
  for (int64_t i = 0; i < count; i += step) {
    const float value = std::fabs(from[i]);
    if (!(value < 1 << 24) || value != static_cast<float>(static_cast<int32_t>(value))) return INFINITY;
    largest = std::max(largest, value);
  }
  return largest;
}

// The same of all, where a sample of them are.
float largest_if_integers(const float* from, int64_t count) {
  if (std::isinf(largest_integer(from, count, std::max<int64_t>(1, count / sampled)))) return INFINITY;
  const int64_t pieces = ceil_div(count, piece);
  std::vector<float> largest(pieces);
  std::atomic<bool> found_other{false};
  parallel_for(pieces, [&](int64_t index, int64_t) {
    if (found_other.load(std::memory_order_relaxed)) return;
    const int64_t begin = index * piece;
    largest[index] = largest_integer(from + begin, std::min(piece, count - begin), 1);
    if (std::isinf(largest[index])) found_other.store(true, std::memory_order_relaxed);
  });
  return found_other.load() ? INFINITY : *std::max_element(largest.begin(), largest.end());
}

}  // namespace

bool is_exact_directly(Operation operation, const Problem& problem, const Operands& operands) {
  const Geometry& g = problem.g;
  const int64_t x = g.n * g.c_in * g.h * g.w, y = g.n * g.c_out * g.out_h * g.out_w;
  const int64_t weights = g.c_out * g.c_in_per_group() * g.kh * g.kw;
  const bool gives_weights = operation == Operation::grad_weight, gives_y = operation == Operation::forward;
  const double products = static_cast<double>(gives_weights ? g.n * g.out_h * g.out_w
                                              : gives_y     ? g.c_in_per_group() * g.kh * g.kw
                                                            : g.c_out_per_group() * g.kh * g.kw);
  constexpr double exact = 1 << 24;
  // The smaller one first; trained weights, the usual case, end it there.
  const double of_b = largest_if_integers(static_cast<const float*>(operands.b), gives_weights ? x : weights);
  if (of_b * products > exact) return false;
  const double of_a = largest_if_integers(static_cast<const float*>(operands.a), gives_y ? x : y);
  return of_a * std::max(of_b, 1.0) * products <= exact;
}

}  // namespace fastconv
