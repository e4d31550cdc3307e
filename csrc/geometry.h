// The sizes of one convolution: a plain mirror of ConvGeometry in fastconv/geometry.py, which
// does all shape arithmetic and checks.  Nothing here works out a size of its own.
#pragma once
#include <stdint.h>

namespace fastconv {

struct Geometry {
  int64_t n, c_in, h, w, c_out, kh, kw;
  int64_t stride_h, stride_w;
  int64_t pad_top, pad_bottom, pad_left, pad_right;
  int64_t dil_h, dil_w;
  int64_t groups;
  int64_t out_h, out_w;

  static constexpr int fields = 18;

  int64_t c_in_per_group() const { return c_in / groups; }
  int64_t c_out_per_group() const { return c_out / groups; }
};
static_assert(sizeof(Geometry) == Geometry::fields * sizeof(int64_t), "read as a flat list");

}  // namespace fastconv
