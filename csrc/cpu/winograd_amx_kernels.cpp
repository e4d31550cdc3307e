// The multiplications of winograd_gemm_kernels.cpp on Intel's matrix unit (amx.h).
//
//   A: V's tiles      B: U's outputs      V's pieces of one element serve four blocks of 64 outputs
//
// In the network about 240 GFLOP/s a thread remain: U comes from memory at 6 to 13 GB/s.  So more
// tiles share it than where multiplications are slower.  VGG19's stack at 512 px, both directions:
// 458 ms with 64 and 128 tiles in a chunk (own, shared), 410 with 64 and 256, 393 with 96 and 256;
// 545 with fused multiply-adds.  U and V fetched a few lines at a time during the multiplications:
// 351 ms, 379 without; asked for many at once they had gained nothing.  k in parts that stay in the
// first-level cache: no gain with many tiles, 5.0 ms instead of 6.2 with 64 (512 to 512 channels at
// 32 x 32, forward in the stack).  Keeping M out of the caches: no gain.
#include "amx.h"

#include "kernels.h"
#include "winograd_turn.h"

namespace fastconv::avx512 {
void turn_panels(const WinogradOther&, int64_t e, int64_t first, int64_t panels, float* to,
                 int64_t to_panel);  // winograd_turn.h
}

namespace fastconv::FASTCONV_ISA {
namespace {

using Cut = CutInto<3>;

constexpr int64_t panel = 2 * group;

// A of V's tiles, [k/16][tile][16], cut four lines at a time.
struct CuttingA {
  const float* from = nullptr;
  int64_t block = 0, tiles = 0, depth = 0, steps = 0;
  uint32_t* to = nullptr;
  int64_t s = 0, tile = 0;  // where it is

  static constexpr int64_t lines = 4;
  int64_t calls() const { return steps * ceil_div(tiles, lines); }

  // Along the tiles, as they lie in memory.
  void some() {
    if (s == steps) return;
    const float* const first = from + 2 * s * block + tile * group;
    uint32_t* const a = to + (tile / group * steps + s) * Cut::step_pairs + tile % group * group;
    const int64_t rest = depth - s * step, count = smaller(lines, tiles - tile);
    if (rest >= step && count == lines) {
      for (int64_t i = 0; i < lines; ++i)
        Cut::cut(_mm512_loadu_ps(first + i * group), _mm512_loadu_ps(first + block + i * group), a + i * group);
    } else {
      for (int64_t i = 0; i < count; ++i)
        Cut::cut(fastconv::amx::some(first + i * group, rest), fastconv::amx::some(first + block + i * group, rest - group), a + i * group);
    }
    tile += lines;
    if (tile >= tiles) tile = 0, ++s;
  }
};

// B of U's panels, [panel][k][32], cut two lines at a time.
struct CuttingB {
  const float* from = nullptr;
  int64_t panel_floats = 0, panels = 0, depth = 0, steps = 0;
  uint32_t* to = nullptr;
  int64_t j = 0, s = 0, k = 0;  // where it is

  static constexpr int64_t lines = 2;
  int64_t calls() const { return panels * steps * group / lines; }

  void some() {
    if (j == panels) return;
    const int64_t half = steps * Cut::step_pairs, rest = depth - s * step;
    const float* at = from + j * panel_floats + (s * step + k) * panel;
    uint32_t* b = to + 2 * j * half + s * Cut::step_pairs + k * group;
    for (const int64_t end = k + lines; k < end; ++k, at += panel, b += group) {
      const auto row = [&](int64_t line, const float* p) {
        return line < rest ? _mm512_loadu_ps(p) : _mm512_setzero_ps();
      };
      Cut::cut(row(k, at), row(k + group, at + group * panel), b);
      Cut::cut(row(k, at + group), row(k + group, at + group * panel + group), b + half);
    }
    if (k < group) return;
    k = 0;
    if (++s == steps) s = 0, ++j;
  }
};

// What is done while a block is multiplied.
struct Meanwhile {
  Ahead ahead;
  CuttingA& a;
  CuttingB& b;
  int64_t of_a, of_b;  // at a time

  void some() {
    ahead.some();
    for (int64_t i = 0; i < of_a; ++i) a.some();
    for (int64_t i = 0; i < of_b; ++i) b.some();
  }
};

// All tiles with one block of up to 64 outputs, of one element.
void multiply_block(const WinogradProduct& p, int64_t outputs, int64_t steps, const uint32_t* a,
                    const uint32_t* b, float* m, Meanwhile& meanwhile) {
  const int64_t next = steps * Cut::step_pairs;  // from one block of 16 to the next
  alignas(64) float whole[2][2 * square];  // takes what a last group has beyond the tiles
  const Sums aside{{{whole[0], whole[1]}, {whole[0] + square, whole[1] + square}}, block_width};
  for (int64_t o = 0; o < outputs; o += 2 * group) {
    const int columns = outputs - o > group ? 2 : 1;
    float* const low = m + o / group * p.m_block;
    for (int64_t first = 0; first < p.tiles; first += 2 * group) {
      const int64_t tiles = smaller(2 * group, p.tiles - first);
      const int rows = tiles > group ? 2 : 1;
      float *const to = low + first * block_width, *const high = to + p.m_block;
      const Sums straight{{{to, high}, {to + square, high + square}}, block_width};
      const bool full = tiles == rows * group;
      Cut::multiply_of<Meanwhile>[rows - 1][columns - 1]({a + first / group * next, next},
                                                         {b + o / group * next, next}, steps, nullptr,
                                                         full ? straight : aside, meanwhile);
      for (int c = 0; !full && c < columns; ++c)
        __builtin_memcpy(straight.at[0][c], whole[c], static_cast<size_t>(tiles * 64));
    }
  }
}

// U of one element and one block of 64 outputs.
Soon soon_u(const WinogradProduct& p, int64_t e, int64_t cob) {
  const int64_t first = cob * cob_width, panels = ceil_div(smaller(cob_width, p.outputs - first), panel);
  if (!p.other)
    return {p.u + cob * p.u_cob + e * panels * p.panel_floats, panels * p.panel_floats / group, 1};
  const WinogradOther& w = *p.other;  // squares from two panels, then from the next two
  const int64_t far = (cob_width / panel * w.elements - 1) * w.panel_floats;
  return {square_at(w, panel, e, 0, p.first_output + first), panels * panel * panel / group,
          ceil_div(p.depth, panel), {w.panel_floats, far}};
}

// A part of V of one element.
Soon soon_v(const WinogradProduct& p, int64_t e, int64_t part, int64_t parts) {
  const int64_t lines = ceil_div(ceil_div(p.depth, group) * p.v_block / group, parts);
  return {p.v + e * p.v_element + part * lines * group, lines, 1};
}

// What is wanted after an element's block of outputs: that of the next one, and the next element's V.
Ahead after(const WinogradProduct& p, int64_t e, int64_t cob, int64_t cobs, int64_t steps) {
  const bool is_last = cob + 1 == cobs, has_next = e + 1 < p.elements;
  Ahead ahead;
  if (!is_last || has_next) ahead.first = soon_u(p, e + is_last, is_last ? 0 : cob + 1);
  if (has_next) ahead.second = soon_v(p, e + 1, cob, cobs);
  ahead.first.spread_over(steps);
  ahead.second.spread_over(steps);
  return ahead;
}

constexpr int64_t few_tiles = 64;

// The same for up to 64 tiles, 32 of k at a time: U's pieces, which serve few tiles, and the sums stay in
// the first-level cache.
void multiply_few(const WinogradProduct& p, const float* u, int64_t outputs, int64_t steps,
                  const uint32_t* a, uint32_t* b, float* m, Ahead& ahead) {
  constexpr int64_t most = few_tiles / group;
  alignas(64) float sums[cob_width / group * most * square];
  const int64_t next = steps * Cut::step_pairs;
  for (int64_t s = 0; s < steps; ++s)
    for (int64_t o = 0; o < outputs; o += panel) {
      Cut::cut_panel(u + o / panel * p.panel_floats + s * step * panel,
                     smaller(step, p.depth - s * step), b);
      const int columns = outputs - o > group ? 2 : 1;
      for (int64_t first = 0; first < p.tiles; first += 2 * group) {
        const int rows = p.tiles - first > group ? 2 : 1;
        float *const low = sums + (o / group * most + first / group) * square, *const high = low + most * square;
        const Sums here{{{low, high}, {low + square, high + square}}, block_width};
        Cut::multiply_of<Ahead>[rows - 1][columns - 1]({a + first / group * next + s * Cut::step_pairs, next},
                                                {b, Cut::step_pairs}, 1, s ? &here : nullptr, here, ahead);
      }
    }
  for (int64_t o = 0; o < outputs; o += group)
    __builtin_memcpy(m + o / group * p.m_block, sums + o / group * most * square,
                     static_cast<size_t>(p.tiles * 64));
}

int64_t room(int64_t depth, int64_t tiles) {
  return 2 * steps_of(depth) * Cut::step_pairs * (ceil_div(tiles, group) + cob_width / group) + group;
}

// The blocks of up to 64 outputs of all elements, one after the other.
struct Block {
  int64_t e, cob;
};

int64_t outputs_of(const WinogradProduct& p, int64_t cob) { return smaller(cob_width, p.outputs - cob * cob_width); }

// Its panels of U, turned first if they are the other direction's.
const float* u_of(const WinogradProduct& p, Block block) {
  const int64_t panels = ceil_div(outputs_of(p, block.cob), panel);
  if (!p.other) return p.u + block.cob * p.u_cob + block.e * panels * p.panel_floats;
  avx512::turn_panels(*p.other, block.e, p.first_output + block.cob * cob_width, panels, p.turned, p.panel_floats);
  return p.turned;
}

void multiply_in_few(const WinogradProduct& p) {
  const TileRegisters in_use;
  const int64_t steps = steps_of(p.depth), cobs = ceil_div(p.outputs, cob_width);
  uint32_t* const a = aligned_pairs(p.room);
  uint32_t* const b = a + ceil_div(p.tiles, group) * steps * Cut::step_pairs;
  for (int64_t e = 0; e < p.elements; ++e) {
    Cut::cut_a(p.v + e * p.v_element, p.v_block, p.tiles, p.depth, a);
    for (int64_t cob = 0; cob < cobs; ++cob) {
      const int64_t outputs = outputs_of(p, cob), panels = ceil_div(outputs, panel);
      Ahead ahead = after(p, e, cob, cobs, panels * ceil_div(p.tiles, 2 * group) * steps);
      multiply_few(p, u_of(p, {e, cob}), outputs, steps, a, b, p.m + cob * p.m_cob + e * p.m_element, ahead);
    }
  }
}

constexpr int64_t most_a_bytes = 1 << 20;

void multiply(const WinogradProduct& p) {
  if (p.tiles <= few_tiles) return multiply_in_few(p);
  const TileRegisters in_use;
  const int64_t steps = steps_of(p.depth), cobs = ceil_div(p.outputs, cob_width);
  const int64_t a_pairs = ceil_div(p.tiles, group) * steps * Cut::step_pairs;
  const int64_t b_pairs = cob_width / group * steps * Cut::step_pairs;
  const bool two = 2 * a_pairs * 4 <= most_a_bytes;
  uint32_t* const a[2] = {aligned_pairs(p.room), aligned_pairs(p.room) + two * a_pairs};
  uint32_t* const b[2] = {a[1] + a_pairs, a[1] + a_pairs + b_pairs};
  const auto cutting_a = [&](int64_t e) {
    return CuttingA{p.v + e * p.v_element, p.v_block, p.tiles, p.depth, e < p.elements ? steps : 0, a[e % 2]};
  };
  const auto cutting_b = [&](Block block) {
    if (block.e == p.elements) return CuttingB{};
    return CuttingB{u_of(p, block), p.panel_floats, ceil_div(outputs_of(p, block.cob), panel), p.depth, steps,
                    b[(block.e * cobs + block.cob) % 2]};
  };
  const auto following = [&](Block block) {
    return block.cob + 1 < cobs ? Block{block.e, block.cob + 1} : Block{block.e + 1, 0};
  };
  CuttingA next_a = cutting_a(0);
  CuttingB next_b = cutting_b({0, 0});
  const auto finish = [](auto& cutting) { for (int64_t i = cutting.calls(); i > 0; --i) cutting.some(); };
  finish(next_a), finish(next_b);
  for (Block block{0, 0}; block.e < p.elements;) {
    const Block next = following(block);
    if (block.cob == 0 && two) next_a = cutting_a(block.e + 1);
    next_b = cutting_b(next);
    const int64_t outputs = outputs_of(p, block.cob);
    const int64_t times = 3 * steps * ceil_div(outputs, panel) * ceil_div(p.tiles, 2 * group);
    Meanwhile meanwhile{{}, next_a, next_b, two ? ceil_div(next_a.calls(), times * cobs) : 0, ceil_div(next_b.calls(), times)};
    const Block later = following(next);
    if (later.e < p.elements) {
      meanwhile.ahead.first = soon_u(p, later.e, later.cob);
      meanwhile.ahead.first.spread_over(times / 3);
    }
    if (const int64_t e = block.e + 1 + two; e < p.elements) {
      meanwhile.ahead.second = soon_v(p, e, block.cob, cobs);
      meanwhile.ahead.second.spread_over(times / 3);
    }
    multiply_block(p, outputs, steps, a[block.e % 2], b[(block.e * cobs + block.cob) % 2],
                   p.m + block.cob * p.m_cob + block.e * p.m_element, meanwhile);
    finish(next_b);
    if (block.cob + 1 == cobs) {
      if (!two) next_a = cutting_a(block.e + 1);
      finish(next_a);
    }
    block = next;
  }
}

}  // namespace

constexpr int64_t cobs_together = 4, own_tiles = 96, shared_tiles = 256;

extern const WinogradGemm winograd_gemm;
const WinogradGemm winograd_gemm = {panel, cobs_together, own_tiles, shared_tiles, room, multiply,
                                    avx512::turn_panels};

}  // namespace fastconv::FASTCONV_ISA
