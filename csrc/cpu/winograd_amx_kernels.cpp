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
//
// What is multiplied next is cut meanwhile: 309 ms where 317 (the stack's layers in a step of style
// transfer, medians of three runs in turns), and with 256 channels in chunks of a thread's own 300, as
// then no tile is cut by every thread.  Such chunks take 11.5 ms with 128 tiles (256 to 256 channels of
// 128 x 128), 12.6 to 13.7 with 64, 86 or 102; with fewer channels 128 are as good as 96.  The unit alone
// does 470 GFLOP/s with squares in the first-level cache and 390 with squares in the second.
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

// What is cut while others are multiplied comes in small portions: between four products 64 operations
// on vectors cost nothing, 96 more than the products themselves.

// A from V's tiles of one element, [k/16][tile][16], along the tiles as they lie in memory.
class CuttingA {
 public:
  CuttingA(const float* v, int64_t block, int64_t tiles, int64_t depth, uint32_t* to)
      : v_(v), block_(block), tiles_(tiles), depth_(depth), steps_(steps_of(depth)), to_(to) {}

  int64_t portions() const { return steps_ * ceil_div(tiles_, lines); }

  void go_on() {
    if (step_ == steps_) return;
    const float* const low = v_ + 2 * step_ * block_ + tile_ * group;
    uint32_t* const a = to_ + (tile_ / group * steps_ + step_) * Cut::step_pairs + tile_ % group * group;
    const int64_t rest = depth_ - step_ * step, count = smaller(lines, tiles_ - tile_);
    if (rest >= step && count == lines) {  // some() would ask for each line
      for (int64_t i = 0; i < lines * group; i += group)
        Cut::cut(_mm512_loadu_ps(low + i), _mm512_loadu_ps(low + block_ + i), a + i);
    } else {
      for (int64_t i = 0; i < count * group; i += group)
        Cut::cut(some(low + i, rest), some(low + block_ + i, rest - group), a + i);
    }
    tile_ += lines;
    if (tile_ >= tiles_) tile_ = 0, ++step_;
  }

 private:
  static constexpr int64_t lines = 4;
  const float* v_;
  int64_t block_, tiles_, depth_, steps_;
  uint32_t* to_;
  int64_t step_ = 0, tile_ = 0;  // where it is
};

// B from U's panels of one element, [panel][k][32].
class CuttingB {
 public:
  CuttingB(const float* u, int64_t panel_floats, int64_t panels, int64_t depth, uint32_t* to)
      : u_(u), panel_floats_(panel_floats), panels_(panels), depth_(depth), steps_(steps_of(depth)), to_(to) {}

  int64_t portions() const { return panels_ * steps_ * group / lines; }

  void go_on() {
    if (panel_ == panels_) return;
    const int64_t half = steps_ * Cut::step_pairs, rest = depth_ - step_ * step;
    const float* at = u_ + panel_ * panel_floats_ + (step_ * step + k_) * panel;
    uint32_t* b = to_ + 2 * panel_ * half + step_ * Cut::step_pairs + k_ * group;
    for (const int64_t end = k_ + lines; k_ < end; ++k_, at += panel, b += group) {
      const auto line = [&](int64_t k, int64_t o) {
        return k < rest ? _mm512_loadu_ps(at + (k - k_) * panel + o) : _mm512_setzero_ps();
      };
      Cut::cut(line(k_, 0), line(k_ + group, 0), b);
      Cut::cut(line(k_, group), line(k_ + group, group), b + half);
    }
    if (k_ < group) return;
    k_ = 0;
    if (++step_ == steps_) step_ = 0, ++panel_;
  }

 private:
  static constexpr int64_t lines = 2;
  const float* u_;
  int64_t panel_floats_, panels_, depth_, steps_;
  uint32_t* to_;
  int64_t panel_ = 0, step_ = 0, k_ = 0;  // where it is
};

template <class Cutting>
void finish(Cutting& cutting) {
  for (int64_t i = cutting.portions(); i > 0; --i) cutting.go_on();
}

// While one block of outputs is multiplied: portions of A and B, at each pause, and lines fetched.
struct Meanwhile {
  Ahead ahead;
  CuttingA& a;
  CuttingB& b;
  int64_t of_a, of_b;

  void go_on() {
    ahead.go_on();
    for (int64_t i = 0; i < of_a; ++i) a.go_on();
    for (int64_t i = 0; i < of_b; ++i) b.go_on();
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

// One element's products with one block of up to 64 outputs; in order, all blocks of an element together.
struct Block {
  int64_t e, cob;

  Block next(int64_t cobs) const { return cob + 1 < cobs ? Block{e, cob + 1} : Block{e + 1, 0}; }
};

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

// U of a block, and of element e that part of V that falls to block number `part` of `parts`.
Ahead wanted_soon(const WinogradProduct& p, Block block, int64_t e, int64_t part, int64_t parts, int64_t steps) {
  Ahead ahead;
  if (block.e < p.elements) ahead.first = soon_u(p, block.e, block.cob);
  if (e < p.elements) ahead.second = soon_v(p, e, part, parts);
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

// Two of each, where there are enough tiles.
int64_t room(int64_t depth, int64_t tiles) {
  return 2 * steps_of(depth) * Cut::step_pairs * (ceil_div(tiles, group) + cob_width / group) + group;
}

int64_t outputs_of(const WinogradProduct& p, int64_t cob) {
  return smaller(cob_width, p.outputs - cob * cob_width);
}

float* m_of(const WinogradProduct& p, Block block) {
  return p.m + block.cob * p.m_cob + block.e * p.m_element;
}

// Panels of U, turned first if they are the other direction's.
const float* u_of(const WinogradProduct& p, Block block) {
  const int64_t panels = ceil_div(outputs_of(p, block.cob), panel);
  if (!p.other) return p.u + block.cob * p.u_cob + block.e * panels * p.panel_floats;
  avx512::turn_panels(*p.other, block.e, p.first_output + block.cob * cob_width, panels, p.turned,
                      p.panel_floats);
  return p.turned;
}

// Steps of `multiply_squares` in a block.
int64_t steps_in(const WinogradProduct& p, int64_t cob) {
  return ceil_div(outputs_of(p, cob), panel) * ceil_div(p.tiles, 2 * group) * steps_of(p.depth);
}

void multiply_by_few(const WinogradProduct& p) {
  const int64_t steps = steps_of(p.depth), cobs = ceil_div(p.outputs, cob_width);
  uint32_t* const a = aligned_pairs(p.room);
  uint32_t* const b = a + ceil_div(p.tiles, group) * steps * Cut::step_pairs;
  for (int64_t e = 0; e < p.elements; ++e) {
    Cut::cut_a(p.v + e * p.v_element, p.v_block, p.tiles, p.depth, a);
    for (Block block{e, 0}; block.e == e; block = block.next(cobs)) {
      Ahead ahead = wanted_soon(p, block.next(cobs), e + 1, block.cob, cobs, steps_in(p, block.cob));
      multiply_few(p, u_of(p, block), outputs_of(p, block.cob), steps, a, b, m_of(p, block), ahead);
    }
  }
}

// More of A's bytes than these, twice, would not leave the second-level cache room for anything else.
constexpr int64_t most_a_bytes = 512 << 10;

// B of the next block, and A of the next element, are cut while a block is multiplied.
void multiply_by_many(const WinogradProduct& p) {
  const int64_t steps = steps_of(p.depth), cobs = ceil_div(p.outputs, cob_width);
  const int64_t a_pairs = ceil_div(p.tiles, group) * steps * Cut::step_pairs;
  const int64_t b_pairs = cob_width / group * steps * Cut::step_pairs;
  const bool two = a_pairs * int64_t{sizeof(uint32_t)} <= most_a_bytes;
  uint32_t* const a = aligned_pairs(p.room);
  uint32_t* const b = a + (1 + two) * a_pairs;
  const auto place_a = [&](int64_t e) { return a + (two && e % 2 ? a_pairs : 0); };
  const auto place_b = [&](Block block) { return b + (block.e * cobs + block.cob) % 2 * b_pairs; };
  const auto cutting_a = [&](int64_t e) {
    const int64_t tiles = e < p.elements ? p.tiles : 0;
    return CuttingA(p.v + e * p.v_element, p.v_block, tiles, p.depth, place_a(e));
  };
  const auto cutting_b = [&](Block block) {
    const bool is_there = block.e < p.elements;
    return CuttingB(is_there ? u_of(p, block) : p.u, p.panel_floats,
                    is_there ? ceil_div(outputs_of(p, block.cob), panel) : 0, p.depth, place_b(block));
  };
  CuttingA next_a = cutting_a(0);
  CuttingB next_b = cutting_b({0, 0});
  finish(next_a), finish(next_b);
  for (Block block{0, 0}; block.e < p.elements; block = block.next(cobs)) {
    const Block next = block.next(cobs);
    const int64_t steps_here = steps_in(p, block.cob), times = pauses * steps_here;
    if (block.cob == 0 && two) next_a = cutting_a(block.e + 1);
    next_b = cutting_b(next);
    Meanwhile meanwhile{
        wanted_soon(p, next.next(cobs), block.e + 1 + two, block.cob, cobs, steps_here), next_a, next_b,
        two ? ceil_div(next_a.portions(), times * cobs) : 0, ceil_div(next_b.portions(), times)};
    multiply_block(p, outputs_of(p, block.cob), steps, place_a(block.e), place_b(block), m_of(p, block),
                   meanwhile);
    finish(next_b);
    if (next.cob != 0) continue;
    if (!two) next_a = cutting_a(next.e);
    finish(next_a);
  }
}

void multiply(const WinogradProduct& p) {
  const TileRegisters in_use;
  (p.tiles <= few_tiles ? multiply_by_few : multiply_by_many)(p);
}

}  // namespace

constexpr int64_t cobs_together = 4, own_tiles = 128, shared_tiles = 256, own_depth = 256;

extern const WinogradGemm winograd_gemm;
const WinogradGemm winograd_gemm = {panel, cobs_together, own_tiles, shared_tiles, own_depth, room,
                                    multiply, avx512::turn_panels};

}  // namespace fastconv::FASTCONV_ISA
