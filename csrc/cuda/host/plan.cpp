// The plain functions of hopper_plan.h for tests, see tests/fastconv/test_cuda_hopper_plan.py.
#include "../hopper_plan.h"

using namespace fastconv::cuda;

extern "C" {

void fastconv_plan_pixel_tile(int64_t h, int64_t w, int* tile) {
  const PixelTile chosen = pixel_tile(h, w);
  tile[0] = chosen.h, tile[1] = chosen.w;
}

// tiles: tile.h, tile.w, across, down, images, columns; to: n, y, x, column
void fastconv_plan_tile_of_block(const int* tiles, int block, int* to) {
  const HopperTile t = tile_of_block({{tiles[0], tiles[1]}, tiles[2], tiles[3], tiles[4], tiles[5]}, block);
  to[0] = t.n, to[1] = t.y, to[2] = t.x, to[3] = t.column;
}

// steps: taps, kw, steps of a tap, channels of a step, dilations, offsets; to: tap, c, y, x
void fastconv_plan_step(const int* s, int step, int* to) {
  const HopperStep at = step_at({s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]}, step);
  to[0] = at.tap, to[1] = at.c, to[2] = at.y, to[3] = at.x;
}

uint64_t fastconv_plan_descriptor(unsigned shared_address) { return operand_descriptor(shared_address); }

// Both plans as rank, sizes, steps, box; 12 numbers.
static void flat(const TensorMapPlan& plan, int64_t* to) {
  *to++ = plan.rank;
  for (int i = 0; i < 4; ++i) *to++ = static_cast<int64_t>(plan.sizes[i]);
  for (int i = 0; i < 3; ++i) *to++ = static_cast<int64_t>(plan.step_bytes[i]);
  for (int i = 0; i < 4; ++i) *to++ = plan.box[i];
}

void fastconv_plan_source(int type, const int64_t* nhwc, int tile_h, int tile_w, int64_t* to) {
  flat(source_plan(nullptr, static_cast<Type>(type), nhwc[0], nhwc[1], nhwc[2], nhwc[3], {tile_h, tile_w}), to);
}
void fastconv_plan_weight(int type, int64_t columns, int64_t taps, int64_t channels, int64_t k_packed,
                          int tile_columns, int64_t* to) {
  flat(weight_plan(nullptr, static_cast<Type>(type), columns, taps, channels, k_packed, tile_columns), to);
}

}  // extern "C"
