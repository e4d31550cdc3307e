// 3 x 3 convolutions between a picture of up to 3 channels and many, by the definition.
//
//   spread   y[x, o]  = bias[o] + sum_cuv w[c,u,v,o] lines[c,u][x + v], and ReLU
//   collect  dx[c, x] = sum_uvo w[u,v,c,o] dy[u][x + v, o]
//
// Winograd would fill 3 of 16 lanes here.  `spread` keeps 6 pixels x 64 channels in AVX-512's
// registers, elsewhere 6 x 2 vectors; it is bound by writing y.  `collect` keeps 8 pixels x 3 sums
// (4 x 3), each over the lanes of a vector of channels, which a transposition adds up at the end.
#include "few_channels.h"
#include "kernels.h"
#include "lanes.h"

namespace fastconv::FASTCONV_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int vectors = 4, collected = 8;
#else
constexpr int vectors = 2, collected = 4;
#endif

// strips[block] gets columns x ... x + 5 of one row.
template <int Rows>
void ukr_spread(const float* lines, int64_t channels, const float* weights, const float* bias,
                bool relu, float* strips) {
  for (int64_t o = 0; o < Few::outputs; o += vectors * L) {
    V sum[Rows][vectors];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) sum[r][j] = load(bias + o + j * L);
    const float* w = weights + o;
    for (int64_t line = 0; line < channels * 3; ++line)
      for (int64_t v = 0; v < 3; ++v, w += Few::outputs) {
        const float* from = lines + line * Few::line + v;
        V factor[vectors];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; ++j) factor[j] = load(w + j * L);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
          for (int j = 0; j < vectors; ++j) sum[r][j] += broadcast(from[r]) * factor[j];
      }
    const V floor = relu ? V{} : broadcast(-__builtin_inff());
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) {
      const int64_t at = o + j * L;
      float* to = strips + at / block_width * Strip::row + at % block_width;
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) store(to + r * block_width, maximum(sum[r][j], floor));
    }
  }
}

void spread(const float* lines, int64_t channels, int64_t columns, const float* weights,
            const float* bias, bool relu, float* strips) {
  float* to = strips + Strip::slack * block_width;
  for (int64_t x = 0; x < columns; x += 6)  // the last group may run into the slack
    ukr_spread<6>(lines + x, channels, weights, bias, relu, to + x * block_width);
}

// sums[x][c][L] += one block of channels.
template <int C>
void ukr_collect(const float* strip, const float* weights, float* sums) {
  V sum[collected][C];
#pragma GCC unroll 8
  for (int p = 0; p < collected; ++p)
#pragma GCC unroll 3
    for (int c = 0; c < C; ++c) sum[p][c] = load(sums + (p * C + c) * L);
  for (int64_t u = 0; u < 3; ++u)
    for (int64_t v = 0; v < 3; ++v)
      for (int64_t o = 0; o < block_width; o += L) {
        V factor[C];
#pragma GCC unroll 3
        for (int c = 0; c < C; ++c)
          factor[c] = load(weights + ((u * 3 + v) * C + c) * block_width + o);
        const float* from = strip + u * Strip::row + v * block_width + o;
#pragma GCC unroll 8
        for (int p = 0; p < collected; ++p) {
          const V dy = load(from + p * block_width);
#pragma GCC unroll 3
          for (int c = 0; c < C; ++c) sum[p][c] += dy * factor[c];
        }
      }
#pragma GCC unroll 8
  for (int p = 0; p < collected; ++p)
#pragma GCC unroll 3
    for (int c = 0; c < C; ++c) store(sums + (p * C + c) * L, sum[p][c]);
}

template <int C>
void collect_block(const float* strip, int64_t columns, const float* weights, float* sums) {
  const float* from = strip + Strip::slack * block_width;
  for (int64_t x = 0; x < columns; x += collected)
    ukr_collect<C>(from + x * block_width, weights, sums + x * C * L);
}

void collect(const float* strip, int64_t channels, int64_t columns, const float* weights,
             float* sums) {
  if (channels == 1) collect_block<1>(strip, columns, weights, sums);
  if (channels == 2) collect_block<2>(strip, columns, weights, sums);
  if (channels == 3) collect_block<3>(strip, columns, weights, sums);
}

// rows[c][x] = the sum over lanes of sums[x][c].
void add_lanes(const float* sums, int64_t channels, int64_t columns, float* rows) {
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t x = 0; x < columns; x += L) {
      V lines[L];
#pragma GCC unroll 16
      for (int i = 0; i < L; ++i) lines[i] = load(sums + ((x + i) * channels + c) * L);
      transpose(lines);
      V sum = lines[0];
#pragma GCC unroll 16
      for (int i = 1; i < L; ++i) sum += lines[i];
      store(rows + c * Few::line + x, sum);
    }
}

}  // namespace

extern const FewKernels few_kernels;
const FewKernels few_kernels = {spread, collect, add_lanes};

}  // namespace fastconv::FASTCONV_ISA
