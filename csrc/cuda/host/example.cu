// Kernels that only the tests of the emulator run: one is right, the others each hold one mistake.
#include "../device.h"

namespace fastconv {
namespace {

struct Example {
  const float* x;  // of 4 * threads, a multiple of 128
  float* y;        // per thread the sum of its neighbour's four numbers, and the block's sum
  int mistake;
};

enum Mistake { none, no_barrier, no_wait, barrier_of_some, outside, not_written, half_a_warp };

FASTCONV_KERNEL(256) example(Example p) {
  const int t = thread(), n = threads_in_block();
  float* tile = static_cast<float*>(shared_memory());
  if (p.mistake != not_written || t != 3) cp_async16(tile + 4 * t, p.x + 4 * t, true);
  if (p.mistake == outside) tile[0] = p.x[4 * n + t];
  cp_async_commit();
  if (p.mistake != no_wait) cp_async_wait<0>();
  if (p.mistake != no_barrier && (p.mistake != barrier_of_some || t)) sync();
  const float* mine = tile + 4 * ((t + n / 2 + 1) % n);
  float sum = mine[0] + mine[1] + mine[2] + mine[3];
  p.y[t] = sum;
  if (p.mistake == half_a_warp && t % 32 < 16) return;
  FASTCONV_UNROLL
  for (int mask = 16; mask; mask /= 2) sum += shuffle_xor(sum, mask);
  if (t % 32 == 0) p.y[n + t / 32] = sum;
}

}  // namespace
}  // namespace fastconv

extern "C" int fastconv_example_launch(const float* x, float* y, int threads, int mistake) {
  const fastconv::Example p{x, y, mistake};
  return fastconv::launch(fastconv::example, {1, 1, 1}, threads, threads * size_t{16}, nullptr, p);
}
