// The kernel of implicit_gemm.h: a tile of pixels x channels per block, k in steps of 64 bytes.
//
//            k: 64 bytes                 Four steps are under way at a time (cp.async).  In shared
//          +---+---+---+---+             memory a row of a step is four chunks of 16 bytes, and
//   row 0  | 0 | 1 | 2 | 3 |             chunk j of row r lies at j ^ (r / 2) % 4: so the eight
//   row 1  | 0 | 1 | 2 | 3 |             rows that ldmatrix reads at once lie in different banks,
//   row 2  | 1 | 0 | 3 | 2 |             and so do those that cp.async writes.
//   ...
//
// A thread fetches the same chunk of every step, for a few rows: where a row's window lies it
// works out once, where its chunk lies in (u, v, c) it moves on from step to step.
#pragma once
#include "implicit_gemm.h"
#include "mma_kinds.cuh"
#include "stores.cuh"
#include "windows.cuh"

namespace fastconv::cuda {

// WARP_ROWS x WARP_COLUMNS of the tile belong to one warp.
template <int ROWS, int COLUMNS, int WARP_ROWS, int WARP_COLUMNS>
struct Tile {
  static constexpr int rows = ROWS, columns = COLUMNS, warp_rows = WARP_ROWS, warp_columns = WARP_COLUMNS;
  static constexpr int warps_down = ROWS / WARP_ROWS, warps_across = COLUMNS / WARP_COLUMNS;
  static constexpr int threads = 32 * warps_down * warps_across;
  static constexpr int stages = 4;
  static constexpr int row_fragments = WARP_ROWS / 16, column_fragments = WARP_COLUMNS / 8;
  static constexpr int stage_bytes = (ROWS + COLUMNS) * k_step_bytes;
};
using LargeTile = Tile<128, 128, 64, 32>;  // 256 threads
using SmallTile = Tile<64, 64, 32, 32>;    // 128

FASTCONV_DEVICE int chunk_offset(int row, int chunk) { return row * k_step_bytes + (chunk ^ (row >> 1 & 3)) * 16; }

// What one thread fetches of src in every step.
template <class T, Reads READS, class Tile>
struct SourceLoader {
  static constexpr int bytes = READS == Reads::vectors ? 16 : 4;
  static constexpr int per_row = k_step_bytes / bytes, elements = bytes / static_cast<int>(sizeof(T));
  static constexpr int rows_apart = Tile::threads / per_row, count = Tile::rows / rows_apart;
  Window windows[count];
  Tap tap;
  int k, first_row, part;

  FASTCONV_MEMBER void begin(const ImplicitGemm& p, int tile_row, int group) {
    part = thread() % per_row;
    first_row = thread() / per_row;
    k = part * elements;
    tap = tap_at(p, k);
    FASTCONV_UNROLL
    for (int i = 0; i < count; ++i) windows[i] = window_at(p, tile_row + first_row + i * rows_apart, group);
  }

  FASTCONV_MEMBER void fetch(const ImplicitGemm& p, unsigned char* stage) {
    const T* src = static_cast<const T*>(p.src);
    FASTCONV_UNROLL
    for (int i = 0; i < count; ++i) {
      const int byte = part * bytes;
      unsigned char* to = stage + chunk_offset(first_row + i * rows_apart, byte / 16) + byte % 16;
      const int64_t from = element_under(p, windows[i], tap, k < p.k);
      if constexpr (elements > 1 && READS == Reads::words)
        fetch_two(p, to, windows[i], from);
      else
        cp_async<bytes>(to, src + (from < 0 ? 0 : from), from >= 0);
    }
    k += k_step_bytes / static_cast<int>(sizeof(T));
    advance(tap, p, k_step_bytes / static_cast<int>(sizeof(T)));
  }

  // Two halves, of two taps perhaps: cp.async copies no less than four bytes, so these are ordinary
  // loads.
  FASTCONV_MEMBER void fetch_two(const ImplicitGemm& p, unsigned char* to, const Window& window, int64_t from) {
    const T* src = static_cast<const T*>(p.src);
    Tap next = tap;
    advance(next, p, 1);
    const int64_t second = element_under(p, window, next, k + 1 < p.k);
    const T pair[2] = {from < 0 ? T{} : src[from], second < 0 ? T{} : src[second]};
    *reinterpret_cast<uint32_t*>(to) = pair[0].bits | uint32_t{pair[1].bits} << 16;
  }
};

// What one thread fetches of the packed weights.
template <class T, class Tile>
struct WeightLoader {
  static constexpr int rows_apart = Tile::threads / 4, count = Tile::columns / rows_apart;
  const unsigned char* from;
  int first, columns_left;
  int64_t column_bytes;

  FASTCONV_MEMBER void begin(const ImplicitGemm& p, int tile_column, int group) {
    column_bytes = int64_t{p.k_packed} * static_cast<int>(sizeof(T));
    first = thread() / 4;
    columns_left = p.columns - tile_column - first;
    from = static_cast<const unsigned char*>(p.weight) + thread() % 4 * 16 +
           (int64_t{group} * p.columns + tile_column + first) * column_bytes;
  }

  FASTCONV_MEMBER void fetch(unsigned char* stage) {
    FASTCONV_UNROLL
    for (int i = 0; i < count; ++i) {
      const bool valid = i * rows_apart < columns_left;
      cp_async16(stage + chunk_offset(first + i * rows_apart, thread() % 4),
                 valid ? from + i * rows_apart * column_bytes : from, valid);
    }
    from += k_step_bytes;
  }
};

// Multiplies the step that lies at (a, b) into the accumulators of this warp.
template <class Kind, class Tile>
FASTCONV_DEVICE void multiply_step(float (&c)[Tile::row_fragments][Tile::column_fragments][4], const unsigned char* a,
                                   const unsigned char* b) {
  constexpr int pieces = Kind::pieces;
  const int lane = thread() % 32, warp = thread() / 32;
  const int a_row = warp / Tile::warps_across * Tile::warp_rows + lane % 16, a_chunk = lane / 16;
  const int b_row = warp % Tile::warps_across * Tile::warp_columns + lane / 16 * 8 + lane % 8, b_chunk = lane / 8 % 2;
  FASTCONV_UNROLL
  for (int piece = 0; piece < k_step_bytes / 32; piece += pieces) {
    typename Kind::B columns[Tile::column_fragments];
    FASTCONV_UNROLL
    for (int j = 0; j < Tile::column_fragments; j += 2) {
      uint32_t raw[2][pieces][2];
      FASTCONV_UNROLL
      for (int i = 0; i < pieces; ++i) {
        uint32_t four[4];  // two pairs: columns j and j + 1
        ldmatrix_x4(four, b + chunk_offset(b_row + j * 8, (piece + i) * 2 + b_chunk));
        raw[0][i][0] = four[0], raw[0][i][1] = four[1], raw[1][i][0] = four[2], raw[1][i][1] = four[3];
      }
      Kind::prepare(columns[j], raw[0]);
      Kind::prepare(columns[j + 1], raw[1]);
    }
    FASTCONV_UNROLL
    for (int i = 0; i < Tile::row_fragments; ++i) {
      uint32_t raw[pieces][4];
      FASTCONV_UNROLL
      for (int s = 0; s < pieces; ++s) ldmatrix_x4(raw[s], a + chunk_offset(a_row + i * 16, (piece + s) * 2 + a_chunk));
      typename Kind::A row;
      Kind::prepare(row, raw);
      FASTCONV_UNROLL
      for (int j = 0; j < Tile::column_fragments; ++j) Kind::add(c[i][j], row, columns[j]);
    }
  }
}

template <class T, class Tile>
FASTCONV_DEVICE void store_tile(const ImplicitGemm& p, const float (&c)[Tile::row_fragments][Tile::column_fragments][4],
                                int tile_row, int tile_column, int group) {
  const Epilogue<T> epilogue{static_cast<const T*>(p.bias), static_cast<const T*>(p.added),
                             static_cast<const T*>(p.mask), p.relu};
  const int lane = thread() % 32, warp = thread() / 32;
  const int first_row = tile_row + warp / Tile::warps_across * Tile::warp_rows + lane / 4;
  const int first_column = tile_column + warp % Tile::warps_across * Tile::warp_columns + lane % 4 * 2;
  T* dst = static_cast<T*>(p.dst);
  FASTCONV_UNROLL
  for (int i = 0; i < Tile::row_fragments * 2; ++i) {
    const int row = first_row + i * 8;
    if (row >= p.rows) return;
    FASTCONV_UNROLL
    for (int j = 0; j < Tile::column_fragments; ++j) {
      const int column = first_column + j * 8;
      if (column >= p.columns) break;
      const int64_t channel = int64_t{group} * p.columns + column, place = int64_t{row} * p.dst_channels + channel;
      const float* two = &c[i / 2][j][i % 2 * 2];
      store_two(dst, epilogue, place, channel, column + 1 < p.columns, p.pairs, two[0], two[1]);
    }
  }
}

template <class Kind, class Tile, Reads READS>
FASTCONV_KERNEL(Tile::threads, Kind::blocks) implicit_gemm_kernel(ImplicitGemm p) {
  using T = typename Kind::Element;
  unsigned char* stages = static_cast<unsigned char*>(shared_memory());
  // Neighbouring blocks share their pixels, which are read from the L2 cache then.
  const int tile_row = static_cast<int>(block().x / p.column_tiles) * Tile::rows;
  const int tile_column = static_cast<int>(block().x % p.column_tiles) * Tile::columns;
  const int group = static_cast<int>(block().y);
  SourceLoader<T, READS, Tile> source;
  WeightLoader<T, Tile> weight;
  source.begin(p, tile_row, group);
  weight.begin(p, tile_column, group);
  const int steps = p.k_packed * static_cast<int>(sizeof(T)) / k_step_bytes;
  const auto fetch = [&](int step) {
    unsigned char* stage = stages + step % Tile::stages * Tile::stage_bytes;
    if (step < steps) {
      source.fetch(p, stage);
      weight.fetch(stage + Tile::rows * k_step_bytes);
    }
    cp_async_commit();  // an empty group too, so that waiting counts alike at the end
  };

  float c[Tile::row_fragments][Tile::column_fragments][4] = {};
  for (int step = 0; step < Tile::stages - 1; ++step) fetch(step);
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<Tile::stages - 2>();
    sync();  // this step has come for all, and all are done with the one before: its place is free
    fetch(step + Tile::stages - 1);
    const unsigned char* stage = stages + step % Tile::stages * Tile::stage_bytes;
    multiply_step<Kind, Tile>(c, stage, stage + Tile::rows * k_step_bytes);
  }
  store_tile<T, Tile>(p, c, tile_row, tile_column, group);
}

template <class Kind, class Tile, Reads READS>
ImplicitGemmKernel implicit_gemm_entry() {
  return {Tile::rows, Tile::columns, [](const ImplicitGemm& p, unsigned tiles, unsigned groups, void* stream) {
            return launch(implicit_gemm_kernel<Kind, Tile, READS>, {tiles, groups, 1}, Tile::threads,
                          size_t{Tile::stages} * Tile::stage_bytes, stream, p);
          }};
}

template <class Kind>
ImplicitGemmKernel implicit_gemm_of_kind(Reads reads, bool large) {
  if (reads == Reads::words) return implicit_gemm_entry<Kind, SmallTile, Reads::words>();
  return large ? implicit_gemm_entry<Kind, LargeTile, Reads::vectors>()
               : implicit_gemm_entry<Kind, SmallTile, Reads::vectors>();
}

}  // namespace fastconv::cuda
