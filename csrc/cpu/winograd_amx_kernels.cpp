// The multiplications of winograd_gemm_kernels.cpp on the matrix unit of newer Intel processors.
//
// The unit multiplies bfloat16 numbers, 8 bits of mantissa, and adds in float.  A float is the sum of
// three of them exactly, each cut off from what the ones before leave over:
//
//   x = x1 + x2 + x3      x1 = the upper 16 bits of x, x2 those of x - x1, x3 = x - x1 - x2
//
//   u v = u1 v1 + (u1 v2 + u2 v1) + (u1 v3 + u2 v2 + u3 v1)      less than 2^-22 of u v is left out
//
// (Of numbers below 1e-31, third pieces are flushed to zero.)
//
// Such a product is 16 x 32 numbers times 32 x 16; rows of the first and pairs of rows of the second
// are lines of 64 bytes:
//
//   A [tiles / 16][k / 32][piece][tile][k, k + 16]      B [o / 16][k / 32][piece][k][o: k, k + 16]
//
// where [k, k + 16] are pairs of numbers 16 apart, which spares all shuffling.  Of the eight tile
// registers four hold 32 tiles x 32 outputs, two A and two B.  V's pieces of one element serve four
// blocks of 64 outputs.
//
// Measured on a Xeon of 3 GHz, one thread, GFLOP/s: fused multiply-adds 192; six products instead of
// each 460 with zeros, but 300-380 with real numbers, which the processor runs slower; in the network
// about 240, of which memory takes the rest: U comes at 6 to 13 GB/s.  So more tiles share it than
// where multiplications are slower: the whole stack at 512 px takes 458 ms with 64 and 128 tiles in
// a chunk (own, shared), 410 with 64 and 256, 393 with 96 and 256; 545 with fused multiply-adds.
// Fetching U and V ahead, K in parts that stay in the first-level cache, or streaming past M: no gain.
// The error is half of theirs: products are exact, and sums of the leading ones round once for two.
#include <immintrin.h>

#include "kernels.h"
#include "winograd_turn.h"

namespace fastconv::avx512 {
extern const WinogradGemm winograd_gemm;
}

namespace fastconv::FASTCONV_ISA {
namespace {

constexpr int64_t panel = 32, group = 16, step = 32, pieces = 3;
constexpr int64_t square = 256;  // pairs of numbers in a tile register

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// One line of each of the three pieces of 16 pairs.
inline void cut(__m512 first, __m512 second, uint32_t* to) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  for (int piece = 0; piece < pieces; ++piece) {
    const __m512i a = _mm512_castps_si512(first), b = _mm512_castps_si512(second);
    constexpr int choose = 0xCA;  // of the second where the mask is set, else of the third
    _mm512_store_si512(to + piece * square,
                       _mm512_ternarylogic_epi32(upper, b, _mm512_srli_epi32(a, 16), choose));
    first = _mm512_sub_ps(first, _mm512_castsi512_ps(_mm512_and_si512(a, upper)));
    second = _mm512_sub_ps(second, _mm512_castsi512_ps(_mm512_and_si512(b, upper)));
  }
}

// The first `count` of 16 floats; zeros for the others.
inline __m512 some(const float* from, int64_t count) {
  if (count <= 0) return _mm512_setzero_ps();
  return count >= 16 ? _mm512_loadu_ps(from)
                     : _mm512_maskz_loadu_ps(static_cast<__mmask16>((1 << count) - 1), from);
}

void cut_v(const WinogradProduct& p, int64_t steps, const float* v, uint32_t* a) {
  for (int64_t first = 0; first < p.tiles; first += group)
    for (int64_t s = 0; s < steps; ++s, a += pieces * square) {
      const int64_t rest = p.depth - s * step, rows = smaller(group, p.tiles - first);
      const float* from = v + 2 * s * p.v_block + first * block_width;
      for (int64_t t = 0; t < rows; ++t, from += block_width)
        cut(some(from, rest), some(from + p.v_block, rest - group), a + t * group);
    }
}

void cut_u(int64_t depth, int64_t panels, int64_t panel_floats, int64_t steps, const float* u,
           uint32_t* b) {
  const int64_t half = steps * pieces * square;  // from one block of 16 outputs to the next
  for (int64_t j = 0; j < panels; ++j, b += 2 * half)
    for (int64_t s = 0; s < steps; ++s) {
      const float* from = u + j * panel_floats + s * step * panel;
      const int64_t rest = depth - s * step;
      uint32_t* to = b + s * pieces * square;
      for (int64_t k = 0; k < group; ++k, from += panel, to += group) {
        const auto row = [&](int64_t at, int64_t o) {
          return at < rest ? _mm512_loadu_ps(from + (at - k) * panel + o) : _mm512_setzero_ps();
        };
        cut(row(k, 0), row(k + group, 0), to);
        cut(row(k, group), row(k + group, group), to + half);
      }
    }
}

// Tile registers: 0 ... 3 sums, 4 and 5 A, 6 and 7 B.
template <int Rows, int Columns>
inline void add_products() {
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (Columns > 1) _tile_dpbf16ps(1, 4, 7);
  if constexpr (Rows > 1) _tile_dpbf16ps(2, 5, 6);
  if constexpr (Rows > 1 && Columns > 1) _tile_dpbf16ps(3, 5, 7);
}

template <int Rows>
inline void load_a(const uint32_t* a, int64_t next) {
  _tile_loadd(4, a, 64);
  if constexpr (Rows > 1) _tile_loadd(5, a + next, 64);
}

template <int Columns>
inline void load_b(const uint32_t* b, int64_t next) {
  _tile_loadd(6, b, 64);
  if constexpr (Columns > 1) _tile_loadd(7, b + next, 64);
}

// Up to 32 tiles x 32 outputs; to[0], to[1]: where the two blocks of 16 outputs go.
template <int Rows, int Columns>
void multiply_groups(const uint32_t* a, const uint32_t* b, int64_t steps, float* const (&to)[2]) {
  const int64_t next = steps * pieces * square;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < steps; ++s, a += pieces * square, b += pieces * square) {
    load_a<Rows>(a, next);  // the order reads seven pairs of tiles for six products
    load_b<Columns>(b + 2 * square, next);
    add_products<Rows, Columns>();
    load_b<Columns>(b + square, next);
    add_products<Rows, Columns>();
    load_a<Rows>(a + square, next);
    add_products<Rows, Columns>();
    load_b<Columns>(b, next);
    add_products<Rows, Columns>();
    load_a<Rows>(a + 2 * square, next);
    add_products<Rows, Columns>();
    load_a<Rows>(a, next);
    add_products<Rows, Columns>();
  }
  _tile_stored(0, to[0], 64);
  if constexpr (Columns > 1) _tile_stored(1, to[1], 64);
  if constexpr (Rows > 1) _tile_stored(2, to[0] + square, 64);
  if constexpr (Rows > 1 && Columns > 1) _tile_stored(3, to[1] + square, 64);
}

using MultiplyGroups = void (*)(const uint32_t*, const uint32_t*, int64_t, float* const (&)[2]);
constexpr MultiplyGroups multiply_of[2][2] = {{multiply_groups<1, 1>, multiply_groups<1, 2>},
                                              {multiply_groups<2, 1>, multiply_groups<2, 2>}};

// All tiles with one block of up to 64 outputs, of one element.
void multiply_block(const WinogradProduct& p, int64_t outputs, int64_t steps, const uint32_t* a,
                    const uint32_t* b, float* m) {
  alignas(64) float whole[2][2 * square];  // takes what a last group has beyond the tiles
  for (int64_t o = 0; o < outputs; o += 2 * group) {
    const int columns = outputs - o > group ? 2 : 1;
    float* const low = m + o / group * p.m_block;
    for (int64_t first = 0; first < p.tiles; first += 2 * group) {
      const int64_t tiles = smaller(2 * group, p.tiles - first);
      const int rows = tiles > group ? 2 : 1;
      float* const straight[2] = {low + first * block_width, low + p.m_block + first * block_width};
      float* const aside[2] = {whole[0], whole[1]};
      const bool full = tiles == rows * group;
      multiply_of[rows - 1][columns - 1](a + first / group * steps * pieces * square,
                                         b + o / group * steps * pieces * square, steps,
                                         full ? straight : aside);
      for (int c = 0; !full && c < columns; ++c)
        __builtin_memcpy(straight[c], aside[c], static_cast<size_t>(tiles * 64));
    }
  }
}

struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

int64_t steps_of(int64_t depth) { return ceil_div(depth, step); }

int64_t room(int64_t depth, int64_t tiles) {
  return steps_of(depth) * pieces * square * (ceil_div(tiles, group) + cob_width / group) + group;
}

void multiply(const WinogradProduct& p) {
  const TileConfiguration configuration;
  _tile_loadconfig(&configuration);
  const int64_t steps = steps_of(p.depth), cobs = ceil_div(p.outputs, cob_width);
  auto* const a = reinterpret_cast<uint32_t*>((reinterpret_cast<uintptr_t>(p.room) + 63) / 64 * 64);
  uint32_t* const b = a + ceil_div(p.tiles, group) * steps * pieces * square;
  for (int64_t e = 0; e < p.elements; ++e) {
    cut_v(p, steps, p.v + e * p.v_element, a);
    for (int64_t cob = 0; cob < cobs; ++cob) {
      const int64_t outputs = smaller(cob_width, p.outputs - cob * cob_width);
      const int64_t panels = ceil_div(outputs, panel);
      const float* u = p.turned;
      if (p.other)
        avx512::winograd_gemm.turn(*p.other, e, p.first_output + cob * cob_width, panels, p.turned,
                                   p.panel_floats);
      else
        u = p.u + cob * p.u_cob + e * panels * p.panel_floats;
      cut_u(p.depth, panels, p.panel_floats, steps, u, b);
      multiply_block(p, outputs, steps, a, b, p.m + cob * p.m_cob + e * p.m_element);
    }
  }
  _tile_release();
}

void turn(const WinogradOther& other, int64_t e, int64_t first, int64_t panels, float* to,
          int64_t to_panel) {
  avx512::winograd_gemm.turn(other, e, first, panels, to, to_panel);
}

}  // namespace

constexpr int64_t cobs_together = 4, own_tiles = 96, shared_tiles = 256;

extern const WinogradGemm winograd_gemm;
const WinogradGemm winograd_gemm = {panel, cobs_together, own_tiles, shared_tiles, room, multiply, turn};

}  // namespace fastconv::FASTCONV_ISA
