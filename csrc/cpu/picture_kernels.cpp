// Between pictures and strips: layouts, padding and clipping are dealt with here and nowhere else.
//
//   gather   strip[i][j][c] = picture[n, 16 block + c, y + i, x + j],  0 outside the picture
//   scatter  picture[n, 16 block + c, y + i, x + j] = strip[i][j][c],  nothing outside
//
// A strip stays in the first-level cache, so that the detour costs one store and one load per
// vector, which the multiplications hide; in return every transform exists once.
#include "kernels.h"
#include "lanes.h"
#include "picture.h"

namespace fastconv::FASTCONV_ISA {
namespace {

void zero(float* to, int64_t columns) {
  for (int64_t i = 0; i < columns * block_width; i += L) store(to + i, V{});
}

// L pixels of `channels` planes, as L pixels of 16 channels.  Each line comes from another plane,
// which no hardware prefetcher follows: `ahead` tells where the next ones will be read (worth 5 %
// of F(4x4) with 64 channels.  Copying 16 lines side by side before transposing them lost 8 %).
template <bool Full>
inline void planes_to_pixels(const float* from, int64_t plane, int64_t channels, int64_t ahead,
                             float* to) {
  for (int64_t c = 0; c < block_width; c += L) {
    V lines[L];
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) {
      const float* line = from + (c + i) * plane;
      lines[i] = Full || c + i < channels ? load(line) : V{};
      if constexpr (Full) prefetch(line + ahead);
    }
    transpose(lines);
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) store(to + i * block_width + c, lines[i]);
  }
}

void gather_planar_row(const Picture& p, const float* from, int64_t channels, int64_t ahead,
                       int64_t first, int64_t last, float* to) {
  if (p.width < L) {
    for (int64_t x = first; x < last; ++x)
      for (int64_t c = 0; c < block_width; ++c)
        to[x * block_width + c] = c < channels ? from[c * p.plane + x] : 0.f;
    return;
  }
  // The last group is moved back to end at `last`: it repeats some columns, or fills slack.
  for (int64_t x = first; x < last; x += L) {
    const int64_t at = smaller(x, larger(last - L, 0));
    if (channels == block_width)
      planes_to_pixels<true>(from + at, p.plane, channels, ahead, to + at * block_width);
    else
      planes_to_pixels<false>(from + at, p.plane, channels, ahead, to + at * block_width);
  }
}

void gather_adjacent_row(const Picture& p, const float* from, int64_t channels, int64_t first,
                         int64_t last, float* to) {
  for (int64_t x = first; x < last; ++x) {
    const float* pixel = from + x * p.pixel;
    float* out = to + x * block_width;
    if (channels == block_width)
      for (int64_t c = 0; c < block_width; c += L) store(out + c, load(pixel + c));
    else
      for (int64_t c = 0; c < block_width; ++c) out[c] = c < channels ? pixel[c] : 0.f;
  }
}

void gather(const Picture& p, const Window& window, float* strip) {
  const int64_t first = larger(window.x, 0), last = smaller(window.x + window.columns, p.width);
  const int64_t channels = smaller(block_width, p.channels - window.block * block_width);
  const float* from = p.data + window.n * p.image + window.block * p.block;
  // The same window of the next block comes next; after the last, the next chunk of tiles.
  const int64_t ahead = (window.block + 2) * block_width <= p.channels ? p.block : 128;
  for (int64_t i = 0; i < window.rows; ++i) {
    const int64_t y = window.y + i;
    float* row = strip + i * Strip::row + Strip::slack * block_width;
    if (y < 0 || y >= p.height || first >= last) {
      zero(row, window.columns);
      continue;
    }
    float* origin = row - window.x * block_width;  // where the picture's column 0 would be
    if (p.planar)
      gather_planar_row(p, from + y * p.row, channels, ahead, first, last, origin);
    else
      gather_adjacent_row(p, from + y * p.row, channels, first, last, origin);
    zero(row, first - window.x);
    zero(origin + last * block_width, window.x + window.columns - last);
  }
}

template <bool Streamed>
inline void put(float* to, V v) {
  if constexpr (Streamed)
    stream(to, v);
  else
    store(to, v);
}

template <bool Streamed>
inline void pixels_to_planes(const float* from, int64_t plane, int64_t channels, float* to) {
  for (int64_t c = 0; c < block_width; c += L) {
    V lines[L];
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) lines[i] = load(from + i * block_width + c);
    transpose(lines);
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i)
      if (c + i < channels) put<Streamed>(to + (c + i) * plane, lines[i]);
  }
}

template <bool Streamed>
void scatter_planar_row(const Picture& p, const float* from, int64_t channels, int64_t columns,
                        float* to) {
  int64_t x = 0;
  for (; x + L <= columns; x += L)
    pixels_to_planes<Streamed>(from + x * block_width, p.plane, channels, to + x);
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t rest = x; rest < columns; ++rest)
      to[c * p.plane + rest] = from[rest * block_width + c];
}

template <bool Streamed>
void scatter_adjacent_row(const Picture& p, const float* from, int64_t channels, int64_t columns,
                          float* to) {
  for (int64_t x = 0; x < columns; ++x)
    if (channels == block_width)
      for (int64_t c = 0; c < block_width; c += L)
        put<Streamed>(to + x * p.pixel + c, load(from + x * block_width + c));
    else
      for (int64_t c = 0; c < channels; ++c) to[x * p.pixel + c] = from[x * block_width + c];
}

template <bool Streamed>
void scatter_rows(const Picture& p, const Window& window, const float* strip) {
  const int64_t columns = smaller(window.columns, p.width - window.x);
  const int64_t rows = smaller(window.rows, p.height - window.y);
  const int64_t channels = smaller(block_width, p.channels - window.block * block_width);
  float* to = p.data + window.n * p.image + window.block * p.block + window.y * p.row +
              window.x * p.pixel;
  for (int64_t i = 0; i < rows; ++i, to += p.row) {
    const float* from = strip + i * Strip::row + Strip::slack * block_width;
    if (p.planar)
      scatter_planar_row<Streamed>(p, from, channels, columns, to);
    else
      scatter_adjacent_row<Streamed>(p, from, channels, columns, to);
  }
}

// `streamed` asks for stores around the caches; it is granted where addresses are aligned.
void scatter(const Picture& p, const Window& window, const float* strip, bool streamed) {
  const bool even = p.planar ? p.row % L == 0 && p.plane % L == 0 && window.x % L == 0
                             : p.pixel % L == 0;
  if (streamed && even && aligned(p.data)) {
    scatter_rows<true>(p, window, strip);
  } else {
    scatter_rows<false>(p, window, strip);
  }
}

}  // namespace

extern const PictureKernels picture_kernels;
const PictureKernels picture_kernels = {gather, scatter};

}  // namespace fastconv::FASTCONV_ISA
