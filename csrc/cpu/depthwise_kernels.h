// The kernels of depthwise convolutions; depthwise_kernels.cpp fills the table.
#pragma once
#include <stdint.h>

namespace fastconv {

// Along a line of pixels with their channels side by side; taps are offsets into x, in elements.
//   correlate:  y[p * y_step + c] = start[c] + sum_t w[weights[t] + c] x[taps[t] + p * x_step + c]
template <class T>
struct ChannelsLine {
  const int64_t *taps, *weights;
  int64_t tap_count;
  const T* x;
  int64_t x_step;
  const T* w;
  const T* start;  // or null: zero
  T* y;
  int64_t y_step;
  int64_t pixels, channels;  // channels >= the vector's lanes
};

//   add_sums:  sums[t * sums_row + c] += sum_p dy[p * dy_step + c] x[taps[t] + p * x_step + c]
// The last vector of channels may overlap the one before; its sums are stored apart, at the next
// multiple of the lanes.
template <class T>
struct ChannelsSums {
  const int64_t *taps, *rows;  // rows: the row of sums of each tap
  int64_t tap_count;
  const T* x;
  int64_t x_step;
  const T* dy;
  int64_t dy_step;
  T* sums;
  int64_t sums_row;
  int64_t pixels, channels;
};

// A plane of one channel:  sums[t] += sum_ij dy[i * dy_line + j] x[taps[t] + i * x_line + j]
// x can be read up to a whole vector of columns; dy up to its last line's end.
template <class T>
struct PlaneSums {
  const int64_t* taps;
  int64_t tap_count;
  const T* x;
  int64_t x_line;
  const T* dy;
  int64_t dy_line;
  int64_t lines, columns;
  T* sums;
};

// A plane of one channel:  y[i * y_line + j] = start + sum_t w[t] x[taps[t] + i * x_line + j]
// x can be read up to a whole vector of columns.  Where lines of y follow each other without a gap
// (y_line = columns), a line's last vector may be stored into the next line, which comes later.
template <class T>
struct PlaneLines {
  const int64_t* taps;
  const T* w;
  int64_t tap_count;
  T start;
  const T* x;
  int64_t x_line;
  T* y;
  int64_t y_line;
  int64_t lines, columns;
};

template <class T>
struct DepthwiseKernelsOf {
  int lanes;
  void (*correlate)(const ChannelsLine<T>&);
  void (*correlate_plane)(const PlaneLines<T>&);
  void (*add_channel_sums)(const ChannelsSums<T>&);
  void (*add_plane_sums)(const PlaneSums<T>&);
};

struct DepthwiseKernels {
  DepthwiseKernelsOf<float> f32;
  DepthwiseKernelsOf<double> f64;
};

}  // namespace fastconv
