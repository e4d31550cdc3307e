// The general kernel: a block computes one square tile of C = A B, see simt_loads.cuh.
//
// 256 threads.  A tile's steps of `depth` k are double-buffered: while a step is multiplied out of
// shared memory, the next one is on its way from global memory to registers.
//
//   Large  128 x 128 x 8, 8 x 8 sums a thread: 4 numbers read from shared memory per 16 products
//   Small   64 x 64 x 16, 4 x 4 sums a thread: for few rows or columns, and for float64
//
// Where the reduction is split, blocks leave partial sums [split][group][m][n], and a second kernel
// adds them up in order.  The same way serves a long reduction in one block: every `chunk` products
// it adds its sums to its partial sums, because the rounding of one float32 sum grows with its length.
#pragma once
#include "epilogue.h"
#include "simt_loads.cuh"

namespace fastconv::cuda {

template <int Side, int Depth>
struct TileOf {
  static constexpr int side = Side, depth = Depth;
  static constexpr int pitch = Side + 4;  // so that columns start in different banks
  static constexpr int threads = 256;
  static constexpr int mine = Side / 16;  // rows and columns of a thread
  static constexpr int quads = mine / 4;  // in groups of four, Side / quads apart
  static_assert(Side * Depth == 4 * threads, "each thread loads four numbers of A and of B a step");
};
using Large = TileOf<128, 8>;
using Small = TileOf<64, 16>;

constexpr int64_t chunk = 4096;  // products in one float32 sum

// Sizes of the product and how it is cut.
struct Cut {
  int64_t rows, reduction;
  int columns, groups;
  int64_t row_tiles;
  int column_tiles, splits;
  int64_t per_split;  // k of one split, a multiple of the depth

  FASTCONV_BOTH bool partial() const { return splits > 1 || reduction > chunk; }
  FASTCONV_BOTH int64_t sums() const { return rows * columns * groups; }
};

// Where C[m, n] of a group lies in the result.
struct PicturePlace {  // m a pixel, n a channel
  int64_t per_image, per_channel, per_row, per_column;
  int height, width;
};
struct WeightPlace {  // m an output channel, n tap and input channel; OIHW
  int channels, taps;
};

// The two kinds of product; all that the kernel knows of the operations.  `blocks` of Large tiles share
// a multiprocessor.  Two leave 128 registers a thread: the first kind then keeps 3 numbers of its loop
// in local memory, the second kind 6, used 37 times, so that it takes 220 registers for itself instead.
template <class T>
struct PictureByWeights {
  using Number = T;
  static constexpr int blocks = 2;
  Cut cut;
  Around<T> a;
  Weights<T> b;
  PicturePlace place;
  Epilogue<T> epilogue;
  Sum<T>* space;
  T* out;
};
template <class T>
struct PictureByPicture {
  using Number = T;
  static constexpr int blocks = 1;
  Cut cut;
  Pixels<T> a;
  Around<T> b;
  WeightPlace place;
  Sum<T>* space;
  T* out;
};

// Where row m of C begins in the result, and C[m, n] stored from there.
template <class T>
FASTCONV_DEVICE int64_t row_place(const PictureByWeights<T>& p, int group, int64_t m) {
  const PicturePlace& to = p.place;
  const Position at = position_at(m, to.height, to.width);
  return at.image * to.per_image + at.i * to.per_row + at.j * to.per_column +
         static_cast<int64_t>(group) * p.cut.columns * to.per_channel;
}
template <class T, class S>
FASTCONV_DEVICE void finish(const PictureByWeights<T>& p, int group, int64_t row, int n, S sum) {
  const int64_t place = row + n * p.place.per_channel;
  p.out[place] = rounded<T>(finished(sum, p.epilogue, static_cast<int64_t>(group) * p.cut.columns + n, place));
}

template <class T>
FASTCONV_DEVICE int64_t row_place(const PictureByPicture<T>& p, int group, int64_t m) {
  return (group * p.cut.rows + m) * p.cut.columns;
}
template <class T, class S>
FASTCONV_DEVICE void finish(const PictureByPicture<T>& p, int, int64_t row, int n, S sum) {
  const WeightPlace& to = p.place;
  p.out[row + n % to.channels * to.taps + n / to.channels] = rounded<T>(sum);
}

// Whether neighbouring columns of C are stored side by side, rather than neighbouring rows.
template <class T>
FASTCONV_DEVICE bool stored_by_columns(const PictureByWeights<T>& p) {
  return p.cut.partial() || p.place.per_channel == 1;
}
template <class T>
FASTCONV_DEVICE bool stored_by_columns(const PictureByPicture<T>&) {
  return true;
}

// Both operands of one block, between global and shared memory.
template <class Product, class Tile>
struct Loads;

template <class T, class Tile>
struct Loads<PictureByWeights<T>, Tile> {
  PixelLoads<T, Tile> a;
  WeightLoads<T, Tile> b;
  FASTCONV_MEMBER void start(const PictureByWeights<T>& p, int group, int64_t m, int64_t n, int64_t k) {
    a.start(p.a, group, m, p.cut.rows, k);
    b.start(p.b, group, n, k);
  }
  FASTCONV_MEMBER void fetch(const PictureByWeights<T>& p) {
    a.fetch(p.a);
    b.fetch(p.b);
  }
};

template <class T, class Tile>
struct Loads<PictureByPicture<T>, Tile> {
  ChannelLoads<T, Tile> a;
  TapLoads<T, Tile> b;
  FASTCONV_MEMBER void start(const PictureByPicture<T>& p, int group, int64_t m, int64_t n, int64_t k) {
    a.start(p.a, group, m, k);
    b.start(p.b, group, n, k);
  }
  FASTCONV_MEMBER void fetch(const PictureByPicture<T>& p) {
    a.fetch(p.a);
    b.fetch(p.b, p.cut.reduction);
  }
};

// The thread's rows or columns of the tile: quads of four, side / quads apart.
template <class Tile>
FASTCONV_DEVICE int mine_at(int lane, int e) {
  return e / 4 * (Tile::side / Tile::quads) + lane * 4 + e % 4;
}

template <class Tile, class S>
FASTCONV_DEVICE void multiply_step(S (&sums)[Tile::mine][Tile::mine], const S* a, const S* b, int lane_m, int lane_n) {
  FASTCONV_UNROLL
  for (int k = 0; k < Tile::depth; ++k) {
    S left[Tile::mine], right[Tile::mine];
    FASTCONV_UNROLL
    for (int q = 0; q < Tile::quads; ++q) {
      const Four<S> m = *reinterpret_cast<const Four<S>*>(a + k * Tile::pitch + mine_at<Tile>(lane_m, 4 * q));
      const Four<S> n = *reinterpret_cast<const Four<S>*>(b + k * Tile::pitch + mine_at<Tile>(lane_n, 4 * q));
      FASTCONV_UNROLL
      for (int e = 0; e < 4; ++e) {
        left[4 * q + e] = m.at[e];
        right[4 * q + e] = n.at[e];
      }
    }
    FASTCONV_UNROLL
    for (int i = 0; i < Tile::mine; ++i)
      FASTCONV_UNROLL
      for (int j = 0; j < Tile::mine; ++j) sums[i][j] += left[i] * right[j];
  }
}

// sums = the tile's sums over k from `first` to `end`.
template <class Tile, class Product, class S>
FASTCONV_DEVICE void multiply(const Product& p, S (&sums)[Tile::mine][Tile::mine], S* tiles, int group, int64_t m,
                              int64_t n, int64_t first, int64_t end, int lane_m, int lane_n) {
  constexpr int numbers = Tile::depth * Tile::pitch;
  FASTCONV_UNROLL
  for (int i = 0; i < Tile::mine; ++i)
    FASTCONV_UNROLL
    for (int j = 0; j < Tile::mine; ++j) sums[i][j] = 0;
  Loads<Product, Tile> loads;
  loads.start(p, group, m, n, first);
  loads.fetch(p);
  S* now = tiles;
  S* next = tiles + 2 * numbers;
  for (int64_t k = first; k < end; k += Tile::depth) {
    loads.a.put(now);
    loads.b.put(now + numbers);
    sync();
    if (k + Tile::depth < end) loads.fetch(p);
    multiply_step<Tile>(sums, now, now + numbers, lane_m, lane_n);
    S* const free = now;
    now = next;
    next = free;
  }
  // The next chunk begins with the tiles that this one's last step but one has read, before a barrier.
  static_assert(chunk / Tile::depth % 2 == 0);
}

template <class Tile, class Product, class S>
FASTCONV_DEVICE void store(const Product& p, const S (&sums)[Tile::mine][Tile::mine], int split, int group, int64_t m,
                           int64_t n, bool first, int lane_m, int lane_n) {
  const bool partial = p.cut.partial();
  FASTCONV_UNROLL
  for (int i = 0; i < Tile::mine; ++i) {
    const int64_t row = m + mine_at<Tile>(lane_m, i);
    if (row >= p.cut.rows) break;
    const int64_t matrix = static_cast<int64_t>(split) * p.cut.groups + group;
    const int64_t begin = partial ? (matrix * p.cut.rows + row) * p.cut.columns : row_place(p, group, row);
    FASTCONV_UNROLL
    for (int j = 0; j < Tile::mine; ++j) {
      const int64_t column = n + mine_at<Tile>(lane_n, j);
      if (column >= p.cut.columns) break;
      if (partial) {
        S& to = p.space[begin + column];
        to = first ? sums[i][j] : to + sums[i][j];
      } else {
        finish(p, group, begin, static_cast<int>(column), sums[i][j]);
      }
    }
  }
}

template <class Tile, class Product>
FASTCONV_KERNEL(Tile::threads, Tile::side == Large::side ? Product::blocks : 2) simt_product(Product p) {
  using S = Sum<typename Product::Number>;
  const Cut& cut = p.cut;
  // Neighbouring blocks share rows of A, which are the larger part of what is read.
  int64_t at = block().x;
  const int64_t n = at % cut.column_tiles * Tile::side;
  at /= cut.column_tiles;
  const int64_t m = at % cut.row_tiles * Tile::side;
  at /= cut.row_tiles;
  const int group = static_cast<int>(at % cut.groups), split = static_cast<int>(at / cut.groups);
  // Lanes next to each other store next to each other: channels of a pixel, or pixels.
  const bool by_columns = stored_by_columns(p);
  const int lane_m = by_columns ? thread() / 16 : thread() % 16;
  const int lane_n = by_columns ? thread() % 16 : thread() / 16;
  const int64_t begin = split * cut.per_split;
  const int64_t end = begin + cut.per_split < cut.reduction ? begin + cut.per_split : cut.reduction;
  S sums[Tile::mine][Tile::mine];
  for (int64_t first = begin; first < end; first += chunk) {
    const int64_t last = first + chunk < end ? first + chunk : end;
    multiply<Tile>(p, sums, static_cast<S*>(shared_memory()), group, m, n, first, last, lane_m, lane_n);
    store<Tile>(p, sums, split, group, m, n, first == begin, lane_m, lane_n);
  }
}

// The partial sums added up, in the order of the splits; one thread for each C[m, n].
template <class Product>
FASTCONV_KERNEL(256) simt_sum_splits(Product p) {
  const int64_t place = static_cast<int64_t>(block().x) * threads_in_block() + thread();
  const int64_t sums = p.cut.sums();
  if (place >= sums) return;
  auto sum = p.space[place];
  for (int split = 1; split < p.cut.splits; ++split) sum += p.space[split * sums + place];
  const int64_t row = place / p.cut.columns;
  const int group = static_cast<int>(row / p.cut.rows), column = static_cast<int>(place % p.cut.columns);
  finish(p, group, row_place(p, group, row % p.cut.rows), column, sum);
}

}  // namespace fastconv::cuda
