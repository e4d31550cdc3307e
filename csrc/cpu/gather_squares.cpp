// Gather GEMM on a matrix unit: C[m][q] += sum_k W[m][k] * src[k at q], in squares of 32 x 32.
//
// As in gather_planes.cpp a block of rows x columns destinations has a copy of its source, but of all
// channels at once, cut into the pieces that the unit multiplies (gather_squares.h):
//
//   copy      [channel of 32][row band][column band][line][pitch]     a BlockCopy per channel
//   lines     [channel / 32][piece][16][copy: pairs of channels]      B, in the second-level cache
//   weights   [m / 16][tap][channel / 32][piece][16][16]              A, cut once
//   results   [32][copy]                                              until they are whole
//
// Here, too, squares run on over line ends, and what falls between the lines is dropped.
#include "gather_squares.h"

#include "blocking.h"
#include "parallel.h"
#include "workspace.h"

namespace fastconv {
namespace {

constexpr int64_t step = SquareKernels::step, half = 16;  // half: rows of A that are cut together
constexpr int64_t most_pixels = 512, least_pixels = 64;  // of a block
constexpr int64_t most_bytes = 1200 << 10;               // of its B; 256 KB to 1 MB: within 10 %

int64_t odd_lines(int64_t elements) { return (ceil_div(elements, 16) | 1) * 16; }

// How the destinations are cut into blocks, of so many pixels or a few more.
struct Blocks {
  Cuts columns, rows;
  BlockCopy copy;
  int64_t line;  // of B

  Blocks(const Gather<float>& g, int64_t pixels)
      : columns(axis_runs(g.column_taps, g.step_w, g.columns, g.src_w), pixels,
                g.columns > pixels ? step : 1),
        rows(axis_runs(g.row_taps, g.step_h, g.rows, g.src_h),
             std::max<int64_t>(pixels / columns.longest, 1)),
        copy(g, rows.longest, columns.longest, columns.longest - 1),
        line(odd_lines(copy.area + step)) {}
};

int64_t steps_of(const Gather<float>& g) { return ceil_div(g.src_channels, step); }

// The largest blocks whose B leaves the second-level cache room for A.
Blocks blocks_of(const Gather<float>& g) {
  for (int64_t pixels = most_pixels;; pixels /= 2) {
    const Blocks found(g, pixels);
    const int64_t bytes = steps_of(g) * SquareKernels::step_lines * found.line * int64_t{sizeof(uint32_t)};
    if (bytes <= most_bytes || pixels <= least_pixels) return found;
  }
}

class GatherSquares {
 public:
  explicit GatherSquares(const Gather<float>& g)
      : g(g), k(*kernels().squares), steps(steps_of(g)), blocks(blocks_of(g)), columns(blocks.columns),
        rows(blocks.rows), copy(blocks.copy), line(blocks.line),
        in_place(can_read_in_place()),
        tap_pairs(steps * SquareKernels::square_pairs),
        row_pairs(g.tap_count() * tap_pairs),
        halves(ceil_div(g.dst_channels, half)),
        kernel(g.kernel_offsets()),
        channels(g.dst_channels, channels_per_item(), step) {}

  void run() {
    const int64_t threads = thread_count(), packed = half * g.reduction();
    Workspace space(Workspace::bytes_for<uint32_t>(g.groups * halves * row_pairs) +
                    threads * (Workspace::bytes_for<float>(std::max(step * line, packed)) +
                               Workspace::bytes_for<uint32_t>(lines()) +
                               Workspace::bytes_for<float>(step * line) +
                               Workspace::bytes_for<SquareTap>(g.tap_count())));
    weights = space.take<uint32_t>(g.groups * halves * row_pairs);
    std::vector<Buffers> buffers;
    for (int64_t t = 0; t < threads; ++t)
      buffers.push_back({space.take<float>(std::max(step * line, packed)), space.take<uint32_t>(lines()),
                         space.take<float>(step * line), space.take<SquareTap>(g.tap_count())});
    parallel_for(g.groups * halves,
                 [&](int64_t index, int64_t thread) { cut_weights(index, buffers[thread].copy); });
    const int64_t items = g.images * g.groups * rows.count() * columns.count() * channels.count;
    parallel_for(items, [&](int64_t item, int64_t thread) { run_item(item, buffers[thread]); });
  }

 private:
  struct Buffers {
    float* copy;
    uint32_t* lines;
    float* results;
    SquareTap* taps;
  };
  using Block = BlockOfChannels;

  // A line of pixels that are read in their own places.
  bool can_read_in_place() const {
    return g.rows == 1 && g.tap_count() == 1 && g.row_taps[0].offset == 0 && g.column_taps[0].offset == 0 &&
           g.step_w == 1 && g.columns <= g.src_w;
  }
  int64_t lines() const { return steps * SquareKernels::step_lines * line; }

  // All of them, unless there are too few blocks for the threads.
  int64_t channels_per_item() const {
    const int64_t blocks = g.images * g.groups * rows.count() * columns.count(), threads = thread_count();
    int64_t parts = 1;  // each cuts the block for itself
    while (blocks * parts % threads != 0 && blocks * parts < 4 * threads) ++parts;
    return ceil_div(g.dst_channels, parts);
  }

  void cut_weights(int64_t index, float* rows_of_k) const {
    const int64_t group = index / halves, m0 = index % halves * half;
    WeightsArguments<float> w{};
    w.to = rows_of_k, w.to_m = g.reduction(), w.to_k = 1, w.to_tap = g.src_channels;
    w.from = g.weight + group * g.weight_group + m0 * g.weight_dst;
    w.from_m = g.weight_dst, w.from_k = g.weight_src;
    w.end = g.weight_end, w.taps = kernel.data(), w.tap_count = g.tap_count();
    w.m_count = std::min(half, g.dst_channels - m0), w.k_count = g.src_channels;
    gemm<float>().pack_weights(w);
    for (int64_t tap = 0; tap < g.tap_count(); ++tap)
      k.cut_rows(rows_of_k + tap * g.src_channels, g.reduction(), w.m_count, g.src_channels,
                 weights + index * row_pairs + tap * tap_pairs);
  }

  void run_item(int64_t item, const Buffers& buffers) const {
    const Block b = Block::at(item, rows, columns, channels, g.groups);
    cut_block(b, buffers);
    multiply_block(b, find_taps(b, buffers.taps), buffers);
  }

  void cut_block(const Block& b, const Buffers& buffers) const {
    const float* from =
        g.src + b.image * g.src_strides.image + b.group * g.src_channels * g.src_strides.channel;
    for (int64_t s = 0; s < steps; ++s) {
      const int64_t planes = std::min(step, g.src_channels - s * step);
      const float* const first = from + s * step * g.src_strides.channel;
      uint32_t* const b_lines = buffers.lines + s * SquareKernels::step_lines * line;
      if (in_place) {
        k.cut_planes(first + b.j0, g.src_strides.channel, planes, b.columns, b_lines, line);
        continue;
      }
      copy_planes(copy, first, g.src_strides, g.src_h, g.src_w, b.i0, b.j0, b.rows, b.columns, planes,
                  buffers.copy, line);
      k.cut_planes(buffers.copy, line, planes, copy.area, b_lines, line);
    }
  }

  // Those that read inside the picture somewhere in the block; at least one, which may read zeros.
  int64_t find_taps(const Block& b, SquareTap* taps) const {
    int64_t count = 0;
    for (size_t u = 0; u < g.row_taps.size(); ++u)
      for (size_t v = 0; v < g.column_taps.size(); ++v) {
        const AxisTap y{g.row_taps[u].offset + b.i0 * g.step_h, 0};
        const AxisTap x{g.column_taps[v].offset + b.j0 * g.step_w, 0};
        const auto index = static_cast<int64_t>(u * g.column_taps.size() + v);
        taps[count] = {index * tap_pairs, copy.tap_at(u, v)};
        if (is_live(y, g.step_h, b.rows, g.src_h) && is_live(x, g.step_w, b.columns, g.src_w)) ++count;
      }
    return std::max<int64_t>(count, 1);
  }

  void multiply_block(const Block& b, int64_t taps, const Buffers& buffers) const {
    const int64_t length = (b.rows - 1) * copy.pitch + b.columns;
    for (int64_t m = b.m0; m < b.m0 + b.m_count; m += step) {
      const int64_t count = std::min(step, b.m0 + b.m_count - m), channel = b.group * g.dst_channels + m;
      for (int64_t i = 0; g.bias && i < count; ++i)
        std::fill_n(buffers.results + i * line, length, g.bias[channel + i]);
      k.multiply({weights + (b.group * halves + m / half) * row_pairs, row_pairs, buffers.lines, line,
                  buffers.taps, taps, steps, count, length, buffers.results, line, g.bias != nullptr});
      for (int64_t i = 0; i < count; ++i) store(b, channel + i, buffers.results + i * line);
    }
  }

  void store(const Block& b, int64_t channel, const float* from) const {
    float* const to = g.dst + b.image * g.dst_strides.image + channel * g.dst_strides.channel +
                      b.i0 * g.dst_strides.row + b.j0 * g.dst_strides.column;
    for (int64_t i = 0; i < b.rows; ++i)
      gemm<float>().spread(to + i * g.dst_strides.row, g.dst_strides.column, from + i * copy.pitch,
                           b.columns, false, g.owns_gaps);
  }

  const Gather<float>& g;
  const SquareKernels& k;
  const int64_t steps;
  const Blocks blocks;
  const Cuts &columns, &rows;
  const BlockCopy& copy;
  const int64_t line;
  const bool in_place;
  const int64_t tap_pairs, row_pairs;
  const int64_t halves;
  const std::vector<int64_t> kernel;
  const Split channels;
  uint32_t* weights = nullptr;
};

}  // namespace

// Cutting must pay.  The source's pixels are cut for all outputs, results pass through memory for all
// inputs (64 to 256 channels of 56 x 56, 1x1: 0.43 ms, 0.35 with fused multiply-adds), weights are cut
// for all pixels (512 to 2048 channels of 7 x 7: 0.60 and 0.51), and copies of the source for taps that
// lie far apart are cut one by one (256 to 64 channels of 33 x 33, dilation 12: 1.63 and 1.27).
bool suits_squares(const Gather<float>& g) {
  constexpr int64_t least_inputs = 192, least_outputs = 96, all_pixels = 150;
  constexpr double least_products = 4e6;
  const int64_t taps = g.tap_count(), pixels = g.rows * g.columns;
  if (kernels().squares == nullptr || g.has_phases() || g.src_strides.column != 1) return false;
  if (g.src_channels < 24 || g.dst_channels < half || pixels < step) return false;
  if (g.reduction() < least_inputs || g.dst_channels * taps < least_outputs) return false;
  if (g.images * pixels < all_pixels || g.products() < least_products) return false;
  const Blocks blocks = blocks_of(g);
  const int64_t used = g.step_h * g.step_w * blocks.rows.longest * blocks.columns.longest;
  return blocks.copy.area <= 3 * used;
}

void run_squares(const Gather<float>& g) { GatherSquares(g).run(); }

}  // namespace fastconv
