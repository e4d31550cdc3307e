// The blocking of convolutions with few channels: one row of 48 columns at a time.
#include "few_channels.h"

#include <algorithm>
#include <iterator>

#include "kernels.h"
#include "parallel.h"
#include "winograd.h"

namespace fastconv {
namespace {

// lines[c][u][0 ... 49] = from[n, c, y + u, x ...], outside[c] or 0 beyond its border.
void copy_lines(const Picture& from, int64_t n, int64_t y, int64_t x, const float* outside,
                float* lines) {
  constexpr int64_t rows = 3, length = Few::columns + 2;
  const int64_t step = from.planar ? 1 : from.pixel, channel = from.planar ? from.plane : 1;
  const int64_t first = std::clamp<int64_t>(-y, 0, rows), begin = std::clamp<int64_t>(-x, 0, length);
  const int64_t last = std::clamp(from.height - y, first, rows);
  const int64_t end = std::clamp(from.width - x, begin, length);
  const float* at = from.data + n * from.image + (y + first) * from.row + (x + begin) * step;
  for (int64_t c = 0; c < from.channels; ++c, at += channel, lines += rows * Few::line) {
    kernels().gemm->f32.copy_lines(
        {lines, Few::line, rows, length, at, from.row, step, first, last, begin, end});
    if (!outside) continue;
    for (int64_t u = 0; u < rows; ++u) {
      float* const line = lines + u * Few::line;
      const bool inside = first <= u && u < last;
      std::fill_n(line, inside ? begin : length, outside[c]);
      if (inside) std::fill(line + end, line + length, outside[c]);
    }
  }
}

void spread_piece(const WinogradJob& job, int64_t n, int64_t y, int64_t x, bool streamed) {
  const Kernels& k = kernels();
  alignas(64) float lines[Few::most_channels * 3 * Few::line];
  alignas(64) float strips[Few::outputs / block_width * Strip::row];
  alignas(64) float more[Strip::row];
  copy_lines(job.from, n, y - job.top, x - job.left, job.outside, lines);
  const int64_t columns = std::min(Few::columns, job.width() - x);
  const int64_t taps = job.from.channels * 9;
  for (int64_t o = 0; o < job.to.channels; o += Few::outputs) {
    const int64_t count = std::min(Few::outputs, job.to.channels - o);
    alignas(64) float bias[Few::outputs] = {};
    if (job.bias) std::copy_n(job.bias + o, count, bias);
    k.few->spread(lines, job.from.channels, columns, job.u + o * taps, bias, job.relu, strips);
    for (int64_t b = 0; b < ceil_div(count, block_width); ++b) {
      const Window window{n, o / block_width + b, y, x, 1, columns};
      finish_strip(job, streamed, window, strips + b * Strip::row, more);
    }
  }
}

void spread(const WinogradJob& job) {
  const int64_t height = job.height();
  const bool streamed = job.n * job.to.image * int64_t{sizeof(float)} >= stream_bytes;
  parallel_for(job.n * height, [&](int64_t index, int64_t) {
    for (int64_t x = 0; x < job.width(); x += Few::columns)
      spread_piece(job, index / height, index % height, x, streamed);
    if (streamed) kernels().gemm->f32.stream_end();
  });
}

// A piece of the gradient from many channels to few: 48 columns of some rows.  It goes down the rows,
// so that each is read, and led back through the ReLU, once for the three results that want it.
struct Descent {
  const WinogradJob& job;
  int64_t n, x, columns, first_block, last_block;
  float* rows;  // [y % 3][block - first_block][Strip::row]
  static constexpr int64_t floats = 3 * Collected::most_blocks * Strip::row;

  float* row(int64_t y, int64_t block) const {
    return rows + ((y + 3) % 3 * Collected::most_blocks + block - first_block) * Strip::row;
  }

  // y: of the gradient, which may lie beyond it.
  void take(int64_t y) const {
    for (int64_t block = first_block; block < last_block; ++block) {
      const Window window{n, block, y, x - job.left, 1, Few::columns + 2};
      if (job.expand)
        kernels().chain->expand(job.from, *job.expand, window, row(y, block));
      else
        kernels().picture->gather(job.from, window, row(y, block));
    }
  }

  // Where row y of a block begins, for it to be fetched ahead: any place if there is none.
  const float* soon(int64_t y, int64_t block) const {
    const Picture& from = job.from;
    const bool pooled = job.expand && job.expand->pool != Pool::none;
    if (y < 0 || y >= from.height || from.planar || pooled) return job.u;
    return from.data + n * from.image + block * from.block + y * from.row +
           std::max<int64_t>(x - job.left, 0) * from.pixel;
  }

  void give(int64_t y) const {
    const int64_t few = job.to.channels, above = y - job.top;
    alignas(64) float sums[Few::columns * Few::most_channels * block_width];
    alignas(64) float lines[Few::most_channels * Few::line];
    if (columns < Few::columns) std::fill(std::begin(sums), std::end(sums), 0.f);
    const float* const weights = job.u + first_block * 9 * few * block_width;
    Collected all{last_block - first_block, few, columns, weights, {}, {}};
    for (int64_t i = 0; i < all.blocks; ++i) {
      for (int64_t u = 0; u < 3; ++u) all.rows[i][u] = row(above + u, first_block + i);
      all.soon[i] = soon(above + 3, first_block + i);
    }
    kernels().few->collect(all, sums);
    kernels().few->add_lanes(sums, few, Few::columns, lines);
    const Picture& to = job.to;
    const int64_t channel = to.planar ? to.plane : 1;
    for (int64_t c = 0; c < few; ++c) {
      float* at = to.data + n * to.image + c * channel + y * to.row + x * to.pixel;
      for (int64_t i = 0; i < columns; ++i)
        at[i * to.pixel] = lines[c * Few::line + i] + (first_block ? at[i * to.pixel] : 0);
    }
  }
};

void collect(const WinogradJob& job) {
  const int64_t height = job.to.height, across = ceil_div(job.to.width, Few::columns);
  // long pieces, as each begins with two rows more, but enough for all threads
  const int64_t enough = ceil_div(job.n * across * height, 8 * thread_count());
  const int64_t length = std::clamp<int64_t>(enough, 8, 64), down = ceil_div(height, length);
  const int64_t blocks = ceil_div(job.from.channels, block_width);
  parallel_for(job.n * across * down, [&](int64_t index, int64_t) {
    alignas(64) float rows[Descent::floats];
    const int64_t begin = index % down * length, end = std::min(begin + length, height);
    const int64_t x = index / down % across * Few::columns, n = index / down / across;
    const int64_t columns = std::min(Few::columns, job.to.width - x);
    for (int64_t block = 0; block < blocks; block += Collected::most_blocks) {
      const int64_t end_block = std::min(block + Collected::most_blocks, blocks);
      const Descent descent{job, n, x, columns, block, end_block, rows};
      descent.take(begin - job.top);
      descent.take(begin - job.top + 1);
      for (int64_t y = begin; y < end; ++y) {
        descent.take(y - job.top + 2);
        descent.give(y);
      }
    }
  });
}

}  // namespace

int64_t few_weights_floats(int64_t many, int64_t few) {
  return ceil_div(many, Few::outputs) * Few::outputs * few * 9;
}

void few_weights(const float* weight, int64_t many, int64_t few, bool rotated, float* to) {
  std::fill_n(to, few_weights_floats(many, few), 0.f);
  for (int64_t o = 0; o < many; ++o)
    for (int64_t c = 0; c < few; ++c)
      for (int64_t r = 0; r < 9; ++r) {
        const int64_t forward = (o / Few::outputs * few * 9 + c * 9 + r) * Few::outputs + o % Few::outputs;
        const int64_t back = ((o / block_width * 9 + 8 - r) * few + c) * block_width + o % block_width;
        to[rotated ? back : forward] = weight[(o * few + c) * 9 + r];
      }
}

void few_channels(const WinogradJob& job) {
  if (job.from.channels <= Few::most_channels)
    spread(job);
  else
    collect(job);
}

}  // namespace fastconv
