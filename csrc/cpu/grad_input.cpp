// dx = the transposed convolution of dy, as a gather GEMM over the phases of the stride.
//
//   dx[c, y, x] = sum over o, u, v with (y + p - u d) and (x + p - v d) divisible by the stride s:
//                 W[o, c, u, v] dy[o, (y + p - u d) / s, (x + p - v d) / s]
//
// For y = phase + s i the divisible taps are the same for every i, and they read row
// i + (phase + p - u d) / s of dy.  Phases that no tap hits are zero.
#include <cstring>

#include "blocking.h"
#include "operations.h"
#include "parallel.h"
#include "pictures.h"

namespace fastconv {
namespace {

Phases phases_of(int64_t size, int64_t stride) { return {std::min(stride, size), stride, size}; }

// The taps that read inside dy, in the kernel's order, each with its phase.
std::vector<AxisTap> transposed_taps(const Phases& phases, int64_t kernel, int64_t dilation,
                                     int64_t padding, int64_t out_size) {
  std::vector<AxisTap> taps;
  for (int64_t u = 0; u < kernel; ++u) {
    const int64_t distance = padding - u * dilation;
    const int64_t phase = ((-distance) % phases.apart + phases.apart) % phases.apart;
    if (phase >= phases.count)
      continue;
    const AxisTap tap{(phase + distance) / phases.apart, u, phase};
    if (is_live(tap, 1, phases.length(phase), out_size))
      taps.push_back(tap);
  }
  return taps;
}

bool hits_all(const std::vector<AxisTap>& taps, const Phases& phases) {
  for (int64_t phase = 0; phase < phases.count; ++phase)
    if (std::none_of(taps.begin(), taps.end(),
                     [&](const AxisTap& tap) { return tap.phase == phase; }))
      return false;
  return true;
}

template <class T>
void clear(T* out, int64_t count) {
  constexpr int64_t piece = 1 << 18;
  parallel_for(ceil_div(count, piece), [&](int64_t index, int64_t) {
    std::memset(out + index * piece, 0, std::min(piece, count - index * piece) * sizeof(T));
  });
}

template <class T>
void run(const Problem& problem, const Operands& operands) {
  const Geometry& g = problem.g;
  Gather<T> gather{};
  gather.images = g.n, gather.groups = g.groups;
  gather.src = static_cast<const T*>(operands.a);
  gather.src_strides = picture_strides(problem, g.c_out, g.out_h, g.out_w);
  gather.src_channels = g.c_out_per_group(), gather.src_h = g.out_h, gather.src_w = g.out_w;
  gather.dst = static_cast<T*>(operands.out);
  gather.dst_strides = picture_strides(problem, g.c_in, g.h, g.w);
  gather.owns_gaps = gather.dst_strides.column == 1;
  gather.dst_strides.row *= g.stride_h, gather.dst_strides.column *= g.stride_w;
  gather.dst_channels = g.c_in_per_group();
  gather.phases_h = phases_of(g.h, g.stride_h), gather.phases_w = phases_of(g.w, g.stride_w);
  gather.rows = gather.phases_h.length(0), gather.columns = gather.phases_w.length(0);
  gather.step_h = gather.step_w = 1;
  gather.row_taps = transposed_taps(gather.phases_h, g.kh, g.dil_h, g.pad_top, g.out_h);
  gather.column_taps = transposed_taps(gather.phases_w, g.kw, g.dil_w, g.pad_left, g.out_w);
  gather.weight = static_cast<const T*>(operands.b);
  gather.weight_end = gather.weight + g.c_out * g.c_in_per_group() * g.kh * g.kw;
  gather.weight_row = g.kw, gather.weight_dst = g.kh * g.kw;
  gather.weight_src = g.c_in_per_group() * gather.weight_dst;
  gather.weight_group = g.c_out_per_group() * gather.weight_src;
  if (!hits_all(gather.row_taps, gather.phases_h) ||
      !hits_all(gather.column_taps, gather.phases_w))
    clear(gather.dst, g.n * g.c_in * g.h * g.w);
  run_gather(gather);
}

}  // namespace

void grad_input_general(const Problem& problem, const Operands& operands) {
  problem.dtype == DType::f32 ? run<float>(problem, operands) : run<double>(problem, operands);
}

}  // namespace fastconv
