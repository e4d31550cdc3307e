// 3 x 3 convolutions between a picture of up to 3 channels and many, by the definition.
//
//   spread   y[x, o]  = bias[o] + sum_cuv w[c,u,v,o] lines[c,u][x + v], and ReLU
//   collect  dx[c, x] = sum_uvo w[u,v,c,o] dy[u][x + v, o]
//
// Winograd would fill 3 of 16 lanes here.  `spread` keeps 6 pixels x 64 channels in AVX-512's
// registers, elsewhere 6 x 2 vectors; it is bound by writing y.  `collect` keeps 6 pixels x 3 sums
// (4 x 3), each over the lanes of a vector of channels, which a transposition adds up at the end.
// With 32 registers the pixels of a row are read once for all three taps; 8 pixels, tap by tap, take
// 7.8 ms instead of 6.2 (64 channels at 512 x 512 on a Xeon).
#include "few_channels.h"
#include "kernels.h"
#include "lanes.h"

namespace fastconv::FASTCONV_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int vectors = 4, collected = 6, taps_at_once = 3;
#else
constexpr int vectors = 2, collected = 4, taps_at_once = 1;
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

template <int C>
void ukr_collect(const Collected& a, int64_t x, float* sums) {
  V sum[collected][C] = {};
  const float* w = a.weights;
  for (int64_t block = 0; block < a.blocks; ++block)
    for (int64_t u = 0; u < 3; ++u) {
      const float* from = a.rows[block][u] + (Strip::slack + x) * block_width;
#pragma GCC unroll taps_at_once
      for (int64_t v = 0; v < 3; ++v, from += block_width, w += C * block_width) {
        prefetch_near(a.soon[block] + (x + u * 3 + v) * block_width);
        for (int64_t o = 0; o < block_width; o += L) {
          V factor[C];
#pragma GCC unroll 3
          for (int c = 0; c < C; ++c) factor[c] = load(w + c * block_width + o);
#pragma GCC unroll 8
          for (int p = 0; p < collected; ++p) {
            const V dy = load(from + p * block_width + o);
#pragma GCC unroll 3
            for (int c = 0; c < C; ++c) sum[p][c] += dy * factor[c];
          }
        }
      }
    }
#pragma GCC unroll 8
  for (int p = 0; p < collected; ++p)
#pragma GCC unroll 3
    for (int c = 0; c < C; ++c) store(sums + ((x + p) * C + c) * L, sum[p][c]);
}

// sums[x][c][L]
template <int C>
void collect_row(const Collected& a, float* sums) {
  for (int64_t x = 0; x < a.columns; x += collected) ukr_collect<C>(a, x, sums);
}

void collect(const Collected& a, float* sums) {
  if (a.channels == 1) collect_row<1>(a, sums);
  if (a.channels == 2) collect_row<2>(a, sums);
  if (a.channels == 3) collect_row<3>(a, sums);
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
