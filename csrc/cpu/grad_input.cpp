// dx = the transposed convolution of dy, as one gather GEMM per phase of the stride.
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

std::vector<AxisTap> phase_taps(int64_t phase, int64_t kernel, int64_t stride, int64_t dilation,
                                int64_t padding) {
  std::vector<AxisTap> taps;
  for (int64_t u = 0; u < kernel; ++u) {
    const int64_t distance = phase + padding - u * dilation;
    if (distance % stride == 0)
      taps.push_back({distance / stride, u});
  }
  return taps;
}

// Per phase of one axis, its taps; only phases that the picture has.
std::vector<std::vector<AxisTap>> axis_phases(int64_t size, int64_t kernel, int64_t stride,
                                              int64_t dilation, int64_t padding) {
  std::vector<std::vector<AxisTap>> phases;
  for (int64_t phase = 0; phase < std::min(stride, size); ++phase)
    phases.push_back(phase_taps(phase, kernel, stride, dilation, padding));
  return phases;
}

template <class T>
void clear(T* out, int64_t count) {
  constexpr int64_t piece = 1 << 18;
  parallel_for(divide_up(count, piece), [&](int64_t index, int64_t) {
    std::memset(out + index * piece, 0, std::min(piece, count - index * piece) * sizeof(T));
  });
}

template <class T>
Gather<T> transposed(const Problem& problem, const Operands& operands) {
  const Geometry& g = problem.g;
  Gather<T> gather{};
  gather.images = g.n, gather.groups = g.groups;
  gather.src = static_cast<const T*>(operands.a);
  gather.src_strides = picture_strides(problem, g.c_out, g.out_h, g.out_w);
  gather.src_channels = g.c_out_per_group(), gather.src_h = g.out_h, gather.src_w = g.out_w;
  gather.dst_strides = picture_strides(problem, g.c_in, g.h, g.w);
  gather.dst_strides.row *= g.stride_h, gather.dst_strides.column *= g.stride_w;
  gather.dst_channels = g.c_in_per_group();
  gather.step_h = gather.step_w = 1;
  gather.weight = static_cast<const T*>(operands.b);
  gather.weight_end = gather.weight + g.c_out * g.c_in_per_group() * g.kh * g.kw;
  gather.weight_row = g.kw, gather.weight_dst = g.kh * g.kw;
  gather.weight_src = g.c_in_per_group() * gather.weight_dst;
  gather.weight_group = g.c_out_per_group() * gather.weight_src;
  return gather;
}

template <class T>
void run(const Problem& problem, const Operands& operands) {
  const Geometry& g = problem.g;
  const Strides strides = picture_strides(problem, g.c_in, g.h, g.w);
  const auto rows = axis_phases(g.h, g.kh, g.stride_h, g.dil_h, g.pad_top);
  const auto columns = axis_phases(g.w, g.kw, g.stride_w, g.dil_w, g.pad_left);
  const auto empty = [](const std::vector<AxisTap>& taps) { return taps.empty(); };
  T* out = static_cast<T*>(operands.out);
  if (std::any_of(rows.begin(), rows.end(), empty) ||
      std::any_of(columns.begin(), columns.end(), empty))
    clear(out, g.n * g.c_in * g.h * g.w);
  Gather<T> gather = transposed<T>(problem, operands);
  for (size_t y = 0; y < rows.size(); ++y)
    for (size_t x = 0; x < columns.size(); ++x) {
      if (rows[y].empty() || columns[x].empty())
        continue;
      gather.row_taps = rows[y], gather.column_taps = columns[x];
      gather.rows = divide_up(g.h - static_cast<int64_t>(y), g.stride_h);
      gather.columns = divide_up(g.w - static_cast<int64_t>(x), g.stride_w);
      gather.dst =
          out + static_cast<int64_t>(y) * strides.row + static_cast<int64_t>(x) * strides.column;
      run_gather(gather);
    }
}

}  // namespace

void grad_input_general(const Problem& problem, const Operands& operands) {
  problem.dtype == DType::f32 ? run<float>(problem, operands) : run<double>(problem, operands);
}

}  // namespace fastconv
