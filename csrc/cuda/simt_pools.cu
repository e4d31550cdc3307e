// The small kernels between a frozen stack's convolutions: 2 x 2 pools, their way back, and the mask
// of a ReLU that no convolution's epilogue applies.  Pictures are channels_last.
//
// Nothing is remembered of a pool's decision: the way back looks at the pool's input again.
#include "pictures.h"
#include "pools.h"

namespace fastconv::cuda {
namespace {

template <class T>
struct Pooling {
  const T* from;      // the picture before the pool
  const T* gradient;  // of the pool's result
  T* to;
  int64_t cells;  // of 2 x 2 pixels, all images and channels; cut off at odd edges
  int height, width, channels;
  int cells_h, cells_w, pooled_h, pooled_w;
  bool average, relu;
};

// One cell of 2 x 2 pixels in one channel.
struct Cell {
  int64_t pixel;   // its first number in the large picture
  int64_t pooled;  // its number in the small one
  int rows, columns;
  bool whole;
};

template <class T>
FASTCONV_DEVICE Cell cell_of(const Pooling<T>& p, int64_t index) {
  const int channel = static_cast<int>(index % p.channels);
  const Position at = position_at(index / p.channels, p.cells_h, p.cells_w);
  const int64_t row = at.image * p.height + 2 * at.i, pooled_row = at.image * p.pooled_h + at.i;
  const int rows = p.height - 2 * at.i, columns = p.width - 2 * at.j;
  return {(row * p.width + 2 * at.j) * p.channels + channel, (pooled_row * p.pooled_w + at.j) * p.channels + channel,
          rows < 2 ? rows : 2, columns < 2 ? columns : 2, rows > 1 && columns > 1};
}

// The place of the largest of four, the first among equals; NaN counts as larger than everything.
template <class S>
FASTCONV_DEVICE int largest(const S (&values)[4]) {
  int best = 0;
  for (int e = 1; e < 4; ++e)
    if (values[e] > values[best] || values[e] != values[e]) best = e;
  return best;
}

template <class T>
FASTCONV_DEVICE void read_cell(const Pooling<T>& p, const Cell& cell, Sum<T> (&values)[4]) {
  FASTCONV_UNROLL
  for (int e = 0; e < 4; ++e) values[e] = to_float(p.from[cell.pixel + (int64_t{e / 2} * p.width + e % 2) * p.channels]);
}

template <class T>
FASTCONV_KERNEL(256) pool_forward(Pooling<T> p) {
  const int64_t index = static_cast<int64_t>(block().x) * threads_in_block() + thread();
  if (index >= p.cells) return;
  const Cell cell = cell_of(p, index);
  if (!cell.whole) return;
  Sum<T> values[4];
  read_cell(p, cell, values);
  const Sum<T> mean = (values[0] + values[1] + values[2] + values[3]) * Sum<T>(0.25);
  p.to[cell.pooled] = rounded<T>(p.average ? mean : values[largest(values)]);
}

template <class T>
FASTCONV_KERNEL(256) pool_backward(Pooling<T> p) {
  const int64_t index = static_cast<int64_t>(block().x) * threads_in_block() + thread();
  if (index >= p.cells) return;
  const Cell cell = cell_of(p, index);
  Sum<T> values[4] = {0, 0, 0, 0};
  Sum<T> gradient = 0;
  if (cell.whole) {
    read_cell(p, cell, values);
    gradient = to_float(p.gradient[cell.pooled]) * Sum<T>(p.average ? 0.25 : 1.0);
  }
  const int best = largest(values);
  for (int e = 0; e < 4; ++e) {
    if (e / 2 >= cell.rows || e % 2 >= cell.columns) continue;
    const bool passes = (p.average || e == best) && (!p.relu || values[e] > Sum<T>(0));
    p.to[cell.pixel + (int64_t{e / 2} * p.width + e % 2) * p.channels] = rounded<T>(passes ? gradient : Sum<T>(0));
  }
}

template <class T>
struct Masking {
  const T* from;
  const T* gradient;
  T* to;
  int64_t numbers;
};

template <class T>
FASTCONV_KERNEL(256) mask_gradient(Masking<T> p) {
  const int64_t index = static_cast<int64_t>(block().x) * threads_in_block() + thread();
  if (index >= p.numbers) return;
  p.to[index] = to_float(p.from[index]) > Sum<T>(0) ? p.gradient[index] : rounded<T>(Sum<T>(0));
}

Grid blocks_for(int64_t threads) { return {static_cast<unsigned>(ceil_div(threads, 256)), 1, 1}; }

template <class T>
Pooling<T> pooling_of(const PoolJob& job) {
  const auto i = [](int64_t v) { return static_cast<int>(v); };
  const int64_t cells_h = ceil_div(job.height, 2), cells_w = ceil_div(job.width, 2);
  return {static_cast<const T*>(job.from), static_cast<const T*>(job.gradient), static_cast<T*>(job.to),
          job.n * job.channels * cells_h * cells_w, i(job.height), i(job.width), i(job.channels), i(cells_h),
          i(cells_w), i(job.height / 2), i(job.width / 2), job.average, job.relu};
}

}  // namespace

int pool_launch(const PoolJob& job, void* stream) {
  return with_type(job.type, [&](auto number) {
    const auto pooling = pooling_of<decltype(number)>(job);
    const auto kernel = job.gradient ? pool_backward<decltype(number)> : pool_forward<decltype(number)>;
    return launch(kernel, blocks_for(pooling.cells), 256, 0, stream, pooling);
  });
}

int mask_launch(Type type, const void* from, const void* gradient, void* to, int64_t numbers, void* stream) {
  return with_type(type, [&](auto number) {
    using T = decltype(number);
    const Masking<T> masking{static_cast<const T*>(from), static_cast<const T*>(gradient), static_cast<T*>(to),
                             numbers};
    return launch(mask_gradient<T>, blocks_for(numbers), 256, 0, stream, masking);
  });
}

}  // namespace fastconv::cuda
