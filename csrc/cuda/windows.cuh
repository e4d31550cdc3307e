// Where the numbers of src lie that meet in an implicit matrix product: see implicit_gemm.h.
#pragma once
#include "device.h"
#include "implicit_gemm.h"

namespace fastconv::cuda {

// A place on the k axis.
struct Tap {
  int u, v, c;
};

FASTCONV_DEVICE Tap tap_at(const ImplicitGemm& p, int k) {
  const int tap = k / p.channels;
  return {tap / p.kw, tap % p.kw, k % p.channels};
}

FASTCONV_DEVICE void advance(Tap& tap, const ImplicitGemm& p, int by) {
  for (tap.c += by; tap.c >= p.channels; tap.c -= p.channels)
    if (++tap.v == p.kw) {
      tap.v = 0;
      ++tap.u;
    }
}

// A row of the product: the window of one pixel of dst.
struct Window {
  int64_t image;  // where src's picture begins, in elements
  int y, x;       // of tap (0, 0), before `spread`
};

FASTCONV_DEVICE Window window_at(const ImplicitGemm& p, int row, int group) {
  if (row >= p.rows) return {0, -(1 << 30), 0};  // above every picture
  const int pixel = row % (p.dst_h * p.dst_w), image = row / (p.dst_h * p.dst_w);
  return {image * p.src_image + int64_t{group} * p.channels, pixel / p.dst_w * p.step_h + p.offset_h,
          pixel % p.dst_w * p.step_w + p.offset_w};
}

// The element of src under a tap, or -1 where there is none.  The taps past the end of k, which
// weights of zero meet, may lie anywhere.
FASTCONV_DEVICE int64_t element_under(const ImplicitGemm& p, const Window& window, const Tap& tap, bool in_k) {
  int y = window.y + tap.u * p.dil_h, x = window.x + tap.v * p.dil_w;
  if (y < 0 || x < 0 || !in_k) return -1;
  if (p.spread_h > 1) {
    if (y % p.spread_h) return -1;
    y /= p.spread_h;
  }
  if (p.spread_w > 1) {
    if (x % p.spread_w) return -1;
    x /= p.spread_w;
  }
  if (y >= p.src_h || x >= p.src_w) return -1;
  return window.image + (int64_t{y} * p.src_w + x) * p.src_channels + tap.c;
}

}  // namespace fastconv::cuda
