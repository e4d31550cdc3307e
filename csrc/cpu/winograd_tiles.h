// Tiles of results: how they are numbered, and how V, M and W store their elements.
#pragma once
#include <algorithm>

#include "kernels.h"
#include "picture.h"

namespace fastconv {

inline constexpr int64_t strip_tiles = 8;  // 32 or 48 pixels: strips begin on cache lines in NCHW

// Along the rows of a picture, row by row, picture by picture.
struct Tiles {
  int tile;  // M: the results of a tile are M x M
  int64_t rows, columns, count;

  Tiles(int m, int64_t n, int64_t height, int64_t width)
      : tile(m), rows(ceil_div(height, m)), columns(ceil_div(width, m)), count(n * rows * columns) {}

  int64_t elements() const { return (tile + 2) * (tile + 2); }
};

// Calls work(window of the results, position, tiles) for each strip of the tiles first ... last.
template <class Work>
void for_strips(const Tiles& t, int64_t first, int64_t last, int64_t block, const Work& work) {
  for (int64_t at = first; at < last;) {
    const int64_t row = at / t.columns, column = at % t.columns;
    const int64_t end = std::min(t.columns, (column / strip_tiles + 1) * strip_tiles);
    const int64_t tiles = std::min(end - column, last - at);
    const Window window{row / t.rows,    block,  row % t.rows * t.tile, column * t.tile,
                        int64_t{t.tile}, tiles * t.tile};
    work(window, at - first, tiles);
    at += tiles;
  }
}

// [element][block][tile][16], with odd numbers of cache lines from element to element and from
// block to block: with powers of two, all elements of a tile would fall into one set of the cache.
struct TileStrides {
  int64_t element, block;
};

inline TileStrides strides_for(int64_t blocks, int64_t tiles) {
  const int64_t block = tiles | 1;
  return {(blocks * block | 1) * block_width, block * block_width};
}

// V of the tiles first ... last of one block of channels; `expand` as in WinogradJob; `turned`: of
// the tiles turned by 180 degrees.
inline void transform_input(const Picture& from, const Decisions* expand, int64_t top, int64_t left,
                            const Tiles& t, int64_t first, int64_t last, int64_t block, float* v,
                            const TileStrides& strides, float* strip, bool turned = false) {
  const Kernels& k = kernels();
  const WinogradTransforms& transforms = t.tile == 4 ? *k.winograd_f4 : *k.winograd_f6;
  for_strips(t, first, last, block, [&](Window window, int64_t position, int64_t tiles) {
    window.y -= top;
    window.x -= left;
    window.rows += 2;
    window.columns += 2;
    if (expand)
      k.chain->expand(from, *expand, window, strip);
    else
      k.picture->gather(from, window, strip);
    transforms.input[turned](strip, tiles, v + block * strides.block + position * block_width,
                     strides.element);
  });
}

}  // namespace fastconv
