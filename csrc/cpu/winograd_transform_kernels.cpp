// The three transforms of Winograd convolution (equations: winograd_points.h).
//
//   input    V[e][tile][16]  = B^T d B      of a strip of tiles of one block of channels
//   output   strip           = A^T M A + bias, and ReLU
//   weights  U[e][k][panel]  = G g G^T      for one panel of output channels
//
// e = i A + j counts the A x A elements of a tile.  A vector holds channels of one pixel, so the
// transforms are purely vertical: no lane ever meets another.  `Turned`: tiles are read and written
// from their end (winograd_turn.h).
#include "kernels.h"
#include "picture.h"
#include "winograd_points.h"

namespace fastconv::FASTCONV_ISA {
namespace {

// Vertically once for each pixel column, which neighbouring tiles share, in place; then
// horizontally, tile by tile.
template <int M, bool Turned>
void input(float* strip, int64_t tiles, float* v, int64_t element) {
  constexpr int A = taps<M>;
  float* first = strip + Strip::slack * block_width;
  for (int64_t at = 0; at < (tiles * M + 2) * block_width; at += L) {
    V d[A];
#pragma GCC unroll 8
    for (int i = 0; i < A; ++i) d[Turned ? A - 1 - i : i] = load(first + at + i * Strip::row);
    data_transform(d);
#pragma GCC unroll 8
    for (int i = 0; i < A; ++i) store(first + at + i * Strip::row, d[i]);
  }
  for (int i = 0; i < A; ++i) {
    const float* row = first + i * Strip::row;
    for (int64_t t = 0; t < tiles; ++t)
      for (int64_t c = 0; c < block_width; c += L) {
        V d[A];
#pragma GCC unroll 8
        for (int j = 0; j < A; ++j)
          d[Turned ? A - 1 - j : j] = load(row + (t * M + j) * block_width + c);
        data_transform(d);
#pragma GCC unroll 8
        for (int j = 0; j < A; ++j)
          store(v + (i * A + j) * element + t * block_width + c, d[j]);
      }
  }
}

template <int M, bool Turned>
void output(const float* m, int64_t element, int64_t tiles, const float* bias, bool relu,
            float* strip) {
  constexpr int A = taps<M>;
  float* first = strip + Strip::slack * block_width;
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t c = 0; c < block_width; c += L) {
      const float* from = m + t * block_width + c;
      V half[M][A];
      // Rolled: unrolled, F(6x6)'s 48 values spill (1050 against 1460 cycles a tile).
#pragma GCC unroll 1
      for (int j = 0; j < A; ++j) {
        V d[A];
#pragma GCC unroll 8
        for (int i = 0; i < A; ++i) d[i] = load(from + (i * A + j) * element);
        result_transform(d);
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) half[i][j] = d[i];
      }
      const V shift = load(bias + c), floor = relu ? V{} : broadcast(-__builtin_inff());
      float* to = first + t * M * block_width + c + (Turned ? (M - 1) * Strip::row : 0);
#pragma GCC unroll 1
      for (int i = 0; i < M; ++i, to += Turned ? -Strip::row : Strip::row) {
        V d[A];
#pragma GCC unroll 8
        for (int j = 0; j < A; ++j) d[j] = half[i][j];
        result_transform(d);
#pragma GCC unroll 8
        for (int j = 0; j < M; ++j)
          store(to + (Turned ? M - 1 - j : j) * block_width, maximum(d[j] + shift, floor));
      }
    }
}

// One panel of U from `count` columns of weights; in double precision and rounded once.
// `weight` points to the panel's first output channel; `flip` rotates the kernels by 180 degrees.
template <int M>
void weights(const float* weight, int64_t out_stride, int64_t in_stride, bool flip, int64_t count,
             int64_t depth, float* u, int64_t element) {
  constexpr int A = taps<M>;
  double factor[A][3];
  for (int i = 0; i < A; ++i)
    for (int r = 0; r < 3; ++r) factor[i][r] = weight_factor<M>(i, r);
  for (int64_t k = 0; k < depth; ++k) {
    double g[9][panel] = {}, half[A][3][panel];
    for (int64_t o = 0; o < count; ++o)
      for (int r = 0; r < 9; ++r)
        g[flip ? 8 - r : r][o] = weight[o * out_stride + k * in_stride + r];
    for (int i = 0; i < A; ++i)
      for (int r = 0; r < 3; ++r)
        for (int o = 0; o < panel; ++o)
          half[i][r][o] = factor[i][0] * g[r][o] + factor[i][1] * g[3 + r][o] +
                          factor[i][2] * g[6 + r][o];
    for (int i = 0; i < A; ++i)
      for (int j = 0; j < A; ++j)
        for (int o = 0; o < panel; ++o)
          u[(i * A + j) * element + k * panel + o] =
              static_cast<float>(half[i][0][o] * factor[j][0] + half[i][1][o] * factor[j][1] +
                                 half[i][2][o] * factor[j][2]);
  }
}

}  // namespace

extern const WinogradTransforms winograd_f4, winograd_f6;
const WinogradTransforms winograd_f4 = {
    {input<4, false>, input<4, true>}, {output<4, false>, output<4, true>}, weights<4>};
const WinogradTransforms winograd_f6 = {
    {input<6, false>, input<6, true>}, {output<6, false>, output<6, true>}, weights<6>};

}  // namespace fastconv::FASTCONV_ISA
