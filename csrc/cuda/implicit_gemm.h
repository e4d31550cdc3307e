// Forward and grad_input on tensor cores as one problem, of NHWC pictures:
//
//   dst[n, y, x, m] = epilogue(sum over u, v, c of
//                              src[n, (y step_h + u dil_h + offset_h) / spread_h,
//                                     (x step_w + v dil_w + offset_w) / spread_w, c] W[m, u, v, c])
//
// over those u, v whose quotients are whole and inside of src.
//
//   forward      src = x,  step = stride, dil = dilation,  offset = -padding, spread = 1
//   grad_input   src = dy, step = 1,      dil = -dilation, offset = padding,  spread = stride
//
// As a matrix product: rows are the pixels of dst, columns its channels, and k runs over (u, v, c).
// W is packed once as [group][m][k], each row filled with zeros to whole steps of 64 bytes.
#pragma once
#include "table.h"

namespace fastconv::cuda {

struct ImplicitGemm {
  const void* src;
  const void* weight;  // packed
  const void* bias;    // and the rest of the epilogue
  const void* added;
  const void* mask;
  void* dst;
  bool relu;
  int64_t src_image;  // elements
  int src_h, src_w, src_channels;
  int dst_h, dst_w, dst_channels;
  int rows, columns;          // of the product; columns and what follows: of one group
  int channels, kw, k;        // k = kh * kw * channels
  int k_packed;
  int step_h, step_w, dil_h, dil_w, offset_h, offset_w, spread_h, spread_w;
  int column_tiles;
  bool pairs;  // two neighbouring channels of dst may be stored at once
};

constexpr int k_step_bytes = 64;

// How a step of src reaches shared memory: 16 bytes of one tap at a time, or single words of four
// bytes, for any number of channels and any address.
enum class Reads { vectors, words };

// Whether pixels, windows and taps can be counted with 32 bits; elements are counted with 64.
bool counts_in_32_bits(const Geometry&);

struct ImplicitGemmKernel {
  int tile_rows, tile_columns;
  int (*launch)(const ImplicitGemm&, unsigned tiles, unsigned groups, void* stream);
};

// One file an element type, so that they compile side by side.  `large` needs `vectors`.
ImplicitGemmKernel implicit_gemm_f32(Precision, Reads, bool large);
ImplicitGemmKernel implicit_gemm_bf16(Reads, bool large);
ImplicitGemmKernel implicit_gemm_f16(Reads, bool large);

}  // namespace fastconv::cuda
