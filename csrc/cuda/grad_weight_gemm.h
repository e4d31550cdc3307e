// grad_weight on tensor cores, of NHWC pictures:
//
//   dW[m, u, v, c] = sum over pixels p = (n, y, x) of dy[n, y, x, m] x[window of p under (u, v), c]
//
// As a matrix product: rows are dy's channels, columns run over (u, v, c), k over the pixels.  These
// are many and the rest is few, so the pixels are split among blocks; each split's sums go to
// `partial`, and a second kernel adds them, always in the same order.
#pragma once
#include "implicit_gemm.h"

namespace fastconv::cuda {

struct GradWeightGemm {
  ImplicitGemm x;   // src = x, dst_h and dst_w those of dy; k: the columns of this product
  const void* dy;
  int dy_channels;
  float* partial;   // [split][group][m][column]
  int rows, pixels, pixels_per_split;
  int row_tiles, column_tiles, splits;
};

struct GradWeightKernel {
  int tile_rows, tile_columns;
  int (*launch)(const GradWeightGemm&, unsigned blocks, unsigned groups, void* stream);
};

GradWeightKernel grad_weight_f32(Precision, Reads, bool large);
GradWeightKernel grad_weight_bf16(Reads, bool large);
GradWeightKernel grad_weight_f16(Reads, bool large);

// dW (OIHW) = the splits' sums, first to last.
int add_splits(const Problem&, const float* partial, int splits, void* dw, void* stream);

}  // namespace fastconv::cuda
