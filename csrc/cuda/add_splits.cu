#include "device.h"
#include "grad_weight_gemm.h"

namespace fastconv::cuda {
namespace {

template <class T>
struct Splits {
  const float* partial;  // [split][c_out][taps][channels]
  T* dw;                 // [c_out][channels][taps]
  int64_t total, channels, taps;
  int splits;
};

template <class T>
FASTCONV_KERNEL(256) add_splits_kernel(Splits<T> p) {
  const int64_t at = int64_t{block().x} * threads_in_block() + thread();
  if (at >= p.total) return;
  float sum = 0;
  for (int split = 0; split < p.splits; ++split) sum += p.partial[split * p.total + at];
  const int64_t channel = at % p.channels, tap = at / p.channels % p.taps, m = at / p.channels / p.taps;
  p.dw[(m * p.channels + channel) * p.taps + tap] = rounded<T>(sum);
}

template <class T>
int add(const Problem& problem, const float* partial, int splits, void* dw, void* stream) {
  const Geometry& g = problem.g;
  const int64_t channels = g.c_in_per_group(), taps = g.kh * g.kw, total = g.c_out * channels * taps;
  const Splits<T> p{partial, static_cast<T*>(dw), total, channels, taps, splits};
  return launch(add_splits_kernel<T>, {static_cast<unsigned>((total + 255) / 256), 1, 1}, 256, 0, stream, p);
}

}  // namespace

int add_splits(const Problem& p, const float* partial, int splits, void* dw, void* stream) {
  switch (p.type) {
    case Type::bf16: return add<bf16>(p, partial, splits, dw, stream);
    case Type::f16: return add<f16>(p, partial, splits, dw, stream);
    default: return add<float>(p, partial, splits, dw, stream);
  }
}

}  // namespace fastconv::cuda
