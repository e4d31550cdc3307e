// Gather GEMM with destination channels along vectors: C[pixel][n] += sum_k src[pixel at k]
// W[k][n].
//
// A block of rows x columns destinations, for `depth` source channels at a time:
//
//   copy      [row band][column band][line][pitch][channel]            a BlockCopy of pixels
//   weights   [group][panel of n][channel block][tap][channel][n]      packed once
//
// A tile is a few pixels of one line times two vectors of channels.  Where the source has its
// channels side by side and no tap leaves the picture (1x1), it is read in place.
#include "blocking.h"
#include "parallel.h"
#include "workspace.h"

namespace fastconv {
namespace {

constexpr int64_t target_pixels = 256;
constexpr int64_t target_depth = 768;
constexpr int64_t widest = 256;

template <class T>
bool reads_inside(const Gather<T>& g) {
  const auto inside = [](const std::vector<AxisTap>& taps, int64_t last, int64_t size) {
    for (const AxisTap& tap : taps)
      if (tap.offset < 0 || tap.offset + last >= size)
        return false;
    return true;
  };
  return inside(g.row_taps, (g.rows - 1) * g.step_h, g.src_h) &&
         inside(g.column_taps, (g.columns - 1) * g.step_w, g.src_w);
}

template <class T>
class Pixels {
 public:
  explicit Pixels(const Gather<T>& g)
      : g(g),
        k(gemm<T>()),
        panel(2 * k.lanes),
        columns(g.columns, widest),
        rows(g.rows, std::max<int64_t>(target_pixels / columns.part, 1)),
        copy(g, rows.part, columns.part),
        depth(g.src_channels, most_depth(), most_depth() >= k.lanes ? k.lanes : 1),
        in_place(can_read_in_place()),
        pixel(in_place ? g.step_w * g.src_strides.column : spread(depth.part)),
        line(in_place ? g.step_h * g.src_strides.row : copy.pitch * pixel),
        panels(ceil_div(g.dst_channels, panel)),
        weights_in_place(can_use_weights()),
        weight_step(weights_in_place ? g.weight_src : panel),
        kernel(g.kernel_offsets()),
        panels_per_item(panels, item_panels()) {
    for (int last = 0; last < 2; ++last) {
      const int64_t length = depth.length(last ? depth.count - 1 : 0);
      for (size_t u = 0; u < g.row_taps.size(); ++u)
        for (size_t v = 0; v < g.column_taps.size(); ++v) {
          const auto tap = static_cast<int64_t>(taps[last].size());
          const int64_t at = in_place ? g.row_taps[u].offset * g.src_strides.row +
                                            g.column_taps[v].offset * g.src_strides.column
                                      : copy.tap_at(u, v) * pixel;
          taps[last].push_back({at, tap * length * panel});
        }
    }
  }

  void run() {
    const int64_t threads = g.products() < serial_products ? 1 : thread_count();
    const std::size_t packed =
        weights_in_place ? 0 : static_cast<std::size_t>(g.groups * panels * g.reduction() * panel);
    const std::size_t copied = static_cast<std::size_t>(in_place ? 0 : copy.area * pixel);
    Workspace space(Workspace::bytes_for<T>(packed) + Workspace::bytes_for<T>(copied) * threads);
    T* const packing = space.take<T>(packed);
    weights = weights_in_place ? g.weight : packing;
    std::vector<T*> copies;
    for (int64_t t = 0; t < threads; ++t) copies.push_back(space.take<T>(copied));
    if (!weights_in_place)
      parallel_for(
          g.groups * panels, [&](int64_t index, int64_t) { pack_weights(index, packing); },
          threads);
    const int64_t items = g.images * g.groups * rows.count * columns.count * panels_per_item.count;
    parallel_for(
        items, [&](int64_t item, int64_t thread) { run_item(item, copies[thread]); }, threads);
  }

 private:
  struct Block {
    int64_t image, group, i0, j0, rows, columns, panel0, panel_count;
  };

  // Rows of a tile that are a multiple of 2 KB apart would share few cache sets.
  static int64_t spread(int64_t elements) {
    constexpr int64_t line = 64 / sizeof(T);
    return elements * sizeof(T) % 2048 ? elements : elements + line;
  }

  bool can_read_in_place() const {
    const int64_t apart = g.step_w * g.src_strides.column * static_cast<int64_t>(sizeof(T));
    return g.src_strides.channel == 1 && apart % 4096 && reads_inside(g);
  }

  int64_t most_depth() const {
    const int64_t fitting = copy_bytes / static_cast<int64_t>(copy.area * sizeof(T));
    return std::max<int64_t>(1, std::min(fitting, target_depth / g.tap_count()));
  }

  int64_t item_panels() const {
    const int64_t blocks = g.images * g.groups * rows.count * columns.count;
    const int64_t threads = g.products() < serial_products ? 1 : thread_count();
    return threads > 1 ? ceil_div(panels, std::max<int64_t>(1, 2 * threads / blocks)) : panels;
  }

  // One tap whose destination channels lie side by side: 1x1 backward.
  bool can_use_weights() const {
    return g.tap_count() == 1 && g.weight_dst == 1 && g.dst_channels % k.lanes == 0;
  }

  void pack_weights(int64_t index, T* packing) const {
    const int64_t n0 = index % panels * panel;
    WeightsArguments<T> w{};
    w.to = packing + index * g.reduction() * panel;
    w.to_m = 1, w.to_k = panel;
    w.from_m = g.weight_dst, w.from_k = g.weight_src;
    w.end = g.weight_end, w.taps = kernel.data(), w.tap_count = g.tap_count();
    w.m_count = std::min(panel, g.dst_channels - n0);
    if (w.m_count < panel)
      std::fill(w.to, w.to + g.reduction() * panel, T{0});
    for (int64_t block = 0; block < depth.count; ++block) {
      w.k_count = depth.length(block), w.to_tap = w.k_count * panel;
      w.from = g.weight + index / panels * g.weight_group + n0 * g.weight_dst +
               depth.begin(block) * g.weight_src;
      k.pack_weights(w);
      w.to += w.to_tap * w.tap_count;
    }
  }

  void run_item(int64_t item, T* buffer) const {
    Block b;
    b.panel0 = panels_per_item.begin(item % panels_per_item.count);
    b.panel_count = panels_per_item.length(item % panels_per_item.count);
    item /= panels_per_item.count;
    b.j0 = columns.begin(item % columns.count), b.columns = columns.length(item % columns.count);
    item /= columns.count;
    b.i0 = rows.begin(item % rows.count), b.rows = rows.length(item % rows.count);
    item /= rows.count;
    b.group = item % g.groups, b.image = item / g.groups;
    const T* image =
        g.src + b.image * g.src_strides.image + b.group * g.src_channels * g.src_strides.channel;
    for (int64_t part = 0; part < depth.count; ++part) {
      const T* from = image + depth.begin(part) * g.src_strides.channel;
      if (in_place) {
        from += b.i0 * line + b.j0 * pixel;
      } else {
        copy_pixels(copy, from, g.src_strides, g.src_h, g.src_w, b.i0, b.j0, b.rows, b.columns,
                    depth.length(part), buffer, pixel);
        from = buffer;
      }
      run_block(b, part, from);
    }
  }

  // All tiles of one block, for one part of the source channels.
  void run_block(const Block& b, int64_t part, const T* from) const {
    const auto& table = taps[part == depth.count - 1];
    TileArguments<T> t{};
    t.taps = table.data(), t.tap_count = static_cast<int64_t>(table.size());
    t.depth = depth.length(part);
    t.a_row = pixel, t.a_step = 1, t.b_step = weight_step;
    t.accumulate = part > 0;
    // Lines that follow each other without a gap, in the source and the destination, are one.
    const bool dense =
        line == b.columns * pixel && g.dst_strides.row == b.columns * g.dst_strides.column;
    const int64_t lines = dense ? 1 : b.rows, length = dense ? b.rows * b.columns : b.columns;
    const Split m(length, k.rows);
    T* dst = g.dst + b.image * g.dst_strides.image + b.i0 * g.dst_strides.row +
             b.j0 * g.dst_strides.column;
    for (int64_t p = b.panel0; p < b.panel0 + b.panel_count; ++p) {
      const int64_t channel = b.group * g.dst_channels + p * panel;
      t.b = weights +
            (weights_in_place
                 ? b.group * g.weight_group + p * panel + depth.begin(part) * g.weight_src
                 : ((b.group * panels + p) * g.reduction() + depth.begin(part) * g.tap_count()) *
                       panel);
      t.column_start = g.bias && part == 0 ? g.bias + channel : nullptr;
      for (int64_t i = 0; i < lines; ++i)
        for (int64_t j = 0; j < m.count; ++j) {
          t.a = from + i * line + m.begin(j) * pixel;
          run_tile(t,
                   dst + channel * g.dst_strides.channel + i * g.dst_strides.row +
                       m.begin(j) * g.dst_strides.column,
                   m.length(j), std::min(panel, g.dst_channels - p * panel));
        }
    }
  }

  void run_tile(TileArguments<T>& t, T* dst, int64_t pixels, int64_t n_count) const {
    const int vectors = n_count <= k.lanes ? 1 : 2;
    const auto kernel_of_size = k.tile[vectors - 1][pixels - 1];
    if (g.dst_strides.channel == 1 && n_count == vectors * k.lanes) {
      t.c = dst, t.c_row = g.dst_strides.column;
      kernel_of_size(t);
      return;
    }
    alignas(64) T result[GemmKernelsOf<T>::most_rows * 2 * 16];
    TileArguments<T> apart = t;
    apart.c = result, apart.c_row = panel, apart.accumulate = false, apart.column_start = nullptr;
    kernel_of_size(apart);
    for (int64_t m = 0; m < pixels; ++m)
      for (int64_t n = 0; n < n_count; ++n) {
        T& to = dst[m * g.dst_strides.column + n * g.dst_strides.channel];
        const T start = t.accumulate ? to : t.column_start ? t.column_start[n] : T{0};
        to = start + result[m * panel + n];
      }
  }

  const Gather<T>& g;
  const GemmKernelsOf<T>& k;
  const int64_t panel;
  const Split columns, rows;
  const BlockCopy copy;
  const Split depth;
  const bool in_place;
  const int64_t pixel, line;  // steps between the tile's pixels and lines, in the copy or in place
  const int64_t panels;
  const bool weights_in_place;
  const int64_t weight_step;
  const std::vector<int64_t> kernel;
  const Split panels_per_item;
  std::vector<TapOffset> taps[2];  // of a whole part of the source channels, and of the last part
  const T* weights = nullptr;
};

}  // namespace

template <class T>
void run_pixels(const Gather<T>& g) {
  Pixels<T>(g).run();
}

template void run_pixels(const Gather<float>&);
template void run_pixels(const Gather<double>&);

}  // namespace fastconv
