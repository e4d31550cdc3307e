// What moments need beyond Winograd's micro-kernels, for one block of 16 channels:
//
//   add_up   total[c] += sum_p from[p][c]
//   finish   to[p][c] (+)= constant[c] + product[p][c]
#include "kernels.h"
#include "lanes.h"

namespace fastconv::FASTCONV_ISA {
namespace {

// Four sums, or each addition would wait for the one before it.
void add_up(const float* from, int64_t pixels, float* total) {
  for (int64_t c = 0; c < block_width; c += L) {
    V sum[4] = {};
    int64_t p = 0;
    for (; p + 4 <= pixels; p += 4)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[i] += load(from + (p + i) * block_width + c);
    for (; p < pixels; ++p) sum[0] += load(from + p * block_width + c);
    store(total + c, load(total + c) + ((sum[0] + sum[1]) + (sum[2] + sum[3])));
  }
}

void finish(const float* product, const float* constant, int64_t pixels, bool accumulate,
            float* to) {
  for (int64_t p = 0; p < pixels; ++p)
    for (int64_t c = 0; c < block_width; c += L) {
      const int64_t at = p * block_width + c;
      V v = load(constant + c);
      if (product) v += load(product + at);
      if (accumulate) v += load(to + at);
      store(to + at, v);
    }
}

}  // namespace

extern const GramKernels gram_kernels;
const GramKernels gram_kernels = {add_up, finish};

}  // namespace fastconv::FASTCONV_ISA
