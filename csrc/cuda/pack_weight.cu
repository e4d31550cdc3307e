#include "pack_weight.h"

#include "device.h"
#include "implicit_gemm.h"

namespace fastconv::cuda {
namespace {

template <class T>
struct Packing {
  const T* weight;  // OIHW
  T* packed;
  int64_t total;  // elements of packed
  int64_t columns, channels, taps, k_packed;
  int64_t group_step, column_step, channel_step;  // of weight
};

template <class T>
FASTCONV_KERNEL(256) pack_kernel(Packing<T> p) {
  const int64_t at = int64_t{block().x} * threads_in_block() + thread();
  if (at >= p.total) return;
  const int64_t k = at % p.k_packed, column = at / p.k_packed % p.columns, group = at / p.k_packed / p.columns;
  const int64_t tap = k / p.channels, channel = k % p.channels;
  p.packed[at] = tap < p.taps ? p.weight[group * p.group_step + column * p.column_step + channel * p.channel_step + tap]
                              : T{};
}

template <class T>
int pack(const Problem& problem, const void* weight, void* packed, void* stream) {
  const Geometry& g = problem.g;
  const int64_t taps = g.kh * g.kw, in = g.c_in_per_group(), out = g.c_out_per_group();
  Packing<T> p{static_cast<const T*>(weight), static_cast<T*>(packed)};
  p.taps = taps;
  p.k_packed = packed_k(problem);
  p.total = packed_bytes(problem) / static_cast<int64_t>(sizeof(T));
  p.group_step = out * in * taps;
  const bool forward = problem.operation == Operation::forward;
  p.columns = forward ? out : in;
  p.channels = forward ? in : out;
  p.column_step = forward ? in * taps : taps;
  p.channel_step = forward ? taps : in * taps;
  return launch(pack_kernel<T>, {static_cast<unsigned>((p.total + 255) / 256), 1, 1}, 256, 0, stream, p);
}

}  // namespace

int64_t packed_k(const Problem& p) {
  const Geometry& g = p.g;
  const int64_t channels = p.operation == Operation::forward ? g.c_in_per_group() : g.c_out_per_group();
  const int64_t step = k_step_bytes / bytes_of(p.type);
  return (g.kh * g.kw * channels + step - 1) / step * step;
}

int64_t packed_bytes(const Problem& p) {
  return (p.operation == Operation::forward ? p.g.c_out : p.g.c_in) * packed_k(p) * bytes_of(p.type);
}

int pack_weight(const Problem& p, const void* weight, void* packed, void* stream) {
  if (p.type == Type::f32) return pack<float>(p, weight, packed, stream);
  return pack<bf16>(p, weight, packed, stream);  // halves of either format are moved alike
}

}  // namespace fastconv::cuda
