// The products of gather_squares.cpp on Intel's matrix unit (amx.h).
#include "amx.h"
#include "gather_squares.h"

namespace fastconv::FASTCONV_ISA {
namespace {

using Cut = CutInto<3>;
static_assert(SquareKernels::step == step && SquareKernels::square_pairs == Cut::step_pairs);

void cut_planes(const float* from, int64_t plane, int64_t planes, int64_t pixels, uint32_t* b,
                int64_t b_line) {
  const int64_t piece = group * b_line;
  for (int64_t k = 0; k < group; ++k, from += plane, b += b_line)
    for (int64_t q = 0; q < pixels; q += group) {
      const int64_t count = smaller(group, pixels - q);
      const auto line = [&](int64_t at) {
        return k + at < planes ? some(from + at * plane + q, count) : _mm512_setzero_ps();
      };
      Cut::cut(line(0), line(group), b + q, piece);
    }
}

void cut_rows(const float* from, int64_t row, int64_t rows, int64_t depth, uint32_t* a) {
  for (int64_t k = 0; k < depth; k += step, a += Cut::step_pairs)
    for (int64_t i = 0; i < group; ++i) {
      const float* const at = from + i * row + k;
      const int64_t rest = i < rows ? depth - k : 0;
      Cut::cut(some(at, rest), some(at + group, rest - group), a + i * group);
    }
}

template <int Columns>
inline void load_lines(const uint32_t* b, int64_t line_bytes) {
  _tile_loadd(6, b, line_bytes);
  if constexpr (Columns > 1) _tile_loadd(7, b + group, line_bytes);
}

// The order of multiply_squares, with B's lines apart.
template <int Rows, int Columns>
void multiply_square(const SquareProduct& p, int64_t q) {
  const Sums sums{{{p.c + q, p.c + q + group},
                   {p.c + group * p.c_row + q, p.c + group * p.c_row + q + group}},
                  p.c_row};
  if (p.accumulate) {
    load_sums<Rows, Columns>(sums);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const int64_t line = p.b_line * static_cast<int64_t>(sizeof(uint32_t)), piece = group * p.b_line;
  for (const SquareTap* tap = p.taps; tap < p.taps + p.tap_count; ++tap) {
    const uint32_t *a = p.a + tap->a, *b = p.b + tap->b + q;
    for (int64_t s = 0; s < p.steps; ++s, a += Cut::step_pairs, b += 3 * piece) {
      load_a<Rows>(a, p.a_rows);
      load_lines<Columns>(b + 2 * piece, line);
      add_products<Rows, Columns>();
      load_lines<Columns>(b + piece, line);
      add_products<Rows, Columns>();
      load_a<Rows>(a + square, p.a_rows);
      add_products<Rows, Columns>();
      load_lines<Columns>(b, line);
      add_products<Rows, Columns>();
      load_a<Rows>(a + 2 * square, p.a_rows);
      add_products<Rows, Columns>();
      load_a<Rows>(a, p.a_rows);
      add_products<Rows, Columns>();
    }
  }
  store_sums<Rows, Columns>(sums);
}

void multiply(const SquareProduct& p) {
  const TileRegisters in_use;
  for (int64_t q = 0; q < p.pixels; q += 2 * group) {
    const bool wide = p.pixels - q > group, high = p.rows > group;
    (high ? wide ? multiply_square<2, 2> : multiply_square<2, 1>
          : wide ? multiply_square<1, 2> : multiply_square<1, 1>)(p, q);
  }
}

}  // namespace

extern const SquareKernels square_kernels;
const SquareKernels square_kernels = {cut_planes, cut_rows, multiply};

}  // namespace fastconv::FASTCONV_ISA
