// y = conv(x, W) + bias, as one gather GEMM.
#include "blocking.h"
#include "operations.h"
#include "pictures.h"

namespace fastconv {
namespace {

// Every output lies beside the picture: y = bias.
template <class T>
void fill_bias(const Problem& problem, const Operands& operands) {
  const Geometry& g = problem.g;
  const auto* bias = static_cast<const T*>(operands.bias);
  const Strides strides = picture_strides(problem, g.c_out, g.out_h, g.out_w);
  T* const y = static_cast<T*>(operands.out);
  for (int64_t n = 0; n < g.n; ++n)
    for (int64_t o = 0; o < g.c_out; ++o)
      for (int64_t p = 0; p < g.out_h * g.out_w; ++p)
        y[n * strides.image + o * strides.channel + p * strides.column] = bias ? bias[o] : T{0};
}

template <class T>
void run(const Problem& problem, const Operands& operands) {
  const Geometry& g = problem.g;
  Gather<T> gather{};
  gather.images = g.n, gather.groups = g.groups;
  gather.src = static_cast<const T*>(operands.a);
  gather.src_strides = picture_strides(problem, g.c_in, g.h, g.w);
  gather.src_channels = g.c_in_per_group(), gather.src_h = g.h, gather.src_w = g.w;
  gather.dst = static_cast<T*>(operands.out);
  gather.dst_strides = picture_strides(problem, g.c_out, g.out_h, g.out_w);
  gather.dst_channels = g.c_out_per_group(), gather.rows = g.out_h, gather.columns = g.out_w;
  gather.step_h = g.stride_h, gather.step_w = g.stride_w;
  gather.phases_h.size = g.out_h, gather.phases_w.size = g.out_w;
  gather.row_taps = live_taps(forward_taps(g.kh, g.dil_h, g.pad_top), g.stride_h, g.out_h, g.h);
  gather.column_taps = live_taps(forward_taps(g.kw, g.dil_w, g.pad_left), g.stride_w, g.out_w, g.w);
  gather.weight = static_cast<const T*>(operands.b);
  gather.weight_end = gather.weight + g.c_out * g.c_in_per_group() * g.kh * g.kw;
  gather.weight_row = g.kw, gather.weight_src = g.kh * g.kw;
  gather.weight_dst = g.c_in_per_group() * gather.weight_src;
  gather.weight_group = g.c_out_per_group() * gather.weight_dst;
  gather.bias = static_cast<const T*>(operands.bias);
  if (gather.tap_count() == 0)
    fill_bias<T>(problem, operands);
  run_gather(gather);
}

}  // namespace

void forward_general(const Problem& problem, const Operands& operands) {
  problem.dtype == DType::f32 ? run<float>(problem, operands) : run<double>(problem, operands);
}

}  // namespace fastconv
