// Where the Hopper kernel's operands lie, as plain functions: the kernel, the host and the tests use
// the same.
//
// A block computes 128 pixels, a rectangle of one picture, for 64, 128 or 256 channels.  k runs over taps,
// and within a tap over channels in steps of 128 bytes.  The copy engine fetches, per step,
//
//   src      a box of (128 bytes of channels, tile_w, tile_h, 1) at (c, x, y, n): under a tap the
//            pixels of a rectangle lie in a rectangle, as strides are 1.  What lies outside of the
//            picture arrives as zeros: no padding is ever seen by the kernel
//   weight   a box of (128 bytes of channels, 1, channels of the block) at (c, tap, m)
//
// Either arrives as rows of 128 bytes whose eight chunks of 16 bytes are exchanged by the row's
// number, the 128-byte swizzle: chunk j of row r lies at j ^ r % 8.
#pragma once
#include <stdint.h>

#include "numbers.h"
#include "table.h"

namespace fastconv::cuda {

// What cuTensorMapEncodeTiled is told; the first axis lies densest, steps are of the others.
struct TensorMapPlan {
  const void* data;
  Type type;
  int rank;
  uint64_t sizes[4];
  uint64_t step_bytes[3];
  uint32_t box[4];
};

struct alignas(128) TensorMap {
  uint64_t opaque[16];
};
int encode(const TensorMapPlan&, TensorMap*);  // 0 or a cudaError_t

constexpr int row_bytes = 128, tile_pixels = 128;

struct PixelTile {
  int h, w;
};

// The rectangle of 128 pixels of which fewest cover the picture; the widest of several.
inline PixelTile pixel_tile(int64_t picture_h, int64_t picture_w) {
  PixelTile best{};
  int64_t fewest = INT64_MAX;
  for (int w = tile_pixels; w >= 8; w /= 2) {
    const int h = tile_pixels / w;
    const int64_t count = ((picture_h + h - 1) / h) * ((picture_w + w - 1) / w);
    if (count >= fewest) continue;
    fewest = count;
    best = {h, w};
  }
  return best;
}

// How many channels one step holds.
constexpr int channels_of_step(Type type) { return row_bytes / static_cast<int>(bytes_of(type)); }

inline TensorMapPlan source_plan(const void* src, Type type, int64_t n, int64_t h, int64_t w, int64_t channels,
                                 PixelTile tile) {
  const uint64_t pixel = static_cast<uint64_t>(channels * bytes_of(type));
  const uint64_t rows = static_cast<uint64_t>(h), columns = static_cast<uint64_t>(w);
  return {src,
          type,
          4,
          {static_cast<uint64_t>(channels), columns, rows, static_cast<uint64_t>(n)},
          {pixel, pixel * columns, pixel * columns * rows},
          {static_cast<uint32_t>(channels_of_step(type)), static_cast<uint32_t>(tile.w), static_cast<uint32_t>(tile.h),
           1}};
}

// Of weights packed as in pack_weight.h, for one group.
inline TensorMapPlan weight_plan(const void* packed, Type type, int64_t columns, int64_t taps, int64_t channels,
                                 int64_t k_packed, int tile_columns) {
  const uint64_t element = static_cast<uint64_t>(bytes_of(type));
  return {packed,
          type,
          3,
          {static_cast<uint64_t>(channels), static_cast<uint64_t>(taps), static_cast<uint64_t>(columns), 1},
          {static_cast<uint64_t>(channels) * element, static_cast<uint64_t>(k_packed) * element, 0},
          {static_cast<uint32_t>(channels_of_step(type)), 1, static_cast<uint32_t>(tile_columns), 1}};
}

// How the blocks divide the result.
struct HopperTiles {
  PixelTile tile;
  int across, down, images, columns;  // numbers of tiles
};
struct HopperTile {
  int n, y, x, column;  // x, y: of the rectangle's first pixel; column: number of the tile
};

FASTCONV_BOTH HopperTile tile_of_block(const HopperTiles& t, int block) {
  const int pixels = block / t.columns;
  return {pixels / t.across / t.down, pixels / t.across % t.down * t.tile.h, pixels % t.across * t.tile.w,
          block % t.columns};
}

// The walk over k: channels within taps.
struct HopperSteps {
  int taps, kw, per_tap, channels;  // steps of a tap, channels of a step
  int dil_h, dil_w, offset_h, offset_w;
};
struct HopperStep {
  int tap, c, y, x;  // y, x: what the tap adds to a pixel's place
};

FASTCONV_BOTH HopperStep step_at(const HopperSteps& s, int step) {
  const int tap = step / s.per_tap;
  return {tap, step % s.per_tap * s.channels, tap / s.kw * s.dil_h + s.offset_h, tap % s.kw * s.dil_w + s.offset_w};
}

// Tells wgmma of an operand in shared memory: rows of 128 swizzled bytes, k along the row.
//
//   bits 0-13   address / 16
//   bits 16-29  unused here (1): the distance of 128-byte columns, of which there is one
//   bits 32-45  distance of groups of eight rows / 16
//   bits 62-63  1: 128-byte swizzle, which the unit applies to the address's own bits, so that the
//               next 32 bytes of k lie at address + 32
FASTCONV_BOTH uint64_t operand_descriptor(unsigned shared_address) {
  return uint64_t{(shared_address & 0x3ffffu) >> 4} | uint64_t{1} << 16 | uint64_t{8 * row_bytes >> 4} << 32 |
         uint64_t{1} << 62;
}
constexpr uint64_t descriptor_step = 32 >> 4;  // the next 32 bytes of k

}  // namespace fastconv::cuda
