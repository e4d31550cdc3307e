// The multiplications of Winograd convolution: for every element e of the tiles
//
//   M[e][o][t] = sum_k U[e][k][o] V[e][k][t]       t: tiles, o: 64 output channels, k: all input
//
//   V [e][k/16][tile][16]      M [e][o/16][tile][16]      U [e][o/panel][k][panel]
//
// The micro-kernel keeps rows x panel sums in registers: two loads of U and one broadcast of V per row
// and k.  All of k runs through without blocking: U's panel comes from the second-level cache, where
// the first group of rows has it fetched one panel ahead of time.  Where U is that of the other
// direction (winograd_turn.h), the panels of one element are turned into memory that stays in that
// cache; the squares they are made from are fetched one element ahead.
#include "kernels.h"
#include "lanes.h"
#include "picture.h"
#include "winograd_turn.h"

namespace fastconv::FASTCONV_ISA {
namespace {

// What the first group of rows fetches while it multiplies 16 k: the next panel, as large as this
// one, or the other direction's squares (e, o) of the same k.  (Spread over all groups of rows, it
// lost 3-10 % with 512 channels.)
struct Next {
  int64_t e, o;

  const float* at(const WinogradProduct& p, const float* u, int64_t k) const {
    if (!p.other) return u + p.panel_floats;
    return square_at(*p.other, panel, e, k / panel * panel, o) + k % panel * panel;
  }
};

template <int Rows, bool Ahead>
void ukr_rows_x_panel(const WinogradProduct& p, const float* u, const float* v, float* low,
                      float* high, Next next) {
  V sum[Rows][2] = {};
  for (int64_t k0 = 0; k0 < p.depth; k0 += block_width, v += p.v_block) {
    const int64_t n = smaller(block_width, p.depth - k0);
    const float* later = Ahead ? next.at(p, u, k0) : nullptr;
    for (int64_t k = 0; k < n; ++k, u += panel) {
      if constexpr (Ahead) {
        prefetch(later + k * panel);
        if constexpr (panel * sizeof(float) > 64) prefetch(later + k * panel + 16);
      }
      const V u0 = load(u), u1 = load(u + L);
#pragma GCC unroll 16
      for (int t = 0; t < Rows; ++t) {
        const V x = broadcast(v[t * block_width + k]);
        sum[t][0] += x * u0;
        sum[t][1] += x * u1;
      }
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < Rows; ++t) {
    store(low + t * block_width, sum[t][0]);
    store(high + t * block_width, sum[t][1]);
  }
}

using Ukr = void (*)(const WinogradProduct&, const float*, const float*, float*, float*, Next);

template <bool Ahead>
struct Ukrs {
  Ukr of_rows[max_rows + 1];
};

template <bool Ahead, int... I>
constexpr Ukrs<Ahead> make_ukrs(Indices<I...>) {
  return {{nullptr, ukr_rows_x_panel<I + 1, Ahead>...}};
}

constexpr Ukrs<false> resident = make_ukrs<false>(CountTo<max_rows>::type{});
constexpr Ukrs<true> fetching = make_ukrs<true>(CountTo<max_rows>::type{});

// The rows are split evenly, so that no group is left with one or two.
void multiply(const WinogradProduct& p) {
  const int64_t groups = ceil_div(p.tiles, max_rows), panels = ceil_div(p.outputs, panel);
  for (int64_t e = 0; e < p.elements; ++e) {
    const float* u = p.other ? p.turned : p.u + e * panels * p.panel_floats;
    if (p.other) turn_panels(*p.other, e, p.first_output, panels, p.turned, p.panel_floats);
    const float* v = p.v + e * p.v_element;
    float* m = p.m + e * p.m_element;
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t first = group * p.tiles / groups;
      const int64_t rows = (group + 1) * p.tiles / groups - first;
      const Ukr ukr = group == 0 ? fetching.of_rows[rows] : resident.of_rows[rows];
      for (int64_t j = 0; j < panels; ++j) {
        const int64_t low = j * panel, high = low + L;
        float* to = m + first * block_width;
        ukr(p, u + j * p.panel_floats, v + first * block_width,
            to + low / block_width * p.m_block + low % block_width,
            to + high / block_width * p.m_block + high % block_width,
            {smaller(e + 1, p.elements - 1), p.first_output + low});
      }
    }
  }
}

int64_t room(int64_t, int64_t) { return 0; }

}  // namespace

// Measured on the development machine, one thread, GFLOP/s of the direct convolution:
//
//   own      14, 28, 42, 56, 84 tiles      64->64 at 512 px: 42 is best by 2-5 %, 14 loses 15 %
//   shared   56, 112, 168, 256, 512 tiles  256 and 512 channels: within 5 % up to 168; then less
//   either   128->128 to 512->512: within 5 %; own is better below, shared above 256 channels
constexpr int64_t own_tiles = 42, shared_tiles = 112, own_depth = 128;

extern const WinogradGemm winograd_gemm;
const WinogradGemm winograd_gemm = {panel, 1, own_tiles, shared_tiles, own_depth, room, multiply,
                                    turn_panels};

}  // namespace fastconv::FASTCONV_ISA
