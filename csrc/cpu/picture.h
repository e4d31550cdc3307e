// How a picture lies in memory, and the strips that the blocked kernels work on.
//
// Channels are handled in blocks of 16, on every instruction set.  Three layouts:
//
//   planar  (NCHW)      c -> h -> w            16 planes make a block
//   last    (NHWC)      h -> w -> c            16 neighbours of a pixel make a block
//   blocked (nChw16c)   c/16 -> h -> w -> 16   the same, and a block's pixels are dense
//
// A strip is a piece of a block, copied to the first-level cache with its padding written out:
//
//   strip[row][slack | column 0 ... | slack][16]
//
// so that the transforms know nothing of layouts, edges or padding.  Transposition moves 16
// pixels at a time, and the slack takes what it moves beyond the strip's own columns.
#pragma once
#include <stdint.h>

namespace fastconv {

inline constexpr int64_t block_width = 16;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Results at least as large are written around the caches.
inline constexpr int64_t stream_bytes = int64_t{16} << 20;

struct Picture {
  float* data;
  int64_t channels, height, width;
  bool planar;
  int64_t image;  // strides, in floats: from one picture of the batch to the next,
  int64_t block;  // ... block of 16 channels,
  int64_t row;
  int64_t pixel;
  int64_t plane;  // from one channel to the next: planar only
};

inline Picture planar_picture(float* data, int64_t c, int64_t h, int64_t w) {
  return {data, c, h, w, true, c * h * w, block_width * h * w, w, 1, h * w};
}

inline Picture last_picture(float* data, int64_t c, int64_t h, int64_t w) {
  return {data, c, h, w, false, c * h * w, block_width, w * c, c, 1};
}

inline Picture blocked_picture(float* data, int64_t c, int64_t h, int64_t w) {
  const int64_t blocks = ceil_div(c, block_width), block = block_width * h * w;
  return {data, c, h, w, false, blocks * block, block, w * block_width, block_width, 1};
}

// A rectangle of one block of channels of one picture; it may reach beyond the picture.
struct Window {
  int64_t n, block;           // which picture, which 16 channels
  int64_t y, x;               // the first row and column
  int64_t rows, columns;
};

struct Strip {
  static constexpr int64_t slack = 16;         // columns on either side
  static constexpr int64_t row = (16 + 64 + 16) * block_width;  // floats from row to row
  static constexpr int64_t floats = 8 * row;   // 8 rows: F(6x6) reads as many
};

}  // namespace fastconv
