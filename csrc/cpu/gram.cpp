// The blocking of moments (equations: gram.h).
//
// The second moment is the outer product that Winograd's gradient to the weights adds up, the way
// back a product with a constant matrix.  A chunk of pixels of all channels is copied, or cut, to the
// second-level cache first: at power-of-two distances the blocks of 16 channels would fall into
// the same few sets.
//
// Measured, VGG19's five style layers at 512 px, 2 threads, there and back: 34 ms on an EPYC, of which
// the multiplications alone take 28, where torch.mm on the plain layout (features @ features.T and its
// gradient) takes 234; 22 ms on a Xeon with a matrix unit, and 46 with fused multiply-adds.  On the way back, panels of channels outside and
// pixels inside, so that large U is read from nearer, changed nothing.
#include "gram.h"

#include <algorithm>

#include "kernels.h"
#include "parallel.h"
#include "winograd_tiles.h"

namespace fastconv {
namespace {

constexpr int64_t sampled_pixels = 128;  // at a time, for the estimate of a mean
constexpr int64_t most_panel = 32;       // outputs in a panel of the way back

// From so many channels on the matrix unit is the faster one, if there is any.  Forward, with 64
// channels 3.9 ms against 5.2 at 512 x 512, with 128 2.5 against 4.0 at half that size, with 256 1.5
// against 3.6 at a quarter; back 5.2 against 6.9, 2.5 against 6.5, and 2.1 against 7.0.
constexpr int64_t many_channels = 64;

struct Sizes {
  const GramSums& products;
  int64_t blocks, row;  // row: of the second moment; a power of two would share few cache sets
  explicit Sizes(int64_t channels)
      : products(*kernels().gram_sums[channels >= many_channels]),
        blocks(ceil_div(channels, block_width)), row((blocks + 1) * block_width) {}
  int64_t padded() const { return blocks * block_width; }
  int64_t room() const { return products.room(blocks); }
  // What is summed apart, in order.  Several for a thread, where sums are small: one that is held up
  // leaves some to the others.
  int64_t parts() const { return (blocks <= 8 ? 4 : 1) * thread_count(); }
  int64_t sums() const { return blocks * block_width * row; }
};

// Pixels first ... last of all channels, [block][pixel][16].
void pack(const Moments& m, int64_t first, int64_t last, const TileStrides& strides, float* to) {
  const int64_t blocks = ceil_div(m.channels, block_width);
  for (int64_t b = 0; b < blocks; ++b) {
    const float* from = m.features + (b * m.pixels + first) * block_width;
    std::copy_n(from, (last - first) * block_width, to + b * strides.block);
  }
}

// 16 sums over the parts of the pixels, in order: the result does not depend on which thread was
// faster.
void add_parts(const float* sums, int64_t parts, int64_t stride, float* total) {
  std::fill_n(total, block_width, 0.f);
  for (int64_t part = 0; part < parts; ++part, sums += stride)
    for (int64_t i = 0; i < block_width; ++i) total[i] += sums[i];
}

// covariance[i][j] and [j][i] of 16 channels i and 16 channels j.
void finish_square(const Sizes& s, int64_t channels, const float* sums, int64_t parts, float scale,
                   const float* rest, int64_t i, int64_t j, float* covariance) {
  float square[block_width][block_width];
  float mirrored[block_width][block_width];
  const bool both = s.blocks <= s.products.most_mirrored;
  for (int64_t r = 0; both && r < block_width; ++r)
    add_parts(sums + (j + r) * s.row + i, parts, s.sums(), mirrored[r]);
  for (int64_t r = 0; r < block_width; ++r) {
    add_parts(sums + (i + r) * s.row + j, parts, s.sums(), square[r]);
    for (int64_t c = 0; both && c < block_width; ++c) square[r][c] = 0.5f * (square[r][c] + mirrored[c][r]);
    for (int64_t c = 0; c < block_width; ++c)
      square[r][c] = scale * square[r][c] - rest[i + r] * rest[j + c];
  }
  for (int64_t r = 0; i == j && r < block_width; ++r)
    for (int64_t c = 0; c < r; ++c) square[r][c] = square[c][r];
  const int64_t rows = std::min(block_width, channels - i), columns = std::min(block_width, channels - j);
  for (int64_t r = 0; r < rows; ++r)
    std::copy_n(square[r], columns, covariance + (i + r) * channels + j);
  for (int64_t c = 0; i != j && c < columns; ++c)
    for (int64_t r = 0; r < rows; ++r) covariance[(j + c) * channels + i + r] = square[r][c];
}

// Near the mean: that of every 16th piece.  What is summed are differences from it, so that
// nothing cancels in the covariance.
void estimate_mean(const Moments& m, float* estimate) {
  const int64_t blocks = ceil_div(m.channels, block_width);
  parallel_for(blocks, [&](int64_t b, int64_t) {
    float* sums = estimate + b * block_width;
    const float zero[block_width] = {};
    float spare[sampled_pixels * block_width];
    std::fill_n(sums, block_width, 0.f);
    int64_t seen = 0;
    for (int64_t from = 0; from < m.pixels; from += 16 * sampled_pixels) {
      const int64_t pixels = std::min(sampled_pixels, m.pixels - from);
      kernels().gram->take(m.features + (b * m.pixels + from) * block_width, pixels, zero, spare,
                           sums);
      seen += pixels;
    }
    for (int64_t i = 0; i < block_width; ++i) sums[i] /= static_cast<float>(seen);
  });
}

}  // namespace

int64_t moments_workspace(int64_t channels) {
  const Sizes s(channels);
  return s.parts() * (s.sums() + s.padded()) + thread_count() * s.room() + 2 * s.padded();
}

void moments(const Moments& m, float* mean, float* covariance, float* workspace) {
  const Sizes s(m.channels);
  const int64_t chunks = ceil_div(m.pixels, s.products.pixels);
  const int64_t parts = std::min(s.parts(), chunks);
  float* estimate = workspace;
  float* rest = estimate + s.padded();  // the mean less its estimate
  float* sums = rest + s.padded();
  float* totals = sums + parts * s.sums();
  float* rooms = totals + parts * s.padded();
  estimate_mean(m, estimate);
  parallel_for(parts, [&](int64_t part, int64_t thread) {
    float* const room = rooms + thread * s.room();
    float* total = totals + part * s.padded();
    std::fill_n(total, s.padded(), 0.f);
    const int64_t begin = part * chunks / parts, end = (part + 1) * chunks / parts;
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t from = chunk * s.products.pixels;
      const int64_t pixels = std::min(s.products.pixels, m.pixels - from);
      const int64_t soon = std::min(s.products.pixels, m.pixels - from - pixels);
      s.products.add({m.features + from * block_width, m.pixels * block_width, s.blocks, pixels, estimate,
                      total, chunk == begin, sums + part * s.sums(), s.row, room, soon});
    }
  });
  const float scale = 1.f / static_cast<float>(m.pixels);
  for (int64_t i = 0; i < s.padded(); i += block_width)
    add_parts(totals + i, parts, s.padded(), rest + i);
  for (int64_t i = 0; i < s.padded(); ++i) rest[i] *= scale;
  for (int64_t i = 0; i < m.channels; ++i) mean[i] = estimate[i] + rest[i];
  parallel_for(s.blocks, [&](int64_t block, int64_t) {
    const int64_t i = block * block_width;
    for (int64_t j = i; j < m.channels; j += block_width)
      finish_square(s, m.channels, sums, parts, scale, rest, i, j, covariance);
  });
}

namespace {

// What the way back needs, in floats.
struct Back {
  const GramProducts& products;
  int64_t channels, outputs;  // outputs: padded to panels
  bool direct;                // the features are read where they lie
  TileStrides packed;         // else a chunk of them is copied
  int64_t panel_floats;       // of U, as they are multiplied
  int64_t room, share;        // of each thread: for the kernel alone, and for all

  explicit Back(int64_t c)
      : products(*kernels().gram_products[c >= many_channels]), channels(c) {
    const int64_t panel = products.panel, whole = std::max(panel, block_width);
    const int64_t blocks = ceil_div(c, block_width);
    outputs = ceil_div(c, whole) * whole;
    direct = blocks <= products.most_direct;
    packed = strides_for(blocks, products.pixels);
    panel_floats = products.cut ? products.cut_floats(c) : panel * c;
    room = products.room(c);
    share = std::max(room + (direct ? 0 : packed.element), products.cut ? panel * c : 0);
  }
  int64_t u_floats() const { return outputs / products.panel * panel_floats; }
};

// U of the product: [o/panel][k][panel], symmetric, and scaled; `constant` less U^T mean.
void pack_gradient(const float* d, float scale, const float* mean, const Back& back, float* u,
                   float* constant, float* shares) {
  const int64_t panel = back.products.panel, channels = back.channels;
  parallel_for(back.outputs / panel, [&](int64_t index, int64_t thread) {
    float* const made = u + index * back.panel_floats;
    float* const to = back.products.cut ? shares + thread * back.share : made;
    const int64_t o = index * panel, count = std::clamp(channels - o, int64_t{0}, panel);
    float sums[most_panel] = {};
    std::fill_n(to, panel * channels, 0.f);
    kernels().gemm->f32.copy_matrix(to, panel, d + o * channels, 1, channels, channels, count);
    for (int64_t k = 0; k < channels; ++k)
      for (int64_t i = 0; i < count; ++i) {
        const float both = scale * (to[k * panel + i] + d[k * channels + o + i]);
        to[k * panel + i] = both;
        sums[i] += both * mean[k];
      }
    for (int64_t i = 0; i < count; ++i) constant[o + i] -= sums[i];
    if (back.products.cut) back.products.cut(to, channels, made);
  });
}

// Of a chunk that is read where it lies: long, for lines to be fetched ahead within it, but enough
// chunks for the threads.
int64_t direct_pixels(int64_t pixels, int64_t step) {
  const int64_t share = ceil_div(pixels, 8 * thread_count());
  return std::clamp(ceil_div(share, step), int64_t{1}, int64_t{8}) * step;
}

}  // namespace

int64_t moments_backward_workspace(int64_t channels) {
  const Back back(channels);
  return back.u_floats() + back.outputs + thread_count() * back.share;
}

void moments_backward(const Moments& m, const float* mean, const float* d_mean,
                      const float* d_covariance, bool accumulate, float* to, float* workspace) {
  const Back back(m.channels);
  const float scale = 1.f / static_cast<float>(m.pixels);
  float* u = workspace;
  float* constant = u + back.u_floats();
  float* shares = constant + back.outputs;
  std::fill_n(constant, back.outputs, 0.f);
  for (int64_t i = 0; d_mean && i < m.channels; ++i) constant[i] = scale * d_mean[i];
  if (d_covariance)
    pack_gradient(d_covariance, scale, mean, back, u, constant, shares);
  const int64_t step = back.products.pixels;
  const int64_t most = back.direct ? direct_pixels(m.pixels, step) : step;
  parallel_for(ceil_div(m.pixels, most), [&](int64_t chunk, int64_t thread) {
    float* const room = shares + thread * back.share;
    float* const packed = room + back.room;
    const int64_t begin = chunk * most, pixels = std::min(most, m.pixels - begin);
    if (d_covariance && !back.direct) pack(m, begin, begin + pixels, back.packed, packed);
    const float* f = back.direct ? m.features + begin * block_width : packed;
    const int64_t f_block = back.direct ? m.pixels * block_width : back.packed.block;
    back.products.multiply({u, f, constant, to + begin * block_width, room,
                            d_covariance ? m.channels : 0,
                            ceil_div(m.channels, block_width) * block_width, pixels, f_block,
                            m.pixels * block_width, accumulate});
  });
}

}  // namespace fastconv
