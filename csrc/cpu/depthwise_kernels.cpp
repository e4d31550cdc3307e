// Depthwise kernels: one multiply-add per tap and load, so the loads are what is saved.
//
//   correlate          8 pixels x 1 vector of channels: a weight is loaded once for 8 pixels
//   correlate_plane    8 lines x 1 vector of pixels: a weight is loaded once for 8 vectors
//   add_channel_sums   up to 9 taps x 1 vector of channels, summed along a line in registers
//   add_plane_sums     up to 9 taps, summed along lines; lanes are added up at the end
#include "depthwise_kernels.h"
#include "vec.h"

#if defined(__GNUC__)
#define FASTCONV_UNROLL _Pragma("GCC unroll 16")
#else
#define FASTCONV_UNROLL
#endif

namespace fastconv::FASTCONV_ISA {
namespace {

constexpr int most_pixels = 8, most_taps = 9;

// The last vector of a run ends with it and overlaps the one before.
template <class T>
inline int64_t vector_begin(int64_t at, int64_t count) {
  return at + lanes<T> <= count ? at : count - lanes<T>;
}

template <class T, int P>
void correlate_pixels(const ChannelsLine<T>& l, int64_t first) {
  const T* x = l.x + first * l.x_step;
  T* y = l.y + first * l.y_step;
  for (int64_t at = 0; at < l.channels; at += lanes<T>) {
    const int64_t c = vector_begin<T>(at, l.channels);
    Vec<T> acc[P];
    const Vec<T> start = l.start ? load(l.start + c) : Vec<T>{};
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) acc[p] = start;
    for (int64_t t = 0; t < l.tap_count; ++t) {
      const Vec<T> w = load(l.w + l.weights[t] + c);
      const T* from = x + l.taps[t] + c;
      FASTCONV_UNROLL
      for (int p = 0; p < P; ++p) acc[p] += w * load(from + p * l.x_step);
    }
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) store(y + p * l.y_step + c, acc[p]);
  }
}

template <class T, int P>
inline void correlate_rest(const ChannelsLine<T>& l, int64_t first) {
  if constexpr (P > 0) {
    if (l.pixels - first == P)
      correlate_pixels<T, P>(l, first);
    else
      correlate_rest<T, P - 1>(l, first);
  }
}

template <class T>
void correlate(const ChannelsLine<T>& l) {
  int64_t first = 0;
  for (; first + most_pixels <= l.pixels; first += most_pixels)
    correlate_pixels<T, most_pixels>(l, first);
  correlate_rest<T, most_pixels - 1>(l, first);
}

template <class T, int R>
void correlate_vector(const PlaneLines<T>& l, int64_t i, int64_t j) {
  const T* x = l.x + i * l.x_line + j;
  Vec<T> acc[R];
  FASTCONV_UNROLL
  for (int r = 0; r < R; ++r) acc[r] = broadcast(l.start);
  for (int64_t t = 0; t < l.tap_count; ++t) {
    const Vec<T> w = broadcast(l.w[t]);
    const T* from = x + l.taps[t];
    FASTCONV_UNROLL
    for (int r = 0; r < R; ++r) acc[r] += w * load(from + r * l.x_line);
  }
  T* y = l.y + i * l.y_line + j;
  const int64_t left = l.columns - j;
  // Up to the last element that the plane owns, if lines are dense; else up to the line's end.
  const int64_t behind = l.y_line == l.columns ? (l.lines - i - 1) * l.y_line : 0;
  for (int r = 0; r < R; ++r, y += l.y_line) {
    const int64_t room = left + (behind > 0 ? behind - r * l.y_line : 0);
    if (room >= lanes<T>)
      store(y, acc[r]);
    else
      store_first(y, acc[r], left);
  }
}

// Vectors from the last to the first: what the last one writes into the next line is written
// again by that line's first one.
template <class T, int R>
void correlate_lines(const PlaneLines<T>& l, int64_t i) {
  for (; l.lines - i >= R; i += R)
    for (int64_t j = (l.columns - 1) / lanes<T> * lanes<T>; j >= 0; j -= lanes<T>)
      correlate_vector<T, R>(l, i, j);
  if constexpr (R > 1)
    if (i < l.lines)
      correlate_lines<T, R / 2>(l, i);
}

template <class T>
void correlate_plane(const PlaneLines<T>& l) {
  correlate_lines<T, most_pixels>(l, 0);
}

template <class T, int N>
void sum_channels(const ChannelsSums<T>& s, int64_t tap) {
  for (int64_t at = 0; at < s.channels; at += lanes<T>) {
    const int64_t c = vector_begin<T>(at, s.channels);
    const T* x[N];
    Vec<T> acc[N];
    FASTCONV_UNROLL
    for (int t = 0; t < N; ++t) {
      x[t] = s.x + s.taps[tap + t] + c;
      acc[t] = load(s.sums + s.rows[tap + t] * s.sums_row + at);
    }
    const T* dy = s.dy + c;
    for (int64_t p = 0, in_x = 0; p < s.pixels; ++p, in_x += s.x_step, dy += s.dy_step) {
      const Vec<T> value = load(dy);
      FASTCONV_UNROLL
      for (int t = 0; t < N; ++t) acc[t] += value * load(x[t] + in_x);
    }
    FASTCONV_UNROLL
    for (int t = 0; t < N; ++t) store(s.sums + s.rows[tap + t] * s.sums_row + at, acc[t]);
  }
}

template <class T>
inline Vec<T> keep_first(Vec<T> v, int64_t count) {
#if defined(FASTCONV_VECTORS)
  Vec<T> index;
  FASTCONV_UNROLL
  for (int i = 0; i < lanes<T>; ++i) index[i] = static_cast<T>(i);
  return index < broadcast(static_cast<T>(count)) ? v : Vec<T>{};
#else
  return count > 0 ? v : Vec<T>{};
#endif
}

template <class T>
inline T sum_of(Vec<T> v) {
  T parts[lanes<T>], sum = 0;
  store(parts, v);
  for (int i = 0; i < lanes<T>; ++i) sum += parts[i];
  return sum;
}

// Both are cut off at the line's end: what lies behind it may be NaN.
template <class T, int N>
void sum_planes(const PlaneSums<T>& s, int64_t tap) {
  Vec<T> acc[N] = {};
  const int64_t whole = s.columns / lanes<T> * lanes<T>, rest = s.columns - whole;
  for (int64_t i = 0; i < s.lines; ++i) {
    const T* dy = s.dy + i * s.dy_line;
    const T* x[N];
    FASTCONV_UNROLL
    for (int t = 0; t < N; ++t) x[t] = s.x + s.taps[tap + t] + i * s.x_line;
    for (int64_t j = 0; j < whole; j += lanes<T>) {
      const Vec<T> value = load(dy + j);
      FASTCONV_UNROLL
      for (int t = 0; t < N; ++t) acc[t] += value * load(x[t] + j);
    }
    if (rest == 0)
      continue;
    const int64_t room = (s.lines - 1 - i) * s.dy_line + rest;  // to the end of dy
    const Vec<T> value = room >= lanes<T> ? keep_first<T>(load(dy + whole), rest)
                                          : load_first(dy + whole, rest);
    FASTCONV_UNROLL
    for (int t = 0; t < N; ++t) acc[t] += value * keep_first<T>(load(x[t] + whole), rest);
  }
  FASTCONV_UNROLL
  for (int t = 0; t < N; ++t) s.sums[tap + t] += sum_of<T>(acc[t]);
}

// The taps from `tap` on, `N` at a time and then the rest.
template <class T, int N>
void add_channel_taps(const ChannelsSums<T>& s, int64_t tap) {
  for (; s.tap_count - tap >= N; tap += N) sum_channels<T, N>(s, tap);
  if constexpr (N > 1)
    if (tap < s.tap_count)
      add_channel_taps<T, N - 1>(s, tap);
}

template <class T, int N>
void add_plane_taps(const PlaneSums<T>& s, int64_t tap) {
  for (; s.tap_count - tap >= N; tap += N) sum_planes<T, N>(s, tap);
  if constexpr (N > 1)
    if (tap < s.tap_count)
      add_plane_taps<T, N - 1>(s, tap);
}

template <class T>
void add_channel_sums(const ChannelsSums<T>& s) {
  add_channel_taps<T, most_taps>(s, 0);
}

template <class T>
void add_plane_sums(const PlaneSums<T>& s) {
  add_plane_taps<T, most_taps>(s, 0);
}

template <class T>
constexpr DepthwiseKernelsOf<T> table_of() {
  return {lanes<T>, correlate<T>, correlate_plane<T>, add_channel_sums<T>, add_plane_sums<T>};
}

}  // namespace

extern const DepthwiseKernels depthwise_kernels;
const DepthwiseKernels depthwise_kernels = {table_of<float>(), table_of<double>()};

}  // namespace fastconv::FASTCONV_ISA
