// The gradient of the weights: the adjoint of Winograd's forward steps, in their reverse order
// (equations of the forward steps: winograd_points.h).
//
//   gradient  W[e][o][t]  = A dy A^T                          for each tile
//   add       dU[e][o][k] += sum_t W[e][o][t] V[e][k][t]      V as in the forward direction
//   weights   dw[o][k]    = G^T dU G
//
//   V [e][k/16][tile][16]     W [e][o/16][tile][16]     dU [e][o][k, padded to panels]
//
// The micro-kernel sums over tiles: rows of 8 output channels (4 with 16 registers) by two vectors
// of input channels.  128 tiles at a time keep its part of V and W in the first-level cache.  dU lies as
// dw does, so that both are passed through in one go (512 to 512 channels of 32 x 32 on a Xeon: 7.4 ms
// instead of 9.6 with the inputs' rows outside).
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
constexpr int64_t tiles_at_once = 128;

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

// Lines that are wanted soon, `step` floats further with each tile.
struct Ahead {
  const float* at;
  int64_t step;
};

template <bool Fetching>
void ukr_rows_x_panel(const float* a, const float* low, const float* high, int64_t tiles,
                      float* sums, int64_t sums_row, bool fresh, Ahead ahead) {
  V sum[rows][2] = {};
  for (int64_t t = 0; t < tiles; ++t) {
    if constexpr (Fetching) prefetch(ahead.at + t * ahead.step);
    const V b0 = load(low + t * block_width), b1 = load(high + t * block_width);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const V x = broadcast(a[t * block_width + i]);
      sum[i][0] += x * b0;
      sum[i][1] += x * b1;
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    float* to = sums + i * sums_row;
    store(to, fresh ? sum[i][0] : load(to) + sum[i][0]);
    store(to + L, fresh ? sum[i][1] : load(to + L) + sum[i][1]);
  }
}

// 16 rows, all columns.
template <bool Fetching>
void add_all(const OuterProduct& p) {
  const int64_t parts = ceil_div(p.tiles, tiles_at_once) * (p.columns / panel) * (block_width / rows);
  const int64_t share = ceil_div(p.lines * block_width, parts);  // floats that a part fetches
  Ahead ahead{p.ahead, 0};
  for (int64_t t = 0; t < p.tiles; t += tiles_at_once) {
    const int64_t tiles = smaller(tiles_at_once, p.tiles - t);
    ahead.step = ceil_div(share, tiles);
    const float* a = p.a + t * block_width;
    const float* b = p.b + t * block_width;
    for (int64_t j = 0; j < p.columns; j += panel) {
      const int64_t next = j + L;
      const float* low = b + j / block_width * p.b_block + j % block_width;
      const float* high = b + next / block_width * p.b_block + next % block_width;
      for (int64_t i = 0; i < block_width; i += rows, ahead.at += share)
        ukr_rows_x_panel<Fetching>(a + i, low, high, tiles, p.sums + i * p.sums_row + j, p.sums_row,
                                   p.fresh && t == 0, ahead);
    }
  }
}

void add(const OuterProduct& p) { (p.lines ? add_all<true> : add_all<false>)(p); }

int64_t room(int64_t, int64_t) { return 0; }

// dw of one output channel and `count` input channels.
template <int M>
void weights(const float* du, int64_t element, int64_t count, float* dw) {
  constexpr int A = taps<M>;
  float factor[A][3];
  for (int i = 0; i < A; ++i)
    for (int r = 0; r < 3; ++r) factor[i][r] = static_cast<float>(weight_factor<M>(i, r));
  for (int64_t k = 0; k < count; k += L) {
    V half[3][A] = {};
#pragma GCC unroll 8
    for (int i = 0; i < A; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < A; ++j) {
        const V value = load(du + (i * A + j) * element + k);
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
    const int64_t n = smaller(L, count - k);
    for (int64_t i = 0; i < n; ++i)
      for (int r = 0; r < 9; ++r) dw[(k + i) * 9 + r] = results[r][i];
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
