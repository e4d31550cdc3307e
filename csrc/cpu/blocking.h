// How loops are cut into blocks, and how a block of the picture lies in its copy.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "gather.h"

namespace fastconv {

inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// [0, size) cut into the fewest parts of at most `most`, as even as multiples of `grain` allow.
struct Split {
  Split(int64_t size, int64_t most, int64_t grain = 1)
      : size(size),
        part(round_up(ceil_div(size, ceil_div(size, std::max<int64_t>(most, 1))), grain)),
        count(ceil_div(size, part)) {}
  int64_t begin(int64_t index) const { return index * part; }
  int64_t length(int64_t index) const { return std::min(part, size - index * part); }
  int64_t size, part, count;
};

// Whether some of `count` destinations read the tap inside the source.
inline bool is_live(const AxisTap& tap, int64_t step, int64_t count, int64_t size) {
  const int64_t first = tap.offset >= 0 ? 0 : (step - 1 - tap.offset) / step;
  return first < count && first * step + tap.offset < size;
}

inline std::vector<AxisTap> live_taps(std::vector<AxisTap> taps, int64_t step, int64_t count,
                                      int64_t size) {
  const auto dead = [&](const AxisTap& tap) { return !is_live(tap, step, count, size); };
  taps.erase(std::remove_if(taps.begin(), taps.end(), dead), taps.end());
  return taps;
}

// Destinations [begin, end) of one axis that the same taps [first, last) reach inside the source.
// Offsets of taps must grow or fall along the axis, as all convolutions' do.
struct AxisRun {
  int64_t begin, end;
  size_t first, last;
};
std::vector<AxisRun> axis_runs(const std::vector<AxisTap>& taps, int64_t step, int64_t destinations,
                               int64_t size);

// [0, size) in parts of at most `most`, cut also where taps leave the picture, if what lies between
// is long enough to be a block: a dilation of 12 on 33 lines reads nothing for a quarter of them.
class Cuts {
 public:
  Cuts(const std::vector<AxisRun>& runs, int64_t most, int64_t grain = 1);
  int64_t begin(int64_t index) const { return starts_[index]; }
  int64_t length(int64_t index) const { return starts_[index + 1] - starts_[index]; }
  int64_t count() const { return static_cast<int64_t>(starts_.size()) - 1; }
  int64_t longest = 0;

 private:
  std::vector<int64_t> starts_;
};

// One piece of work: a block of destinations, and some of the channels there.
struct BlockOfChannels {
  int64_t image, group, i0, j0, rows, columns, m0, m_count;

  // Item number `item` of all, channels innermost.
  static BlockOfChannels at(int64_t item, const Cuts& rows, const Cuts& columns, const Split& channels,
                            int64_t groups) {
    BlockOfChannels b;
    b.m0 = channels.begin(item % channels.count), b.m_count = channels.length(item % channels.count);
    item /= channels.count;
    b.j0 = columns.begin(item % columns.count()), b.columns = columns.length(item % columns.count());
    item /= columns.count();
    b.i0 = rows.begin(item % rows.count()), b.rows = rows.length(item % rows.count());
    item /= rows.count();
    b.group = item % groups, b.image = item / groups;
    return b;
  }
};

// One axis of a block's copy: the source lines that its taps read, as bands.
//
//   element e of band b  =  source coordinate  origin[b] + step * (first + e)
//   tap t of destination line first + i  =  element i + taps[t].shift of band taps[t].band
//
// Taps whose offsets agree modulo the step share a band (stride 2 makes two bands, the even and
// the odd lines), so consecutive destinations are always consecutive elements.  Where the
// dilation is so large that shared bands would hold mostly unread lines, or a span of more than
// `most_span`, each tap has its own.
struct Bands {
  struct Tap {
    int64_t band, shift;
  };
  Bands(const std::vector<AxisTap>& taps, int64_t step, int64_t destinations,
        int64_t most_span = INT64_MAX);
  std::vector<int64_t> origin;
  std::vector<Tap> taps;
  int64_t step;
  int64_t span = 0;  // elements of a band beyond the number of destinations
  int64_t count() const { return static_cast<int64_t>(origin.size()); }
};

// The copy of a rows x columns block: sub-pictures [row band][column band], each
// (rows + span) x pitch elements (or pixels) with pitch = columns + span.
struct BlockCopy {
  BlockCopy(Bands vertical_bands, Bands horizontal_bands, int64_t rows, int64_t columns)
      : vertical(std::move(vertical_bands)),
        horizontal(std::move(horizontal_bands)),
        pitch(columns + horizontal.span),
        picture((rows + vertical.span) * pitch),
        area(vertical.count() * horizontal.count() * picture) {}
  template <class T>
  BlockCopy(const Gather<T>& g, int64_t rows, int64_t columns, int64_t most_span = INT64_MAX)
      : BlockCopy(Bands(g.row_taps, g.step_h, rows),
                  Bands(g.column_taps, g.step_w, columns, most_span), rows, columns) {}
  int64_t tap_at(size_t row_tap, size_t column_tap) const {
    const Bands::Tap u = vertical.taps[row_tap], v = horizontal.taps[column_tap];
    return (u.band * horizontal.count() + v.band) * picture + u.shift * pitch + v.shift;
  }
  Bands vertical, horizontal;
  int64_t pitch, picture, area;
};

// Of `pitch` line elements starting at source coordinate `from`, step `step`: those inside
// [0, size).
struct Inside {
  Inside(int64_t from, int64_t step, int64_t size, int64_t length)
      : begin(std::clamp<int64_t>(from >= 0 ? 0 : ceil_div(-from, step), 0, length)),
        end(std::clamp<int64_t>(from >= size ? 0 : ceil_div(size - from, step), begin, length)) {}
  int64_t begin, end;
};

// Copies a block's source pixels, `channels` of them from `from` on, to pixels of `pixel` elements
// in the order of BlockCopy; (i0, j0) is the block's first destination.
template <class T>
void copy_pixels(const BlockCopy& copy, const T* from, const Strides& strides, int64_t src_h,
                 int64_t src_w, int64_t i0, int64_t j0, int64_t rows, int64_t columns,
                 int64_t channels, T* to, int64_t pixel);

// The same for planes: each channel becomes one copy, `plane` elements apart.  Bands that lie outside
// the picture are zeros, unless nobody reads them.
template <class T>
void copy_planes(const BlockCopy& copy, const T* from, const Strides& strides, int64_t src_h,
                 int64_t src_w, int64_t i0, int64_t j0, int64_t rows, int64_t columns,
                 int64_t channels, T* to, int64_t plane, bool outside_too = true);

// How many bytes of copied picture one thread works on: with the weights' panel and the
// destination it should stay within its L2.
inline constexpr int64_t copy_bytes = 256 << 10;
// Weights are packed in pieces of at most this many bytes.
inline constexpr double packed_bytes = 32 << 20;
// Below this many multiplications one thread is as fast as two (a region costs 5-10 us).
inline constexpr double serial_products = 5e5;

// Whether one thread does it all.  Weights of 2 MB take longer to read than a region costs.
template <class T>
bool is_serial(const Gather<T>& g) {
  return g.products() < serial_products &&
         static_cast<double>(g.weight_end - g.weight) * sizeof(T) < (2 << 20);
}

// Whether one tap of a larger kernel is read where it lies, as in 3x3 over a single pixel: packed,
// it would be read and written first, to be used once.
template <class T>
bool is_used_once(const Gather<T>& g) {
  return g.rows * g.columns <= gemm<T>().lanes && g.weight_src < g.weight_dst;
}

// Below this many destinations of an image, packing weights costs as much as using them.
inline constexpr int64_t few_pixels = 128;

}  // namespace fastconv
