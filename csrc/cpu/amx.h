// Intel's matrix unit, and floats as what it multiplies.  Include only from *_amx_kernels.cpp.
//
// The unit multiplies bfloat16 numbers, 8 bits of mantissa, and adds in float.  A float is the sum of
// three of them exactly, each cut off from what the ones before leave over:
//
//   x = x1 + x2 + x3      x1 = the upper 16 bits of x, x2 those of x - x1, x3 = x - x1 - x2
//
//   u v = u1 v1 + (u1 v2 + u2 v1) + (u1 v3 + u2 v2 + u3 v1)      less than 2^-20 of u v is left out
//
// (Of numbers below 1e-31, third pieces are flushed to zero.)  Where 5e-6 will do, as in the moments of
// features and their gradient, two pieces do, each rounded, and three products:
//
//   u v = u1 v1 + u1 v2 + u2 v1      2^-16 of u v at the most is left out, of either sign
//
// One instruction multiplies 16 x 32 by 32 x 16 numbers; rows of the first and pairs of rows of the
// second are lines of 64 bytes:
//
//   A [i / 16][k / 32][piece][i][k, k + 16]      B [j / 16][k / 32][piece][k][j: k, k + 16]
//
// where [k, k + 16] are pairs of numbers 16 apart, which spares shuffling.  Of the eight tile registers
// four hold sums of 32 x 32, two A and two B.
//
// Measured on a Xeon of 3 GHz, one thread, GFLOP/s: fused multiply-adds 192; six products instead of
// each 460 with zeros, but 300-380 with real numbers, which the processor runs slower.  A layer's
// error is half of theirs (docs/accuracy.md).
#pragma once
#include <immintrin.h>
#include <stdint.h>

#include "lanes.h"
#include "picture.h"

namespace fastconv::FASTCONV_ISA {

inline constexpr int64_t group = 16, step = 32;
inline constexpr int64_t square = 256;  // pairs of numbers in a tile register
static_assert(panel == 2 * group, "a panel is two groups");

inline int64_t steps_of(int64_t depth) { return (depth + step - 1) / step; }

// The first `count` of 16 floats; zeros for the others.
inline __m512 some(const float* from, int64_t count) {
  if (count <= 0) return _mm512_setzero_ps();
  return count >= group ? _mm512_loadu_ps(from)
                        : _mm512_maskz_loadu_ps(static_cast<__mmask16>((1 << count) - 1), from);
}

// The tile registers are in use while it lives: 0 ... 3 sums, 4 and 5 A, 6 and 7 B.
class TileRegisters {
 public:
  TileRegisters() { _tile_loadconfig(&all_whole); }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;

 private:
  struct alignas(64) Configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };
  // A constant: of a variable, gcc 12 takes no more than the first 8 bytes to be read.
  static constexpr Configuration all_whole = {
      1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
};

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

// Where the sums of 16 x 16 are kept: line i + 1 `line` floats after line i.
struct Sums {
  float* at[2][2];
  int64_t line;
};

template <int Rows, int Columns>
inline void load_sums(const Sums& c) {
  const int64_t bytes = c.line * 4;
  _tile_loadd(0, c.at[0][0], bytes);
  if constexpr (Columns > 1) _tile_loadd(1, c.at[0][1], bytes);
  if constexpr (Rows > 1) _tile_loadd(2, c.at[1][0], bytes);
  if constexpr (Rows > 1 && Columns > 1) _tile_loadd(3, c.at[1][1], bytes);
}

template <int Rows, int Columns>
inline void store_sums(const Sums& c) {
  const int64_t bytes = c.line * 4;
  _tile_stored(0, c.at[0][0], bytes);
  if constexpr (Columns > 1) _tile_stored(1, c.at[0][1], bytes);
  if constexpr (Rows > 1) _tile_stored(2, c.at[1][0], bytes);
  if constexpr (Rows > 1 && Columns > 1) _tile_stored(3, c.at[1][1], bytes);
}

// Pieces of A or B, and how far it is from one block of 16 to the next.
struct Squares {
  const uint32_t* at;
  int64_t next;
};

inline constexpr int64_t pauses = 3;  // of `multiply_squares`, in a step

// Runs of lines of 64 bytes that are wanted soon: fetched into the second-level cache a few at a time,
// while others are multiplied.  A core waits for a dozen lines at most: asked for all at once, they
// come no earlier, and multiplications wait with them.
struct Soon {
  const float* at = nullptr;
  int64_t run = 0, runs = 0;  // lines in a run
  int64_t gap[2] = {};        // floats from the first run to the second, from there to the next, ...
  int64_t each = 0;           // lines at a time
  int64_t done = 0;

  // All lines during so many steps of `multiply_squares`; none, if there are no steps.
  void spread_over(int64_t steps) { each = steps ? ceil_div(run * runs, pauses * steps) : 0; }

  void fetch() {
    if (runs == 0) return;
    const float* const from = at + done * group;
    const int64_t count = smaller(each, run - done);
    for (int64_t i = 0; i < count; ++i) __builtin_prefetch(from + i * group, 0, 2);
    done += count;
    if (done < run) return;
    done = 0;
    at += gap[0];
    const int64_t before = gap[0];
    gap[0] = gap[1], gap[1] = before;
    --runs;
  }
};

// Two kinds of them.
struct Ahead {
  Soon first, second;
  void go_on() {
    first.fetch();
    second.fetch();
  }
};

inline void transpose_square(const uint32_t* from, uint32_t* to) {
  V lines[group];
  for (int64_t r = 0; r < group; ++r) lines[r] = (V)_mm512_load_si512(from + r * group);
  transpose(lines);
  for (int64_t r = 0; r < group; ++r) _mm512_store_si512(to + r * group, (__m512i)lines[r]);
}

// Numbers cut into 3 pieces, or into 2.
template <int Pieces>
struct CutInto {
  static_assert(Pieces == 2 || Pieces == 3);
  static constexpr int64_t step_pairs = Pieces * square;

  // Two pieces are rounded, not cut off.  NaNs stay as they are: one of all bits would become 0.
  static __m512i rounded(__m512 v) {
    const __m512i bits = _mm512_castps_si512(v);
    if constexpr (Pieces == 3) return bits;
    const __mmask16 is_number = _mm512_cmp_ps_mask(v, v, _CMP_ORD_Q);
    return _mm512_mask_add_epi32(bits, is_number, bits, _mm512_set1_epi32(0x8000));
  }

  // One piece of 16 pairs, as a line; what it leaves over stays.
  static void cut_piece(__m512& first, __m512& second, uint32_t* to) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    const __m512i a = rounded(first), b = rounded(second);
    constexpr int choose = 0xCA;  // of the second where the mask is set, else of the third
    _mm512_store_si512(to, _mm512_ternarylogic_epi32(upper, b, (__m512i)((__v16su)a >> 16), choose));
    first = _mm512_sub_ps(first, _mm512_castsi512_ps(_mm512_and_si512(a, upper)));
    second = _mm512_sub_ps(second, _mm512_castsi512_ps(_mm512_and_si512(b, upper)));
  }

  // The pieces of 16 pairs, as one line of each of so many squares.
  static void cut(__m512 first, __m512 second, uint32_t* to, int64_t apart = square) {
    for (int piece = 0; piece < Pieces; ++piece) cut_piece(first, second, to + piece * apart);
  }

  // A from lines of [k/16][i][16]; `block` floats from one k/16 to the next.
  static void cut_a(const float* from, int64_t block, int64_t lines, int64_t depth, uint32_t* a) {
    const int64_t steps = steps_of(depth);
    for (int64_t first = 0; first < lines; first += group)
      for (int64_t s = 0; s < steps; ++s, a += step_pairs) {
        const int64_t rest = depth - s * step, rows = smaller(group, lines - first);
        const float* at = from + 2 * s * block + first * group;
        for (int64_t i = 0; i < rows; ++i, at += group)
          cut(some(at, rest), some(at + block, rest - group), a + i * group);
      }
  }

  // B from a panel [k][32]: two blocks of columns.
  static void cut_panel(const float* panel, int64_t depth, uint32_t* b) {
    const int64_t steps = steps_of(depth), half = steps * step_pairs;
    for (int64_t s = 0; s < steps; ++s) {
      const float* from = panel + s * step * 2 * group;
      const int64_t rest = depth - s * step;
      uint32_t* to = b + s * step_pairs;
      for (int64_t k = 0; k < group; ++k, from += 2 * group, to += group) {
        const auto row = [&](int64_t at, int64_t o) {
          return at < rest ? _mm512_loadu_ps(from + (at - k) * 2 * group + o) : _mm512_setzero_ps();
        };
        cut(row(k, 0), row(k + group, 0), to);
        cut(row(k, group), row(k + group, group), to + half);
      }
    }
  }

  // B from lines of [t][16], where k are the lines.
  static void cut_columns(const float* from, int64_t lines, uint32_t* b) {
    const auto line = [&](int64_t t) {
      return t < lines ? _mm512_loadu_ps(from + t * group) : _mm512_setzero_ps();
    };
    for (int64_t t = 0; t < lines; t += step, b += step_pairs)
      for (int64_t r = 0; r < group; ++r) cut(line(t + r), line(t + r + group), b + r * group);
  }

  // A of the same numbers from a B, or the other way round; `to` may be `from`.
  static void transpose_squares(const uint32_t* from, int64_t steps, uint32_t* to) {
    for (const uint32_t* const end = from + steps * step_pairs; from < end; from += square, to += square)
      transpose_square(from, to);
  }

  // Sums of Rows x Columns squares over all of k, added to those `from`, or to zeros where it is null.
  // meanwhile.go_on() is called `pauses` times a step: for what the unit leaves the core time for.
  template <int Rows, int Columns, class Meanwhile>
  static void multiply_squares(Squares of_a, Squares of_b, int64_t steps, const Sums* from,
                               const Sums& to, Meanwhile& meanwhile) {
    const uint32_t *a = of_a.at, *b = of_b.at;
    if (from) {
      load_sums<Rows, Columns>(*from);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (int64_t s = 0; s < steps; ++s, a += step_pairs, b += step_pairs) {
      if constexpr (Pieces == 3) {  // in this order six products read seven pairs of squares
        load_a<Rows>(a, of_a.next);
        load_b<Columns>(b + 2 * square, of_b.next);
        add_products<Rows, Columns>();
        meanwhile.go_on();
        load_b<Columns>(b + square, of_b.next);
        add_products<Rows, Columns>();
        load_a<Rows>(a + square, of_a.next);
        add_products<Rows, Columns>();
        meanwhile.go_on();
        load_b<Columns>(b, of_b.next);
        add_products<Rows, Columns>();
        load_a<Rows>(a + 2 * square, of_a.next);
        add_products<Rows, Columns>();
        meanwhile.go_on();
        load_a<Rows>(a, of_a.next);
        add_products<Rows, Columns>();
      } else {
        load_a<Rows>(a, of_a.next);
        load_b<Columns>(b + square, of_b.next);
        add_products<Rows, Columns>();
        meanwhile.go_on();
        load_b<Columns>(b, of_b.next);
        add_products<Rows, Columns>();
        meanwhile.go_on();
        load_a<Rows>(a + square, of_a.next);
        add_products<Rows, Columns>();
        meanwhile.go_on();
      }
    }
    store_sums<Rows, Columns>(to);
  }

  template <class Meanwhile>
  using MultiplySquares = void (*)(Squares, Squares, int64_t, const Sums*, const Sums&, Meanwhile&);
  template <class Meanwhile>
  static constexpr MultiplySquares<Meanwhile> multiply_of[2][2] = {
      {multiply_squares<1, 1, Meanwhile>, multiply_squares<1, 2, Meanwhile>},
      {multiply_squares<2, 1, Meanwhile>, multiply_squares<2, 2, Meanwhile>}};
};

// The first address from `at` on at which a line begins.
inline uint32_t* aligned_pairs(const float* at) {
  return reinterpret_cast<uint32_t*>((reinterpret_cast<uintptr_t>(at) + 63) / 64 * 64);
}

}  // namespace fastconv::FASTCONV_ISA
