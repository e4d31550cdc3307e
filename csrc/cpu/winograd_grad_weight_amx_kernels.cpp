// The sums over tiles of winograd_grad_weight_kernels.cpp on Intel's matrix unit (amx.h).
//
//   A: W, with tiles along its lines, so that squares of it are transposed      B: V, as it is
#include "amx.h"

#include "kernels.h"

namespace fastconv::avx512 {
extern const OuterProducts outer_products;
}

namespace fastconv::FASTCONV_ISA {
namespace {

using Cut = CutInto<3>;

constexpr int64_t tiles_at_once = 256;  // not tuned: pieces of V and W stay in the second-level cache

int64_t room(int64_t rows, int64_t columns) {
  return steps_of(tiles_at_once) * Cut::step_pairs * (rows + columns) / group + group;
}

// With 16 rows or columns, squares half empty: cutting takes longer than multiplying.
void add(const OuterProduct& p) {
  if (p.rows <= group) return avx512::outer_products.add(p);
  const TileRegisters in_use;
  Ahead none;
  uint32_t* const a = aligned_pairs(p.room);
  for (int64_t t = 0; t < p.tiles; t += tiles_at_once) {
    const int64_t tiles = smaller(tiles_at_once, p.tiles - t), steps = steps_of(tiles);
    const int64_t next = steps * Cut::step_pairs;  // from one block of 16 channels to the next
    uint32_t* const b = a + p.rows / group * next;
    for (int64_t i = 0; i < p.rows / group; ++i) {
      Cut::cut_columns(p.a + i * p.a_block + t * block_width, tiles, a + i * next);
      Cut::transpose_squares(a + i * next, steps, a + i * next);
    }
    for (int64_t j = 0; j < p.columns / group; ++j)
      Cut::cut_columns(p.b + j * p.b_block + t * block_width, tiles, b + j * next);
    for (int64_t j = 0; j < p.columns; j += 2 * group)
      for (int64_t i = 0; i < p.rows; i += 2 * group) {
        float *const to = p.sums + i * p.sums_row + j, *const below = to + group * p.sums_row;
        const Sums sums{{{to, to + group}, {below, below + group}}, p.sums_row};
        const int down = p.rows - i > group ? 2 : 1, across = p.columns - j > group ? 2 : 1;
        Cut::multiply_of<Ahead>[down - 1][across - 1]({a + i / group * next, next}, {b + j / group * next, next},
                                               steps, p.fresh && t == 0 ? nullptr : &sums, sums, none);
      }
  }
}

}  // namespace

constexpr int64_t rows_together = 128;
// Single runs with 64, 128 and 256 channels: 256 tiles 85, 44, 33 ms; 384 79, 39, 29; 512 79, 43, 38.
constexpr int64_t least_tiles = 384;

extern const OuterProducts outer_products;
const OuterProducts outer_products = {panel, rows_together, least_tiles, room, add};

}  // namespace fastconv::FASTCONV_ISA
