// How the general kernel reads its operands: four numbers a thread and step, into shared memory.
//
// All three operations are products C[m, n] = sum_k A[m, k] B[k, n], one for each group:
//
//                  m                    n               k
//   forward        pixel of y           channel of y    tap and channel of x
//   grad_input     pixel of x           channel of x    tap and channel of y
//   grad_weight    channel of y         tap and         pixel of y
//                                       channel of x
//
// k and n of "tap and channel" run over channels first: (u * kw + v) * channels + c.
//
//   PixelLoads     A of the first two: one pixel, four k side by side
//   WeightLoads    B of the first two: one k, four columns; weights arranged as [group][k][n]
//   ChannelLoads   A of grad_weight: one pixel of dy, four of its channels
//   TapLoads       B of grad_weight: one pixel, four taps and channels of x around it
#pragma once
#include "device.h"

namespace fastconv::cuda {

template <class T>
struct SumOf {
  using type = float;
};
template <>
struct SumOf<double> {
  using type = double;
};
template <class T>
using Sum = typename SumOf<T>::type;

template <class T>
struct alignas(4 * sizeof(T)) Four {
  T at[4];
};

// A picture read around positions of another.  At position (i, j) and tap (u, v) that is the pixel
//   ((i scale + offset + u step) / divide, the same for columns),
// and zero where the division leaves a rest or the pixel is outside.  forward: scale = stride,
// offset = -padding, step = dilation, divide = 1.  grad_input: 1, padding, -dilation, stride.
template <class T>
struct Around {
  const T* data;
  int64_t per_image, per_channel, per_row, per_column;  // elements between neighbours
  int channels;                                         // of one group
  int height, width;                                    // of the picture
  int positions_h, positions_w;                         // of the other one
  int taps_h, taps_w;
  int scale_h, scale_w, offset_h, offset_w, step_h, step_w, divide_h, divide_w;
  bool fours;    // four k side by side belong to one tap
  bool vectors;  // and may be read at once
};

struct Position {
  int64_t image;
  int i, j;
};

FASTCONV_DEVICE Position position_at(int64_t pixel, int height, int width) {
  const int64_t row = pixel / width;
  return {row / height, static_cast<int>(row % height), static_cast<int>(pixel % width)};
}

// The next position, `count` pixels on; cheaper than dividing anew.
FASTCONV_DEVICE void advance(Position& at, int count, int height, int width) {
  at.j += count;
  while (at.j >= width) {
    at.j -= width;
    if (++at.i == height) {
      at.i = 0;
      ++at.image;
    }
  }
}

// numerator / divide as a row or column, or something negative where it leaves a rest or the picture.
FASTCONV_DEVICE int line_at(int numerator, int divide, int limit) {
  if (divide != 1) {
    if (numerator % divide) return -1;
    numerator /= divide;
  }
  return numerator < limit ? numerator : -1;
}

// The offset of a pixel within its image and channel, or -1 where there is none.
template <class T>
FASTCONV_DEVICE int64_t pixel_offset(const Around<T>& x, int numerator_h, int numerator_w) {
  const int row = line_at(numerator_h, x.divide_h, x.height);
  const int column = line_at(numerator_w, x.divide_w, x.width);
  return row < 0 || column < 0 ? -1 : row * x.per_row + column * x.per_column;
}

template <class T>
FASTCONV_DEVICE void take_four(Sum<T> (&values)[4], const T* from) {
  const Four<T> four = *reinterpret_cast<const Four<T>*>(from);
  FASTCONV_UNROLL
  for (int e = 0; e < 4; ++e) values[e] = to_float(four.at[e]);
}

// Four channels of a pixel.
template <class T>
FASTCONV_DEVICE void take_channels(Sum<T> (&values)[4], const Around<T>& x, const T* from) {
  if (x.vectors) return take_four(values, from);
  FASTCONV_UNROLL
  for (int e = 0; e < 4; ++e) values[e] = to_float(from[e * x.per_channel]);
}

template <class S>
FASTCONV_DEVICE void put_four(S* to, const S (&values)[4]) {
  Four<S> four;
  FASTCONV_UNROLL
  for (int e = 0; e < 4; ++e) four.at[e] = values[e];
  *reinterpret_cast<Four<S>*>(to) = four;
}

struct Tap {
  int u, v, c;
};

FASTCONV_DEVICE Tap tap_at(int64_t k, int channels, int taps_w) {
  const int64_t tap = k / channels;
  return {static_cast<int>(tap / taps_w), static_cast<int>(tap % taps_w), static_cast<int>(k % channels)};
}

FASTCONV_DEVICE void advance(Tap& at, int count, int channels, int taps_w) {
  at.c += count;
  while (at.c >= channels) {
    at.c -= channels;
    if (++at.v == taps_w) {
      at.v = 0;
      ++at.u;
    }
  }
}

template <class T, class Tile>
struct PixelLoads {
  const T* image;
  int row, k;  // in the tile
  int base_h, base_w;
  bool inside;
  Tap tap;
  int64_t pixel;  // where the tap reads, or -1
  Sum<T> values[4];

  FASTCONV_MEMBER void start(const Around<T>& x, int group, int64_t first_row, int64_t rows, int64_t first_k) {
    // Neighbouring threads read neighbouring numbers: channels of one pixel, or pixels.
    const bool last = x.per_channel == 1;
    row = last ? thread() / (Tile::depth / 4) : thread() % Tile::side;
    k = 4 * (last ? thread() % (Tile::depth / 4) : thread() / Tile::side);
    inside = first_row + row < rows;
    const Position at = position_at(inside ? first_row + row : 0, x.positions_h, x.positions_w);
    image = x.data + at.image * x.per_image + static_cast<int64_t>(group) * x.channels * x.per_channel;
    base_h = at.i * x.scale_h + x.offset_h;
    base_w = at.j * x.scale_w + x.offset_w;
    tap = tap_at(first_k + k, x.channels, x.taps_w);
    pixel = offset(x, tap);
  }

  FASTCONV_MEMBER int64_t offset(const Around<T>& x, const Tap& at) const {
    if (!inside || at.u >= x.taps_h) return -1;
    return pixel_offset(x, base_h + at.u * x.step_h, base_w + at.v * x.step_w);
  }

  FASTCONV_MEMBER void fetch(const Around<T>& x) {
    FASTCONV_UNROLL
    for (int e = 0; e < 4; ++e) values[e] = 0;
    if (x.fours) {
      if (pixel >= 0) take_channels(values, x, image + pixel + tap.c * x.per_channel);
    } else {
      Tap at = tap;
      FASTCONV_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int64_t from = offset(x, at);
        if (from >= 0) values[e] = to_float(image[from + at.c * x.per_channel]);
        advance(at, 1, x.channels, x.taps_w);
      }
    }
    advance(tap, Tile::depth, x.channels, x.taps_w);
    if (tap.c < Tile::depth) pixel = offset(x, tap);  // another tap
  }

  FASTCONV_MEMBER void put(Sum<T>* tile) const {
    FASTCONV_UNROLL
    for (int e = 0; e < 4; ++e) tile[(k + e) * Tile::pitch + row] = values[e];
  }
};

template <class T>
struct Weights {
  const T* data;  // [group][k][n]
  int64_t reduction;
  int columns;
  bool vectors;
};

template <class T, class Tile>
struct WeightLoads {
  const T* from;
  int row, column;  // in the tile
  int left;         // columns from this thread's first on
  int64_t k;
  Sum<T> values[4];

  FASTCONV_MEMBER void start(const Weights<T>& w, int group, int64_t first_column, int64_t first_k) {
    row = thread() / (Tile::side / 4);
    column = thread() % (Tile::side / 4) * 4;
    left = w.columns - static_cast<int>(first_column) - column;
    k = first_k + row;
    from = w.data + (group * w.reduction + k) * w.columns + first_column + column;
  }

  FASTCONV_MEMBER void fetch(const Weights<T>& w) {
    FASTCONV_UNROLL
    for (int e = 0; e < 4; ++e) values[e] = 0;
    if (k < w.reduction && left > 0) {
      if (w.vectors) {
        take_four(values, from);
      } else {
        FASTCONV_UNROLL
        for (int e = 0; e < 4; ++e)
          if (e < left) values[e] = to_float(from[e]);
      }
    }
    k += Tile::depth;
    from += static_cast<int64_t>(Tile::depth) * w.columns;
  }

  FASTCONV_MEMBER void put(Sum<T>* tile) const { put_four(tile + row * Tile::pitch + column, values); }
};

// The pixels of a picture as they come: dy of grad_weight.
template <class T>
struct Pixels {
  const T* data;
  int64_t per_image, per_channel, per_row, per_column;
  int channels;  // of one group
  int height, width;
  int64_t count;  // of pixels, in all images
  bool vectors;
};

// A thread's place in a tile of pixels by channels: neighbours read neighbouring numbers.
template <class Tile>
struct PixelPlace {
  int row, column;
};

template <class Tile>
FASTCONV_DEVICE PixelPlace<Tile> pixel_place(bool channels_last) {
  if (channels_last) return {thread() / (Tile::side / 4), thread() % (Tile::side / 4) * 4};
  return {thread() % Tile::depth, thread() / Tile::depth * 4};
}

template <class T, class Tile>
struct ChannelLoads {
  PixelPlace<Tile> place;
  Position at;
  int64_t pixel;
  int64_t channel;  // the first of four, of the whole picture
  int left;
  Sum<T> values[4];

  FASTCONV_MEMBER void start(const Pixels<T>& dy, int group, int64_t first_channel, int64_t first_pixel) {
    place = pixel_place<Tile>(dy.per_channel == 1);
    pixel = first_pixel + place.row;
    at = position_at(pixel, dy.height, dy.width);
    left = dy.channels - static_cast<int>(first_channel) - place.column;
    channel = static_cast<int64_t>(group) * dy.channels + first_channel + place.column;
  }

  FASTCONV_MEMBER void fetch(const Pixels<T>& dy) {
    FASTCONV_UNROLL
    for (int e = 0; e < 4; ++e) values[e] = 0;
    if (pixel < dy.count && left > 0) {
      const T* from = dy.data + at.image * dy.per_image + at.i * dy.per_row + at.j * dy.per_column +
                      channel * dy.per_channel;
      if (dy.vectors) {
        take_four(values, from);
      } else {
        FASTCONV_UNROLL
        for (int e = 0; e < 4; ++e)
          if (e < left) values[e] = to_float(from[e * dy.per_channel]);
      }
    }
    pixel += Tile::depth;
    advance(at, Tile::depth, dy.height, dy.width);
  }

  FASTCONV_MEMBER void put(Sum<T>* tile) const {
    put_four(tile + place.row * Tile::pitch + place.column, values);
  }
};

template <class T, class Tile>
struct TapLoads {
  PixelPlace<Tile> place;
  Position at;
  int64_t pixel;
  int tap_h[4], tap_w[4];  // the taps' distances
  int64_t channel[4];      // the channels' offsets, or -1 past the last column
  Sum<T> values[4];

  FASTCONV_MEMBER void start(const Around<T>& x, int group, int64_t first_column, int64_t first_pixel) {
    place = pixel_place<Tile>(x.per_channel == 1);
    pixel = first_pixel + place.row;
    at = position_at(pixel, x.positions_h, x.positions_w);
    Tap tap = tap_at(first_column + place.column, x.channels, x.taps_w);
    FASTCONV_UNROLL
    for (int e = 0; e < 4; ++e) {
      tap_h[e] = x.offset_h + tap.u * x.step_h;
      tap_w[e] = x.offset_w + tap.v * x.step_w;
      channel[e] = tap.u < x.taps_h ? (static_cast<int64_t>(group) * x.channels + tap.c) * x.per_channel : -1;
      advance(tap, 1, x.channels, x.taps_w);
    }
  }

  FASTCONV_MEMBER void fetch(const Around<T>& x, int64_t pixels) {
    FASTCONV_UNROLL
    for (int e = 0; e < 4; ++e) values[e] = 0;
    if (pixel < pixels) {
      const T* image = x.data + at.image * x.per_image;
      const int base_h = at.i * x.scale_h, base_w = at.j * x.scale_w;
      if (x.fours) {
        const int64_t from = channel[0] < 0 ? -1 : pixel_offset(x, base_h + tap_h[0], base_w + tap_w[0]);
        if (from >= 0) take_channels(values, x, image + from + channel[0]);
      } else {
        FASTCONV_UNROLL
        for (int e = 0; e < 4; ++e) {
          const int64_t from = channel[e] < 0 ? -1 : pixel_offset(x, base_h + tap_h[e], base_w + tap_w[e]);
          if (from >= 0) values[e] = to_float(image[from + channel[e]]);
        }
      }
    }
    pixel += Tile::depth;
    advance(at, Tile::depth, x.positions_h, x.positions_w);
  }

  FASTCONV_MEMBER void put(Sum<T>* tile) const {
    put_four(tile + place.row * Tile::pitch + place.column, values);
  }
};

}  // namespace fastconv::cuda
