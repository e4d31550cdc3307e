// The kernel of grad_weight_gemm.h: a tile of dy's channels x (u, v, c) per block, pixels in steps
// of 16 (float32) or 32 (halves).
//
// In both pictures channels lie side by side, so that k is not what runs along memory, as fragments
// want it.  Halves are turned by ldmatrix.trans; for float32 there is no such instruction, but a
// fragment's numbers can be read singly.  Both go without bank conflicts if a row in shared memory
// is eight numbers longer than the tile.
#pragma once
#include "grad_weight_gemm.h"
#include "implicit_gemm.cuh"

namespace fastconv::cuda {

// A pixel of dy as the window of x that it saw, moved on by whole steps without divisions.
struct Walk {
  Window at;

  FASTCONV_MEMBER void advance(const ImplicitGemm& p, int by) {
    at.x += by * p.step_w;
    const int width = p.dst_w * p.step_w, height = p.dst_h * p.step_h;
    while (at.x >= p.offset_w + width) {
      at.x -= width;
      at.y += p.step_h;
      if (at.y < p.offset_h + height) continue;
      at.y -= height;
      at.image += p.src_image;
    }
  }
};

// How a thread's copies lie in a step of COUNT numbers (channels, say) of each pixel.
template <class T, Reads READS, class Tile, int COUNT>
struct Share {
  static constexpr int pixels = k_step_bytes / static_cast<int>(sizeof(T));
  static constexpr int bytes = READS == Reads::vectors ? 16 : 4, elements = bytes / static_cast<int>(sizeof(T));
  static constexpr int per_pixel = COUNT / elements, apart = Tile::threads / per_pixel, count = pixels / apart;
  static constexpr int pitch = (COUNT + 8) * static_cast<int>(sizeof(T));  // bytes from pixel to pixel
  static constexpr int step_bytes = pixels * pitch;

  static FASTCONV_MEMBER int element() { return thread() % per_pixel * elements; }
  static FASTCONV_MEMBER int pixel(int i) { return thread() / per_pixel + i * apart; }
  static FASTCONV_MEMBER unsigned char* place(unsigned char* step, int i) {
    return step + pixel(i) * pitch + element() * static_cast<int>(sizeof(T));
  }
};

// Copies the elements at `first`, or zeros if that is negative; with halves and single words,
// `second` says where the second one is.
template <class T, Reads READS>
FASTCONV_DEVICE void fetch_word(unsigned char* to, const T* from, int64_t first, int64_t second) {
  if constexpr (READS == Reads::words && sizeof(T) == 2)
    *reinterpret_cast<uint32_t*>(to) =
        (first < 0 ? 0u : from[first].bits) | (second < 0 ? 0u : uint32_t{from[second].bits}) << 16;
  else
    cp_async<READS == Reads::vectors ? 16 : 4>(to, from + (first < 0 ? 0 : first), first >= 0);
}

template <class T, Reads READS, class Tile>
struct OutputLoader {
  using Mine = Share<T, READS, Tile, Tile::rows>;
  int64_t first;  // the element of the first pixel
  int row, pixel, end;

  FASTCONV_MEMBER void begin(const GradWeightGemm& p, int tile_row, int group, int begin_pixel, int end_pixel) {
    row = tile_row + Mine::element();
    pixel = begin_pixel;
    end = end_pixel;
    first = int64_t{group} * p.rows + row;
  }

  FASTCONV_MEMBER void fetch(const GradWeightGemm& p, unsigned char* step) {
    FASTCONV_UNROLL
    for (int i = 0; i < Mine::count; ++i) {
      const int at = pixel + Mine::pixel(i);
      const int64_t from = at < end && row < p.rows ? first + int64_t{at} * p.dy_channels : -1;
      fetch_word<T, READS>(Mine::place(step, i), static_cast<const T*>(p.dy), from,
                           row + 1 < p.rows && from >= 0 ? from + 1 : -1);
    }
    pixel += Mine::pixels;
  }
};

template <class T, Reads READS, class Tile>
struct InputLoader {
  using Mine = Share<T, READS, Tile, Tile::columns>;
  Walk walks[Mine::count];
  Tap tap, next;
  bool tap_counts, next_counts;
  int pixel, end;

  FASTCONV_MEMBER void begin(const ImplicitGemm& p, int tile_column, int group, int begin_pixel, int end_pixel) {
    const int column = tile_column + Mine::element();
    tap = tap_at(p, column);
    next = tap_at(p, column + 1);
    tap_counts = column < p.k;
    next_counts = column + 1 < p.k;
    pixel = begin_pixel;
    end = end_pixel;
    FASTCONV_UNROLL
    for (int i = 0; i < Mine::count; ++i) walks[i].at = window_at(p, begin_pixel + Mine::pixel(i), group);
  }

  FASTCONV_MEMBER void fetch(const ImplicitGemm& p, unsigned char* step) {
    FASTCONV_UNROLL
    for (int i = 0; i < Mine::count; ++i) {
      const bool inside = pixel + Mine::pixel(i) < end;
      const int64_t first = element_under(p, walks[i].at, tap, inside && tap_counts);
      int64_t second = -1;
      if constexpr (READS == Reads::words && sizeof(T) == 2)
        second = element_under(p, walks[i].at, next, inside && next_counts);
      fetch_word<T, READS>(Mine::place(step, i), static_cast<const T*>(p.src), first, second);
      walks[i].advance(p, Mine::pixels);
    }
    pixel += Mine::pixels;
  }
};

// Fragments of 16 rows (N = 4) or of a pair of 8 columns (N = 2), from a step whose pixels are
// `pitch` bytes apart; `first` is the number of the first row or column, `k` of the first pixel.
template <class T>
FASTCONV_DEVICE void read_rows(uint32_t (&raw)[4], const unsigned char* step, int pitch, int first, int k) {
  const int lane = thread() % 32;
  if constexpr (sizeof(T) == 2) {
    const int pixel = k + lane / 16 * 8 + lane % 8, row = first + lane / 8 % 2 * 8;
    ldmatrix_x4_trans(raw, step + pixel * pitch + row * 2);
  } else {
    FASTCONV_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int pixel = k + lane % 4 + i / 2 * 4, row = first + lane / 4 + i % 2 * 8;
      raw[i] = *reinterpret_cast<const uint32_t*>(step + pixel * pitch + row * 4);
    }
  }
}

template <class T>
FASTCONV_DEVICE void read_columns(uint32_t (&raw)[4], const unsigned char* step, int pitch, int first, int k) {
  const int lane = thread() % 32;
  if constexpr (sizeof(T) == 2) {
    const int pixel = k + lane / 8 % 2 * 8 + lane % 8, column = first + lane / 16 * 8;
    ldmatrix_x4_trans(raw, step + pixel * pitch + column * 2);
  } else {
    FASTCONV_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int pixel = k + lane % 4 + i % 2 * 4, column = first + lane / 4 + i / 2 * 8;
      raw[i] = *reinterpret_cast<const uint32_t*>(step + pixel * pitch + column * 4);
    }
  }
}

template <class Kind, class Tile>
FASTCONV_DEVICE void multiply_pixels(float (&c)[Tile::row_fragments][Tile::column_fragments][4],
                                     const unsigned char* rows, int row_pitch, const unsigned char* columns,
                                     int column_pitch) {
  using T = typename Kind::Element;
  constexpr int depth = 32 / static_cast<int>(sizeof(T)), pieces = Kind::pieces;  // pixels of a piece
  const int warp = thread() / 32;
  const int first_row = warp / Tile::warps_across * Tile::warp_rows;
  const int first_column = warp % Tile::warps_across * Tile::warp_columns;
  FASTCONV_UNROLL
  for (int piece = 0; piece < k_step_bytes / 32; piece += pieces) {
    typename Kind::B b[Tile::column_fragments];
    FASTCONV_UNROLL
    for (int j = 0; j < Tile::column_fragments; j += 2) {
      uint32_t raw[2][pieces][2];
      FASTCONV_UNROLL
      for (int s = 0; s < pieces; ++s) {
        uint32_t four[4];
        read_columns<T>(four, columns, column_pitch, first_column + j * 8, (piece + s) * depth);
        raw[0][s][0] = four[0], raw[0][s][1] = four[1], raw[1][s][0] = four[2], raw[1][s][1] = four[3];
      }
      Kind::prepare(b[j], raw[0]);
      Kind::prepare(b[j + 1], raw[1]);
    }
    FASTCONV_UNROLL
    for (int i = 0; i < Tile::row_fragments; ++i) {
      uint32_t raw[pieces][4];
      FASTCONV_UNROLL
      for (int s = 0; s < pieces; ++s) read_rows<T>(raw[s], rows, row_pitch, first_row + i * 16, (piece + s) * depth);
      typename Kind::A a;
      Kind::prepare(a, raw);
      FASTCONV_UNROLL
      for (int j = 0; j < Tile::column_fragments; ++j) Kind::add(c[i][j], a, b[j]);
    }
  }
}

template <class Tile>
FASTCONV_DEVICE void store_partial(const GradWeightGemm& p,
                                   const float (&c)[Tile::row_fragments][Tile::column_fragments][4], int tile_row,
                                   int tile_column, int group, int split) {
  const int lane = thread() % 32, warp = thread() / 32;
  const int first_row = tile_row + warp / Tile::warps_across * Tile::warp_rows + lane / 4;
  const int first_column = tile_column + warp % Tile::warps_across * Tile::warp_columns + lane % 4 * 2;
  float* to = p.partial + (int64_t{split} * blocks_in_grid().y + group) * p.rows * p.x.k;
  FASTCONV_UNROLL
  for (int i = 0; i < Tile::row_fragments; ++i)
    FASTCONV_UNROLL
  for (int j = 0; j < Tile::column_fragments; ++j)
    FASTCONV_UNROLL
  for (int e = 0; e < 4; ++e) {
    const int row = first_row + i * 16 + e / 2 * 8, column = first_column + j * 8 + e % 2;
    if (row < p.rows && column < p.x.k) to[int64_t{row} * p.x.k + column] = c[i][j][e];
  }
}

template <class Kind, class Tile, Reads READS>
FASTCONV_KERNEL(Tile::threads, Kind::blocks) grad_weight_kernel(GradWeightGemm p) {
  using T = typename Kind::Element;
  using Rows = OutputLoader<T, READS, Tile>;
  using Columns = InputLoader<T, READS, Tile>;
  constexpr int rows_bytes = Rows::Mine::step_bytes, stage_bytes = rows_bytes + Columns::Mine::step_bytes;
  unsigned char* stages = static_cast<unsigned char*>(shared_memory());
  const int tile_column = static_cast<int>(block().x) % p.column_tiles * Tile::columns;
  const int tile_row = static_cast<int>(block().x) / p.column_tiles % p.row_tiles * Tile::rows;
  const int split = static_cast<int>(block().x) / p.column_tiles / p.row_tiles, group = static_cast<int>(block().y);
  const int begin = split * p.pixels_per_split;
  const int left = p.pixels - begin, end = begin + (left < p.pixels_per_split ? left : p.pixels_per_split);
  const int steps = (end - begin + Rows::Mine::pixels - 1) / Rows::Mine::pixels;
  Rows rows;
  Columns columns;
  rows.begin(p, tile_row, group, begin, end);
  columns.begin(p.x, tile_column, group, begin, end);
  const auto fetch = [&](int step) {
    unsigned char* stage = stages + step % Tile::stages * stage_bytes;
    if (step < steps) {
      rows.fetch(p, stage);
      columns.fetch(p.x, stage + rows_bytes);
    }
    cp_async_commit();
  };

  float c[Tile::row_fragments][Tile::column_fragments][4] = {};
  for (int step = 0; step < Tile::stages - 1; ++step) fetch(step);
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<Tile::stages - 2>();
    sync();
    fetch(step + Tile::stages - 1);
    const unsigned char* stage = stages + step % Tile::stages * stage_bytes;
    multiply_pixels<Kind, Tile>(c, stage, Rows::Mine::pitch, stage + rows_bytes, Columns::Mine::pitch);
  }
  store_partial<Tile>(p, c, tile_row, tile_column, group, split);
}

template <class Kind, class Tile, Reads READS>
GradWeightKernel grad_weight_entry() {
  return {Tile::rows, Tile::columns, [](const GradWeightGemm& p, unsigned blocks, unsigned groups, void* stream) {
            using T = typename Kind::Element;
            constexpr int bytes = OutputLoader<T, READS, Tile>::Mine::step_bytes + InputLoader<T, READS, Tile>::Mine::step_bytes;
            return launch(grad_weight_kernel<Kind, Tile, READS>, {blocks, groups, 1}, Tile::threads,
                          size_t{Tile::stages} * bytes, stream, p);
          }};
}

template <class Kind>
GradWeightKernel grad_weight_of_kind(Reads reads, bool large) {
  if (reads == Reads::words) return grad_weight_entry<Kind, SmallTile, Reads::words>();
  return large ? grad_weight_entry<Kind, LargeTile, Reads::vectors>()
               : grad_weight_entry<Kind, SmallTile, Reads::vectors>();
}

}  // namespace fastconv::cuda
