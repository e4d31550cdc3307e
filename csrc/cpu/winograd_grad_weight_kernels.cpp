// The gradient of the weights: the adjoint of Winograd's forward steps, in their reverse order
// (equations of the forward steps: winograd_points.h).
//
//   gradient  W[e][o][t]  = A dy A^T                          for each tile
//   add       dU[e][k][o] += sum_t V[e][k][t] W[e][o][t]      V as in the forward direction
//   weights   dw[o][k]    = G^T dU G
//
//   V [e][k/16][tile][16]     W [e][o/16][tile][16]     dU [e][k][o, padded to panels]
//
// The micro-kernel sums over tiles: rows of 8 input channels (4 with 16 registers) by two vectors
// of output channels.  128 tiles at a time keep its part of V and W in the first-level cache.
#include "kernels.h"
#include "picture.h"
#include "winograd_points.h"

namespace fastconv::FASTCONV_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int rows = 8;
#else
constexpr int rows = 4;
#endif
constexpr int panel = 2 * L;
constexpr int64_t tiles_at_once = 128;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <int M>
void gradient(float* strip, int64_t tiles, float* w, int64_t element) {
  constexpr int A = taps<M>;
  float* first = strip + Strip::slack * block_width;
  for (int64_t at = 0; at < tiles * M * block_width; at += L) {
    V y[A];
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) y[i] = load(first + at + i * Strip::row);
    result_adjoint(y);
#pragma GCC unroll 8
    for (int i = 0; i < A; ++i) store(first + at + i * Strip::row, y[i]);
  }
  for (int i = 0; i < A; ++i)
    for (int64_t t = 0; t < tiles; ++t)
      for (int64_t c = 0; c < block_width; c += L) {
        const float* from = first + i * Strip::row + t * M * block_width + c;
        V y[A];
#pragma GCC unroll 8
        for (int j = 0; j < M; ++j) y[j] = load(from + j * block_width);
        result_adjoint(y);
#pragma GCC unroll 8
        for (int j = 0; j < A; ++j) store(w + (i * A + j) * element + t * block_width + c, y[j]);
      }
}

void ukr_rows_x_panel(const float* v, const float* low, const float* high, int64_t tiles,
                      float* du, int64_t du_row, bool fresh) {
  V sum[rows][2] = {};
  for (int64_t t = 0; t < tiles; ++t) {
    const V w0 = load(low + t * block_width), w1 = load(high + t * block_width);
#pragma GCC unroll 8
    for (int k = 0; k < rows; ++k) {
      const V x = broadcast(v[t * block_width + k]);
      sum[k][0] += x * w0;
      sum[k][1] += x * w1;
    }
  }
#pragma GCC unroll 8
  for (int k = 0; k < rows; ++k) {
    float* to = du + k * du_row;
    store(to, fresh ? sum[k][0] : load(to) + sum[k][0]);
    store(to + L, fresh ? sum[k][1] : load(to + L) + sum[k][1]);
  }
}

// One element e, one block of 16 input channels, all output channels.
void add(const OuterProduct& p) {
  for (int64_t t = 0; t < p.tiles; t += tiles_at_once) {
    const int64_t tiles = smaller(tiles_at_once, p.tiles - t);
    const float* v = p.v + t * block_width;
    for (int64_t o = 0; o < p.outputs; o += panel) {
      const int64_t next = o + L;
      const float* w = p.w + t * block_width;
      const float* low = w + o / block_width * p.w_block + o % block_width;
      const float* high = w + next / block_width * p.w_block + next % block_width;
      for (int64_t k = 0; k < block_width; k += rows)
        ukr_rows_x_panel(v + k, low, high, tiles, p.du + k * p.du_row + o, p.du_row,
                         p.fresh && t == 0);
    }
  }
}

int64_t room(int64_t, int64_t) { return 0; }

// dw of one input channel and `count` output channels.
template <int M>
void weights(const float* du, int64_t element, int64_t count, float* dw, int64_t out_stride) {
  constexpr int A = taps<M>;
  float factor[A][3];
  for (int i = 0; i < A; ++i)
    for (int r = 0; r < 3; ++r) factor[i][r] = static_cast<float>(weight_factor<M>(i, r));
  for (int64_t o = 0; o < count; o += L) {
    V half[3][A] = {};
#pragma GCC unroll 8
    for (int i = 0; i < A; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < A; ++j) {
        const V value = load(du + (i * A + j) * element + o);
#pragma GCC unroll 3
        for (int r = 0; r < 3; ++r) half[r][j] += factor[i][r] * value;
      }
    float results[9][L];
#pragma GCC unroll 3
    for (int r = 0; r < 3; ++r)
#pragma GCC unroll 3
      for (int s = 0; s < 3; ++s) {
        V sum{};
#pragma GCC unroll 8
        for (int j = 0; j < A; ++j) sum += factor[j][s] * half[r][j];
        store(results[r * 3 + s], sum);
      }
    const int64_t n = smaller(L, count - o);
    for (int64_t i = 0; i < n; ++i)
      for (int r = 0; r < 9; ++r) dw[(o + i) * out_stride + r] = results[r][i];
  }
}

}  // namespace

constexpr int64_t least_tiles = 256;

extern const OuterProducts outer_products;
const OuterProducts outer_products = {panel, block_width, least_tiles, room, add};

extern const WinogradGradWeight winograd_grad_weight_f4, winograd_grad_weight_f6;
const WinogradGradWeight winograd_grad_weight_f4 = {gradient<4>, weights<4>};
const WinogradGradWeight winograd_grad_weight_f6 = {gradient<6>, weights<6>};

}  // namespace fastconv::FASTCONV_ISA
