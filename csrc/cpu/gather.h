// The general path's one problem: a GEMM that gathers its operand from a picture.
//
//   dst[m, i, j] = bias[m] + sum over c, row taps u, column taps v:
//                  W[m, c, u, v] * src[c, i * step_h + row_taps[u].offset,
//                                         j * step_w + column_taps[v].offset]
//
// with src = 0 outside the picture.  Both directions are of this form:
//
//   forward      src = x, dst = y; step = stride; offset = u * dilation - padding
//   grad_input   src = dy, dst = dx; step = 1.  Destinations fall into phases, stride x stride of
//                them: phase (y, x) is every stride-th row from y and column from x, and (i, j)
//                above counts within a phase.  A tap hits one phase, so that nothing is multiplied
//                by the zeros between.
//
// Two drivers run it, by what lies along vectors: run_planes (pixels; the natural one for NCHW)
// and run_pixels (output channels; for channels_last).  Both take any strides.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace fastconv {

// Steps between neighbours, in elements.
struct Strides {
  int64_t image, channel, row, column;
};

struct AxisTap {
  int64_t offset;  // source coordinate for destination coordinate 0
  int64_t kernel;  // the kernel's row or column
  int64_t phase = 0;
};

// How an axis of the destination falls into phases, each `apart` from element to element.
struct Phases {
  int64_t count = 1, apart = 1, size = 0;  // size: of the whole axis
  int64_t length(int64_t phase) const { return (size - phase + apart - 1) / apart; }
};

template <class T>
struct Gather {
  int64_t images, groups;
  const T* src;
  Strides src_strides;
  int64_t src_channels, src_h, src_w;  // channels of one group
  T* dst;
  Strides dst_strides;                  // rows and columns: within a phase
  int64_t dst_channels, rows, columns;  // channels of one group; of the first phase, the largest
  Phases phases_h, phases_w;
  // Whether what lies between two destinations of a row is the same row of the same channel, in other
  // phases: they are computed by the same thread, or after each other.  With channels side by side
  // other threads write there.
  bool owns_gaps = false;
  int64_t step_h, step_w;
  std::vector<AxisTap> row_taps, column_taps;
  const T* weight;
  int64_t weight_group, weight_dst, weight_src, weight_row;  // strides; along a kernel row 1
  const T* weight_end;
  const T* bias;  // one per destination channel of all groups, or null

  int64_t tap_count() const { return static_cast<int64_t>(row_taps.size() * column_taps.size()); }
  int64_t reduction() const { return src_channels * tap_count(); }
  // Where each tap lies in the kernel, rows first.
  std::vector<int64_t> kernel_offsets() const {
    std::vector<int64_t> offsets;
    for (const AxisTap& u : row_taps)
      for (const AxisTap& v : column_taps) offsets.push_back(u.kernel * weight_row + v.kernel);
    return offsets;
  }
  bool has_phases() const { return phases_h.count * phases_w.count > 1; }
  T* phase_dst(int64_t y, int64_t x) const {
    return dst + y * (dst_strides.row / phases_h.apart) + x * (dst_strides.column / phases_w.apart);
  }
  double products() const {
    return static_cast<double>(images * groups * dst_channels) *
           static_cast<double>(rows * columns) * static_cast<double>(reduction());
  }
};

template <class T>
void run_planes(const Gather<T>&);
template <class T>
void run_pixels(const Gather<T>&);
// On a matrix unit, where there is one and it pays (gather_squares.cpp).
bool suits_squares(const Gather<float>&);
void run_squares(const Gather<float>&);
// By whichever of them suits the strides and channel counts.
template <class T>
void run_gather(const Gather<T>&);

template <class T>
const GemmKernelsOf<T>& gemm() {
  if constexpr (sizeof(T) == 4)
    return kernels().gemm->f32;
  else
    return kernels().gemm->f64;
}

}  // namespace fastconv
