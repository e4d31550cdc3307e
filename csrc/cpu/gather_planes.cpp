// Gather GEMM with pixels along vectors: C[m][q] += sum_k W[m][k] * src[k at q].
//
// A block of rows x columns destinations, for `depth` source channels at a time:
//
//   copy      [channel][row band][column band][line][pitch]     a BlockCopy per channel
//   weights   [group][m][channel block][tap][channel]           rows of the reduction, packed once
//
// Destination (i, j) of the block is q = i * pitch + j, and every tap reads at q + a constant, so
// a vector runs on over line ends: the few results that fall between the lines are dropped when
// the tile is stored.  That wastes span / pitch of the work (2 of 58 for a 3x3 at 56 pixels), where
// vectors that stop at line ends would waste 8 of 64.  Where lines fill vectors better, they stop;
// and where a dilation makes the span longer than the lines, each column tap has a copy of its own.
#include "blocking.h"
#include "parallel.h"
#include "workspace.h"

namespace fastconv {
namespace {

constexpr int64_t target_pixels = 1024;  // of a block: amortises the weights' way from L3
constexpr int64_t target_depth = 512;    // products between two visits of a destination
constexpr int64_t rows_per_pack = 16;
constexpr int64_t widest = 1024;  // columns of a block

template <class T>
class Planes {
 public:
  explicit Planes(const Gather<T>& g)
      : g(g),
        k(gemm<T>()),
        channel_split(g.dst_channels, k.rows),
        panel(int64_t{k.lanes} << k.widths[channel_split.part - 1]),
        columns(axis_runs(g.column_taps, g.step_w, g.columns, g.src_w), widest,
                g.columns > widest ? panel : 1),
        rows(axis_runs(g.row_taps, g.step_h, g.rows, g.src_h),
             std::max<int64_t>(target_pixels / columns.longest, 1)),
        copy(g, rows.longest, columns.longest, columns.longest - 1),
        plane(odd_lines(copy.area)),
        depth(g.src_channels, most_depth(), most_depth() >= k.lanes ? k.lanes : 1),
        row_wise(round_up(columns.longest, panel > 2 * k.lanes ? k.lanes : panel) <= copy.pitch),
        collected(collects()),
        result_row(odd_lines(rows.longest * copy.pitch + panel)),
        streamed(depth.count == 1 && dst_bytes() >= stream_bytes),
        weights_in_place(can_use_weights()),
        weight_row(weights_in_place ? g.weight_dst : odd_lines(g.reduction())),
        kernel(g.kernel_offsets()),
        channels(g.dst_channels, channels_per_item()) {}

  void run() {
    const bool serial = is_serial(g);
    const std::size_t packed =
        weights_in_place ? 0 : static_cast<std::size_t>(g.groups * g.dst_channels * weight_row);
    const std::size_t copied = static_cast<std::size_t>(depth.part * plane + panel + copy.pitch);
    const int64_t threads = serial ? 1 : thread_count();
    const std::size_t results = collected ? static_cast<std::size_t>(result_rows() * result_row) : 0;
    Workspace space(Workspace::bytes_for<T>(packed) +
                    (Workspace::bytes_for<T>(copied) + Workspace::bytes_for<T>(results) +
                     Workspace::bytes_for<TapOffset>(g.tap_count())) * threads);
    T* const packing = space.take<T>(packed);
    weights = weights_in_place ? g.weight + kernel[0] : packing;
    std::vector<Buffers> buffers;
    for (int64_t t = 0; t < threads; ++t)
      buffers.push_back({space.take<T>(copied), space.take<T>(results),
                         space.take<TapOffset>(g.tap_count())});
    if (!weights_in_place)
      parallel_for(
          g.groups * packs(), [&](int64_t index, int64_t) { pack_weights(index, packing); },
          threads);
    const int64_t items = g.images * g.groups * rows.count() * columns.count() * channels.count;
    parallel_for(
        items, [&](int64_t item, int64_t thread) { run_item(item, buffers[thread]); }, threads);
  }

 private:
  struct Buffers {
    T *copy, *results;
    TapOffset* taps;
  };
  // Destinations of one phase; dst is its first of the group.
  struct Block : BlockOfChannels {
    T* dst;
  };

  // Whole cache lines, an odd number: equal lines of many planes would else share few cache sets.
  static int64_t odd_lines(int64_t elements) {
    constexpr int64_t line = 64 / sizeof(T);
    return (ceil_div(elements, line) | 1) * line;
  }

  bool is_aligned(const T* at) const {
    return reinterpret_cast<std::uintptr_t>(at) % (k.lanes * sizeof(T)) == 0;
  }

  int64_t most_depth() const {
    const int64_t fitting = copy_bytes / static_cast<int64_t>(plane * sizeof(T));
    return std::max<int64_t>(1, std::min(fitting, target_depth / phase_taps()));
  }

  // Taps of a destination, on the average.
  int64_t phase_taps() const {
    return std::max<int64_t>(1, g.tap_count() / (g.phases_h.count * g.phases_w.count));
  }

  // All of them, unless there are too few blocks for the threads.
  int64_t channels_per_item() const {
    const int64_t blocks = g.images * g.groups * rows.count() * columns.count();
    const int64_t threads = is_serial(g) ? 1 : thread_count();
    int64_t parts = 1;  // each copies the block for itself: no more of them than threads need
    while (blocks * parts % threads != 0 && blocks * parts < 2 * threads) ++parts;
    return round_up(ceil_div(g.dst_channels, parts), channel_split.part);
  }

  // Whole rows of one tap as they are; a multiple of 4 KB apart they would share one cache set.
  bool can_use_weights() const {
    return g.tap_count() == 1 && (g.weight_src == 1 || is_used_once(g)) &&
           (g.groups == 1 || g.weight_group == g.dst_channels * g.weight_dst) &&
           (g.weight_dst * sizeof(T) % 2048 != 0 || g.rows * g.columns < few_pixels);
  }

  // Whether a block's results wait side by side, as the vectors run over line ends, until they are
  // whole: nearly every vector of a narrow picture holds an end.  (256 -> 64 at 33 x 33, dilation 12:
  // 0.70 ms, where each tile was stored apart 0.88.)
  bool collects() const {
    const auto bytes = static_cast<int64_t>(sizeof(T)) * result_rows() *
                       (rows.longest * copy.pitch + panel);
    return !row_wise && !g.has_phases() && g.dst_strides.column == 1 &&
           !(columns.longest == copy.pitch && columns.longest == g.dst_strides.row) &&
           bytes <= copy_bytes;
  }
  int64_t result_rows() const { return depth.count > 1 ? g.dst_channels : channel_split.part; }

  // Of all images: large ones are written around the caches (3 -> 64 at 512 x 512: 2.25 ms, not 2.9).
  int64_t dst_bytes() const {
    const int64_t pixels = g.phases_h.size * g.phases_w.size;
    return g.images * g.groups * g.dst_channels * pixels * static_cast<int64_t>(sizeof(T));
  }

  int64_t packs() const { return ceil_div(g.dst_channels, rows_per_pack); }

  void pack_weights(int64_t index, T* packing) const {
    const int64_t group = index / packs(), m0 = index % packs() * rows_per_pack;
    WeightsArguments<T> w{};
    w.to = packing + (group * g.dst_channels + m0) * weight_row;
    w.to_m = weight_row, w.to_k = 1;
    w.from_m = g.weight_dst, w.from_k = g.weight_src;
    w.end = g.weight_end, w.taps = kernel.data(), w.tap_count = g.tap_count();
    w.m_count = std::min(rows_per_pack, g.dst_channels - m0);
    for (int64_t block = 0; block < depth.count; ++block) {
      w.k_count = w.to_tap = depth.length(block);
      w.from =
          g.weight + group * g.weight_group + m0 * g.weight_dst + depth.begin(block) * g.weight_src;
      k.pack_weights(w);
      w.to += w.k_count * w.tap_count;
    }
  }

  void run_item(int64_t item, const Buffers& buffers) const {
    Block b{BlockOfChannels::at(item, rows, columns, channels, g.groups), nullptr};
    const T* from =
        g.src + b.image * g.src_strides.image + b.group * g.src_channels * g.src_strides.channel;
    for (int64_t part = 0; part < depth.count; ++part) {
      copy_planes(copy, from + depth.begin(part) * g.src_strides.channel, g.src_strides, g.src_h,
                  g.src_w, b.i0, b.j0, b.rows, b.columns, depth.length(part), buffers.copy, plane,
                  g.has_phases() || !reads_inside(b));
      for (int64_t y = 0; y < g.phases_h.count; ++y)
        for (int64_t x = 0; x < g.phases_w.count; ++x)
          run_phase(b, y, x, part, buffers);
    }
    if (streamed)
      k.stream_end();
  }

  void run_phase(Block b, int64_t y, int64_t x, int64_t part, const Buffers& buffers) const {
    b.rows = std::min(b.rows, g.phases_h.length(y) - b.i0);
    b.columns = std::min(b.columns, g.phases_w.length(x) - b.j0);
    b.dst = g.phase_dst(y, x);
    TileArguments<T> t{};
    t.taps = buffers.taps, t.tap_count = find_taps(b, y, x, depth.length(part), buffers.taps);
    t.depth = depth.length(part);
    if (b.rows > 0 && b.columns > 0 && t.tap_count > 0)
      run_block(b, t, part, buffers);
  }

  // Whether the tap reads inside the picture somewhere in the block.
  bool row_reads(const Block& b, const AxisTap& tap) const {
    return is_live({tap.offset + b.i0 * g.step_h, 0}, g.step_h, b.rows, g.src_h);
  }
  bool column_reads(const Block& b, const AxisTap& tap) const {
    return is_live({tap.offset + b.j0 * g.step_w, 0}, g.step_w, b.columns, g.src_w);
  }
  bool reads_inside(const Block& b) const {
    return std::any_of(g.row_taps.begin(), g.row_taps.end(),
                       [&](const AxisTap& tap) { return row_reads(b, tap); }) &&
           std::any_of(g.column_taps.begin(), g.column_taps.end(),
                       [&](const AxisTap& tap) { return column_reads(b, tap); });
  }

  // The taps of phase (y, x) that read inside the picture somewhere in the block; if there is none,
  // one that reads zeros.
  int64_t find_taps(const Block& b, int64_t y, int64_t x, int64_t length, TapOffset* taps) const {
    int64_t count = 0, dead = 0;
    for (size_t u = 0; u < g.row_taps.size(); ++u)
      for (size_t v = 0; v < g.column_taps.size(); ++v) {
        if (g.row_taps[u].phase != y || g.column_taps[v].phase != x)
          continue;
        taps[count] = {static_cast<int64_t>(u * g.column_taps.size() + v) * length,
                       copy.tap_at(u, v)};
        row_reads(b, g.row_taps[u]) && column_reads(b, g.column_taps[v]) ? ++count : ++dead;
      }
    if (count == 0 && dead > 0)
      return 1;
    return count;
  }

  // All tiles of one phase's block, for one part of the source channels.
  void run_block(const Block& b, TileArguments<T>& t, int64_t part, const Buffers& buffers) const {
    const Split m(b.m_count, channel_split.part);
    t.a_row = weight_row, t.a_step = weights_in_place ? g.weight_src : 1, t.b_step = plane;
    t.accumulate = part > 0;
    const int64_t lines = row_wise ? b.rows : 1;
    const int64_t length = row_wise ? b.columns : (b.rows - 1) * copy.pitch + b.columns;
    for (int64_t p = 0; p < m.count; ++p) {
      const int64_t channel = b.group * g.dst_channels + b.m0 + m.begin(p);
      t.a = weights + channel * weight_row + depth.begin(part) * g.tap_count() * t.a_step;
      t.row_start = g.bias && part == 0 ? g.bias + channel : nullptr;
      T* const results = buffers.results + (depth.count > 1 ? m.begin(p) * result_row : 0);
      for (int64_t line = 0; line < lines; ++line)
        for (int64_t q = line * copy.pitch, end = q + length; q < end; q += panel) {
          t.b = buffers.copy + q;
          if (collected)
            run_collected(t, m.length(p), std::min(panel, end - q), results + q);
          else
            run_tile(b, t, channel, m.length(p), q, std::min(panel, end - q));
        }
      if (collected && part + 1 == depth.count)
        store_lines(b, channel, m.length(p), results);
    }
  }

  // log2 of the vectors that take so many pixels.
  int width_for(int64_t q_count) const {
    int width = 0;
    while (q_count > int64_t{k.lanes} << width) ++width;
    return width;
  }

  void run_collected(TileArguments<T>& t, int64_t m_count, int64_t q_count, T* results) const {
    t.c = results, t.c_row = result_row;
    k.tile[width_for(q_count)][m_count - 1](t);
  }

  // The block's lines of some channels, to where they belong.
  void store_lines(const Block& b, int64_t channel, int64_t m_count, const T* results) const {
    LinesArguments<T> l{};
    l.to = b.dst + b.image * g.dst_strides.image + channel * g.dst_strides.channel +
           b.i0 * g.dst_strides.row + b.j0;
    l.to_line = g.dst_strides.row, l.from = results, l.from_line = copy.pitch, l.from_step = 1;
    l.lines = l.last = b.rows, l.length = l.end = b.columns;
    for (int64_t m = 0; m < m_count; ++m, l.to += g.dst_strides.channel, l.from += result_row)
      k.copy_lines(l);
  }

  void run_tile(const Block& b, TileArguments<T>& t, int64_t channel, int64_t m_count, int64_t q,
                int64_t q_count) const {
    T* dst = b.dst + b.image * g.dst_strides.image + channel * g.dst_strides.channel +
             b.i0 * g.dst_strides.row + b.j0 * g.dst_strides.column;
    const int width = width_for(q_count);
    const auto kernel_of_width = k.tile[width][m_count - 1];
    const int64_t i = q / copy.pitch, j = q % copy.pitch;
    const bool dense = b.columns == copy.pitch && b.columns == g.dst_strides.row;
    if (g.dst_strides.column == 1 && q_count == int64_t{k.lanes} << width &&
        (dense || j + q_count <= b.columns)) {
      t.c = dst + i * g.dst_strides.row + j, t.c_row = g.dst_strides.channel;
      t.streamed = streamed && is_aligned(t.c) && t.c_row % k.lanes == 0;
      kernel_of_width(t);
      return;
    }
    alignas(64) T result[32 * 64 / sizeof(T)];
    TileArguments<T> apart = t;
    apart.c = result, apart.c_row = panel, apart.accumulate = apart.streamed = false;
    kernel_of_width(apart);
    for (int64_t m = 0; m < m_count; ++m)
      store_apart(b, dst + m * g.dst_strides.channel, result + m * panel, i, j, q_count,
                  t.accumulate);
  }

  // The results that are destinations, line by line.
  void store_apart(const Block& b, T* dst, const T* from, int64_t i, int64_t j, int64_t count,
                   bool add) const {
    for (int64_t left = count; left > 0; ++i, j = 0) {
      T* to = dst + i * g.dst_strides.row;
      const int64_t in_line = std::min(copy.pitch - j, left),
                    end = std::min(b.columns - j, in_line);
      if (end > 0)
        k.spread(to + j * g.dst_strides.column, g.dst_strides.column, from, end, add, g.owns_gaps);
      from += in_line, left -= in_line;
    }
  }

  const Gather<T>& g;
  const GemmKernelsOf<T>& k;
  const Split channel_split;
  const int64_t panel;  // pixels of a tile
  const Cuts columns, rows;
  const BlockCopy copy;
  const int64_t plane;
  const Split depth;
  const bool row_wise;
  const bool collected;
  const int64_t result_row;
  const bool streamed;
  const bool weights_in_place;
  const int64_t weight_row;
  const std::vector<int64_t> kernel;
  const Split channels;
  const T* weights = nullptr;
};

}  // namespace

template <class T>
void run_planes(const Gather<T>& g) {
  Planes<T>(g).run();
}

template void run_planes(const Gather<float>&);
template void run_planes(const Gather<double>&);

}  // namespace fastconv
