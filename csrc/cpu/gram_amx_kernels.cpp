// Moments and their gradient (gram_kernels.cpp) on Intel's matrix unit (amx.h).
//
//   add        A: the features, squares of them transposed      B: the features as they lie
//              Of few channels, where transposing takes the time, A is the first pieces alone:
//              u1 v1 + 2 u1 v2 and, mirrored, v1 u1 + 2 v1 u2 are twice the three products.
//   multiply   A: the features as they lie                      B: U
//
// Two pieces of each number and three products do for both: 512 channels of 64 x 64 noise have variances
// that are right to 3e-6, and a gradient to 5e-6, in 1.3 and 1.9 ms.  (With four products there and six back
// 1.7 and 3.1 ms, to 3e-6 and 4e-7: a whole network's gradient is right to 1e-3, docs/accuracy.md.)
#include "amx.h"

#include "kernels.h"

namespace fastconv::FASTCONV_ISA {
namespace {

using Cut = CutInto<2>;

constexpr int64_t pixels_at_once = 128;

constexpr int64_t most_mirrored = 4;  // blocks: 64 channels of 512 x 512 take 4.3 ms for 5.3, 128 gain nothing

int64_t sums_room(int64_t blocks) {
  return 2 * blocks * steps_of(pixels_at_once) * Cut::step_pairs + blocks * group + group;
}

// Of one block of channels d = f - shift: its pieces as B, its sums, and the squares of what the first
// pieces leave over.  Those are what the three products leave out; of two channels they are of either
// sign, of a channel with itself they are not.
template <bool SecondTwice>
void take(const float* f, int64_t pixels, const float* shift, float* total, float* left, uint32_t* b) {
  const __m512 less = _mm512_loadu_ps(shift);
  const auto line = [&](int64_t p) {
    return p < pixels ? _mm512_sub_ps(_mm512_loadu_ps(f + p * group), less) : _mm512_setzero_ps();
  };
  __m512 sum[2] = {}, squares[2] = {};
  for (int64_t p = 0; p < pixels; p += step, b += square)
    for (int64_t r = 0; r < group; ++r, b += group) {
      __m512 d[2] = {line(p + r), line(p + r + group)};
      for (int i = 0; i < 2; ++i) sum[i] = _mm512_add_ps(sum[i], d[i]);
      Cut::cut_piece(d[0], d[1], b);
      for (int i = 0; i < 2; ++i) squares[i] = _mm512_fmadd_ps(d[i], d[i], squares[i]);
      for (int i = 0; SecondTwice && i < 2; ++i) d[i] = _mm512_add_ps(d[i], d[i]);
      Cut::cut_piece(d[0], d[1], b + square);
    }
  _mm512_storeu_ps(left, _mm512_add_ps(squares[0], squares[1]));
  _mm512_storeu_ps(total, _mm512_add_ps(_mm512_loadu_ps(total), _mm512_add_ps(sum[0], sum[1])));
}

// First pieces of A, (u1, ...), by all of B, (v1, 2 v2).
template <int Rows, int Columns>
void multiply_first(Squares of_a, Squares of_b, int64_t steps, const Sums& to, Ahead& ahead) {
  const uint32_t *a = of_a.at, *b = of_b.at;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < steps; ++s, a += square, b += Cut::step_pairs) {
    load_a<Rows>(a, of_a.next);
    load_b<Columns>(b, of_b.next);
    add_products<Rows, Columns>();
    ahead.go_on();
    load_b<Columns>(b + square, of_b.next);
    add_products<Rows, Columns>();
    ahead.go_on();
    ahead.go_on();
  }
  store_sums<Rows, Columns>(to);
}

constexpr void (*multiply_first_of[2][2])(Squares, Squares, int64_t, const Sums&, Ahead&) = {
    {multiply_first<1, 1>, multiply_first<1, 2>}, {multiply_first<2, 1>, multiply_first<2, 2>}};

// 32 x 32 sums of some pixels.  They are made apart from those of all pixels: added to the large ones
// number by number, they would lose as much as is left out for 100 times as many.
void add_squares(const GramSum& s, Squares a, Squares b, int64_t steps, int64_t i, int64_t j, Ahead& ahead) {
  alignas(64) float found[4 * square];
  const Sums sums{{{found, found + group}, {found + 2 * square, found + 2 * square + group}}, panel};
  const int rows = s.blocks - i > 1 ? 2 : 1, columns = s.blocks - j > 1 ? 2 : 1;
  if (s.blocks <= most_mirrored)
    multiply_first_of[rows - 1][columns - 1](a, b, steps, sums, ahead);
  else
    Cut::multiply_of<Ahead>[rows - 1][columns - 1](a, b, steps, nullptr, sums, ahead);
  for (int64_t r = 0; r < rows * group; ++r)
    for (int64_t c = 0; c < columns * group; c += group) {
      float* const to = s.sums + (i * group + r) * s.row + j * group + c;
      const __m512 v = _mm512_load_ps(found + r * panel + c);
      _mm512_storeu_ps(to, s.fresh ? v : _mm512_add_ps(v, _mm512_loadu_ps(to)));
    }
}

void add(const GramSum& s) {
  const TileRegisters in_use;
  const bool mirrored = s.blocks <= most_mirrored;
  const int64_t steps = steps_of(s.pixels), next = steps * Cut::step_pairs;
  const int64_t a_next = mirrored ? steps * square : next;
  uint32_t* const a = aligned_pairs(s.room);
  uint32_t* const b = a + s.blocks * a_next;
  float* const left = reinterpret_cast<float*>(b + s.blocks * next);
  for (int64_t block = 0; block < s.blocks; ++block) {
    const int64_t c = block * group;
    const auto taken = mirrored ? take<true> : take<false>;
    taken(s.f + block * s.f_block, s.pixels, s.shift + c, s.total + c, left + c, b + block * next);
    for (int64_t i = 0; mirrored && i < steps; ++i)
      transpose_square(b + block * next + i * Cut::step_pairs, a + block * a_next + i * square);
    if (!mirrored) Cut::transpose_squares(b + block * next, steps, a + block * a_next);
  }
  const int64_t pairs = ceil_div(s.blocks, 2);
  const float* const soon = s.f + s.pixels * group;
  Ahead ahead{{soon, s.soon, s.soon ? s.blocks : 0, {s.f_block, s.f_block}}, {}};
  ahead.first.spread_over((mirrored ? pairs * pairs : pairs * (pairs + 1) / 2) * steps);
  for (int64_t i = 0; i < s.blocks; i += 2)
    for (int64_t j = mirrored ? 0 : i; j < s.blocks; j += 2)
      add_squares(s, {a + i * a_next, a_next}, {b + j * next, next}, steps, i, j, ahead);
  for (int64_t c = 0; c < s.blocks * group; ++c) s.sums[c * s.row + c] += left[c];
}

int64_t room(int64_t depth) {
  return pixels_at_once / group * steps_of(depth) * Cut::step_pairs + group;
}

int64_t cut_floats(int64_t depth) { return 2 * steps_of(depth) * Cut::step_pairs + group; }

void cut_u(const float* from, int64_t depth, float* to) {
  Cut::cut_panel(from, depth, aligned_pairs(to));
}

// Up to 32 pixels by 32 outputs.  What they are added to is fetched during the multiplications.
void multiply_block(const GramProduct& g, const uint32_t* a, const uint32_t* b, int64_t o, float* to,
                    int64_t pixels, Soon& next) {
  alignas(64) float found[2][2 * square], constant[panel];
  const Sums sums{{{found[0], found[1]}, {found[0] + square, found[1] + square}}, block_width};
  const Sums constants{{{constant, constant + group}, {constant, constant + group}}, 0};
  const int columns = g.outputs - o > group ? 2 : 1, rows = pixels > group ? 2 : 1;
  __builtin_memcpy(constant, g.constant + o, sizeof constant);
  Ahead ahead{{to, pixels, columns, {g.to_block, g.to_block}}, next};
  const int64_t steps = steps_of(g.depth), stride = steps * Cut::step_pairs;
  ahead.first.spread_over(steps);
  Cut::multiply_of<Ahead>[rows - 1][columns - 1]({a, stride}, {b, stride}, steps, &constants, sums, ahead);
  next = ahead.second;
  for (int column = 0; column < columns; ++column, to += g.to_block)
    for (int64_t p = 0; p < pixels; ++p) {
      const __m512 v = _mm512_load_ps(found[column] + p * block_width);
      float* const at = to + p * block_width;
      _mm512_storeu_ps(at, g.accumulate ? _mm512_add_ps(v, _mm512_loadu_ps(at)) : v);
    }
}

// Of few channels so few pixels that their pieces stay in the first-level cache, beside all of U: 64
// channels of 512 x 512, memory left aside, take 4.2 ms instead of 4.8.
int64_t multiplied_at_once(int64_t depth) { return depth > 64 ? pixels_at_once : 2 * group; }

void multiply(const GramProduct& g) {
  const TileRegisters in_use;
  const int64_t at_once = multiplied_at_once(g.depth);
  const int64_t steps = steps_of(g.depth);
  uint32_t* const a = aligned_pairs(g.room);
  for (int64_t first = 0; first < g.pixels; first += at_once) {
    const int64_t pixels = smaller(at_once, g.pixels - first), end = first + pixels;
    Cut::cut_a(g.f + first * block_width, g.f_block, pixels, g.depth, a);
    Soon next{g.f + end * block_width, smaller(at_once, g.pixels - end),
              end < g.pixels ? ceil_div(g.depth, group) : 0, {g.f_block, g.f_block}};
    next.spread_over(ceil_div(g.outputs, panel) * ceil_div(pixels, 2 * group) * steps);
    for (int64_t o = 0; o < g.outputs; o += panel) {
      const uint32_t* const b = aligned_pairs(g.u + o / panel * cut_floats(g.depth));
      float* const to = g.to + o / block_width * g.to_block + first * block_width;
      for (int64_t p = 0; p < pixels; p += 2 * group)
        multiply_block(g, a + p / group * steps * Cut::step_pairs, b, o, to + p * block_width,
                       smaller(2 * group, pixels - p), next);
    }
  }
}

}  // namespace

extern const GramSums gram_sums;
const GramSums gram_sums = {pixels_at_once, most_mirrored, sums_room, add};

extern const GramProducts gram_products;
const GramProducts gram_products = {panel,    pixels_at_once, INT64_MAX, room,
                                    multiply, cut_floats,     cut_u};

}  // namespace fastconv::FASTCONV_ISA
