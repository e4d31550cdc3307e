// dW[o, c, u, v] = sum over n, i, j: dy[n, o, i, j] x[n, c, i s + u d - p, j s + v d - p]
//
// For one tap (u, v) that is a GEMM that sums over pixels: dW_uv = dY^T X_uv.  Pictures are taken
// block by block into copies with the channels of a pixel side by side (a BlockCopy of x; dy
// likewise), whatever the layout, so that both operands of the micro-kernel are contiguous and
// one copy of x serves every tap:
//
//   c[m][n] += sum over the block's pixels:  A[pixel][m] * B[pixel at tap][n]
//
// The vector side n is x's channels or dy's, whichever wastes less of its vectors: 3 -> 64 puts
// the 64 there.  Sums are kept as [slice][group][tap][m][n] and written as OIHW at the end.
// Threads share slices of the pixels; large weights are cut into channel chunks instead.  Each
// slice adds its blocks in order and slices are added in order: the result depends on the number
// of threads, not on their timing.
#include <cstddef>

#include "blocking.h"
#include "operations.h"
#include "parallel.h"
#include "pictures.h"
#include "workspace.h"

namespace fastconv {
namespace {

constexpr int64_t block_elements = 128 << 10;  // of dy and x in a block
constexpr int64_t most_pixels = 1024, least_pixels = 64;
constexpr int64_t most_channels = 512;  // of a chunk
constexpr int64_t sums_bytes = 16 << 20;

// The taps of one axis between the first and the last that see the picture somewhere: the others'
// gradients are zero.  A single pixel under 3 x 3 is a 1 x 1 convolution.
struct LiveTaps {
  int64_t first = 0, count = 1;
  LiveTaps(const std::vector<AxisTap>& taps, int64_t stride, int64_t out, int64_t size) {
    const auto live = live_taps(taps, stride, out, size);
    if (!live.empty())
      first = live.front().kernel, count = live.back().kernel - first + 1;
  }
};

// The whole kernel, and where the part of it lies that is computed.
struct Whole {
  int64_t kh, kw, u0, v0;
};

template <class T>
class GradWeight {
 public:
  // `problem` has the kernel's live part.
  GradWeight(const Problem& problem, const Operands& operands, const Whole& whole)
      : g(problem.g),
        whole(whole),
        k(gemm<T>()),
        dy(static_cast<const T*>(operands.a)),
        x(static_cast<const T*>(operands.b)),
        dw(static_cast<T*>(operands.out)),
        dy_strides(picture_strides(problem, g.c_out, g.out_h, g.out_w)),
        x_strides(picture_strides(problem, g.c_in, g.h, g.w)),
        x_is_vector(x_on_vector_side()),
        m_total(x_is_vector ? g.c_out_per_group() : g.c_in_per_group()),
        n_total(x_is_vector ? g.c_in_per_group() : g.c_out_per_group()),
        n_row(round_up(n_total, k.lanes)),
        threads(is_serial() ? 1 : thread_count()),
        columns(g.out_w, pixels()),
        rows(g.out_h, std::max<int64_t>(pixels() / columns.part, 1)),
        merged(merges_columns()),
        x_step(merged > 1 ? g.stride_w : 1),
        copy(Bands(forward_taps(g.kh, g.dil_h, g.pad_top), g.stride_h, rows.part),
             Bands(forward_taps(g.kw, g.dil_w, g.pad_left), g.stride_w / x_step,
                   x_columns(columns.part)),
             rows.part, x_columns(columns.part)),
        slices(blocks(), ceil_div(blocks(), slice_count())),
        m_chunks(m_total, chunk(m_total, !splits_n()), k.rows),
        n_chunks(n_total, chunk(n_total, splits_n()), 2 * k.lanes),
        m_pixel(merged > 1 ? m_total : round_up(m_chunks.part, k.lanes)),
        n_pixel(round_up(n_chunks.part, k.lanes)) {}

  void run() {
    const int64_t dy_copy = rows.part * columns.part * (x_is_vector ? m_pixel : n_pixel);
    const int64_t x_copy = copy.area * (x_is_vector ? n_pixel : m_pixel);
    const int64_t all_sums = slices.count * g.groups * group_sums();
    Workspace space(Workspace::bytes_for<T>(all_sums) +
                    threads * (Workspace::bytes_for<T>(dy_copy) + Workspace::bytes_for<T>(x_copy)));
    sums = space.take<T>(all_sums);
    std::vector<T*> dy_copies, x_copies;
    for (int64_t t = 0; t < threads; ++t) {
      dy_copies.push_back(space.take<T>(dy_copy));
      x_copies.push_back(space.take<T>(x_copy));
    }
    make_lines();
    const int64_t items = slices.count * g.groups * m_chunks.count * n_chunks.count;
    parallel_for(
        items, [&](int64_t item, int64_t t) { run_item(item, dy_copies[t], x_copies[t]); },
        threads);
    const Split outputs(g.c_out_per_group(), k.lanes);
    parallel_for(
        g.groups * outputs.count,
        [&](int64_t item, int64_t) {
          const int64_t part = item % outputs.count;
          write_channels(item / outputs.count, outputs.begin(part), outputs.length(part));
        },
        threads);
  }

 private:
  struct Chunk {
    int64_t slice, group, m0, m_count, n0, n_count;
  };
  struct Block {
    int64_t image, i0, j0, rows, columns;
  };

  bool x_on_vector_side() const {
    const int64_t c = g.c_in_per_group(), o = g.c_out_per_group();
    return round_up(c, k.lanes) * o <= round_up(o, k.lanes) * c;
  }
  // Few channels of x on the side of rows: the taps of one kernel row, side by side in memory, are
  // rows of the same tile (7 x 3 channels make 21 rows where each tap alone would have 3).
  int64_t merges_columns() const {
    return !x_is_vector && m_total < k.rows && g.dil_w == 1 ? g.kw : 1;
  }
  // The columns of x that as many of dy take in the copy, which then holds every column.
  int64_t x_columns(int64_t count) const { return (count - 1) * x_step + 1; }
  double products() const {
    return static_cast<double>(g.n * g.out_h * g.out_w) * g.c_out * g.c_in_per_group() *
           (g.kh * g.kw);
  }
  // Gradients of 2 MB take longer to write than a region costs.
  bool is_serial() const {
    const int64_t bytes = g.c_out * g.c_in_per_group() * whole.kh * whole.kw * int64_t{sizeof(T)};
    return products() < serial_products && bytes < (2 << 20);
  }
  int64_t pixels() const {
    const int64_t channels = std::min(m_total, most_channels) + std::min(n_total, most_channels);
    return std::clamp(block_elements / channels, least_pixels, most_pixels);
  }
  int64_t dy_pixel() const { return x_is_vector ? m_pixel : n_pixel; }
  int64_t x_pixel() const { return x_is_vector ? n_pixel : m_pixel; }
  int64_t blocks() const { return g.n * rows.count * columns.count; }
  int64_t group_sums() const { return g.kh * g.kw * m_total * n_row; }
  int64_t slice_count() const {
    const auto bytes = static_cast<int64_t>(g.groups * group_sums() * sizeof(T));
    const int64_t wanted = threads > 1 ? ceil_div(4 * threads, g.groups) : 1;
    return std::clamp<int64_t>(std::min(wanted, sums_bytes / bytes), 1, blocks());
  }
  // Every chunk of one side copies the other side whole.  That is m's unless the copy of n is much the
  // larger: x's is, where taps lie far apart (256 -> 64 channels, dilation 12: 1.2 instead of 1.7 ms).
  bool splits_n() const {
    const int64_t of_x = copy.area * g.c_in_per_group();
    const int64_t of_dy = rows.part * columns.part * g.c_out_per_group();
    return merged == 1 && (x_is_vector ? of_x > 2 * of_dy : of_dy > 2 * of_x);
  }
  // Smaller chunks where slices and groups alone leave threads without work.
  int64_t chunk(int64_t total, bool is_cut) const {
    const int64_t wanted =
        is_cut && threads > 1 && merged == 1 ? ceil_div(2 * threads, slices.count * g.groups) : 1;
    return std::min(most_channels, ceil_div(total, wanted));
  }

  // A block's lines, as the micro-kernel's taps.
  void make_lines() {
    for (int64_t i = 0; i < rows.part; ++i) {
      const int64_t in_dy = i * columns.part, in_x = i * copy.pitch;
      lines.push_back(
          {(x_is_vector ? in_dy : in_x) * m_pixel, (x_is_vector ? in_x : in_dy) * n_pixel});
    }
  }

  void run_item(int64_t item, T* dy_copy, T* x_copy) const {
    Chunk chunk;
    chunk.n0 = n_chunks.begin(item % n_chunks.count),
    chunk.n_count = n_chunks.length(item % n_chunks.count);
    item /= n_chunks.count;
    chunk.m0 = m_chunks.begin(item % m_chunks.count),
    chunk.m_count = m_chunks.length(item % m_chunks.count);
    item /= m_chunks.count;
    chunk.group = item % g.groups, chunk.slice = item / g.groups;
    const int64_t first = slices.begin(chunk.slice), count = slices.length(chunk.slice);
    for (int64_t index = first; index < first + count; ++index) {
      Block b;
      b.j0 = columns.begin(index % columns.count),
      b.columns = columns.length(index % columns.count);
      const int64_t rest = index / columns.count;
      b.i0 = rows.begin(rest % rows.count), b.rows = rows.length(rest % rows.count);
      b.image = rest / rows.count;
      copy_block(chunk, b, dy_copy, x_copy);
      add_block(chunk, b, x_is_vector ? dy_copy : x_copy, x_is_vector ? x_copy : dy_copy,
                index > first);
    }
  }

  void copy_block(const Chunk& chunk, const Block& b, T* dy_copy, T* x_copy) const {
    const int64_t o0 = chunk.group * g.c_out_per_group() + (x_is_vector ? chunk.m0 : chunk.n0);
    const int64_t c0 = chunk.group * g.c_in_per_group() + (x_is_vector ? chunk.n0 : chunk.m0);
    const int64_t o_count = x_is_vector ? chunk.m_count : chunk.n_count;
    const int64_t c_count = x_is_vector ? chunk.n_count : chunk.m_count;
    const T* from =
        dy + b.image * dy_strides.image + o0 * dy_strides.channel + b.j0 * dy_strides.column;
    for (int64_t i = 0; i < b.rows; ++i)
      k.copy_matrix(dy_copy + i * columns.part * dy_pixel(), dy_pixel(),
                    from + (b.i0 + i) * dy_strides.row, dy_strides.column, dy_strides.channel,
                    b.columns, o_count);
    copy_pixels(copy, x + b.image * x_strides.image + c0 * x_strides.channel, x_strides, g.h, g.w,
                b.i0, b.j0 * x_step, b.rows, x_columns(b.columns), c_count, x_copy, x_pixel());
  }

  // The block's destinations that a tap reads inside the picture, as lines and columns; all of them
  // where leaving the others out saves less than an eighth, and at least one.
  struct Live {
    int64_t i, rows, j, columns;
  };
  Live live_part(const Block& b, int64_t tap) const {
    const int64_t y = b.i0 * g.stride_h + tap / g.kw * g.dil_h - g.pad_top;
    const int64_t x0 = b.j0 * g.stride_w + tap % g.kw * g.dil_w - g.pad_left;
    const Inside i(y, g.stride_h, g.h, b.rows), j(x0, g.stride_w, g.w, b.columns);
    const Live all{0, b.rows, 0, b.columns}, live{i.begin, i.end - i.begin, j.begin, j.end - j.begin};
    if (merged > 1 || 8 * live.rows * live.columns > 7 * b.rows * b.columns)
      return all;
    return live.rows > 0 && live.columns > 0 ? live : Live{0, 1, 0, 1};
  }

  void add_block(const Chunk& chunk, const Block& b, const T* a, const T* vectors,
                 bool accumulate) const {
    TileArguments<T> t{};
    t.a_row = 1, t.a_step = x_step * m_pixel, t.b_step = n_pixel, t.c_row = n_row,
    t.accumulate = accumulate;
    const Split m(chunk.m_count * merged, k.rows);
    for (int64_t tap = 0; tap < g.kh * g.kw; tap += merged) {
      const Live live = live_part(b, tap);
      const bool dense = copy.pitch == live.columns && columns.part == live.columns;
      t.taps = lines.data() + live.i, t.tap_count = dense ? 1 : live.rows;
      t.depth = dense ? live.rows * live.columns : live.columns;
      const int64_t at =
          copy.tap_at(static_cast<size_t>(tap / g.kw), static_cast<size_t>(tap % g.kw)) * x_pixel();
      const int64_t in_dy = live.j * dy_pixel(), in_x = at + live.j * x_step * x_pixel();
      const T* rows_from = a + (x_is_vector ? in_dy : in_x);
      const T* columns_from = vectors + (x_is_vector ? in_x : in_dy);
      T* to = sums + (chunk.slice * g.groups + chunk.group) * group_sums() + tap * m_total * n_row;
      for (int64_t p = 0; p < m.count; ++p)
        for (int64_t n = 0; n < chunk.n_count; n += 2 * k.lanes) {
          t.a = rows_from + m.begin(p), t.b = columns_from + n;
          t.c = to + (chunk.m0 + m.begin(p)) * n_row + chunk.n0 + n;
          k.tile[chunk.n_count - n > k.lanes][m.length(p) - 1](t);
        }
    }
  }

  // dW of `count` outputs of a group: the slices' sums, from [tap][m][n] to [o][c][tap].
  void write_channels(int64_t group, int64_t o, int64_t count) const {
    const int64_t c_count = g.c_in_per_group(), taps = g.kh * g.kw, tap_row = m_total * n_row;
    T* const from = sums + group * group_sums() + o * (x_is_vector ? n_row : 1);
    add_slices(from, count);
    if (taps != whole.kh * whole.kw)
      return write_part(from, group * g.c_out_per_group() + o, count);
    T* const to = dw + (group * g.c_out_per_group() + o) * c_count * taps;
    if (x_is_vector) {
      for (int64_t i = 0; i < count; ++i)
        if (taps == 1)
          std::copy(from + i * n_row, from + i * n_row + c_count, to + i * c_count);
        else
          k.copy_matrix(to + i * c_count * taps, taps, from + i * n_row, 1, tap_row, c_count, taps);
    } else if (taps == 1) {
      k.copy_matrix(to, c_count, from, 1, n_row, count, c_count);
    } else {
      for (int64_t c = 0; c < c_count; ++c)
        k.copy_matrix(to + c * taps, c_count * taps, from + c * n_row, 1, tap_row, count, taps);
    }
  }

  // The same where the other taps' gradients are zero.
  void write_part(const T* from, int64_t o, int64_t count) const {
    const int64_t c_count = g.c_in_per_group(), taps = whole.kh * whole.kw;
    const int64_t of_o = x_is_vector ? n_row : 1, of_c = x_is_vector ? 1 : n_row;
    T* to = dw + o * c_count * taps;
    for (int64_t i = 0; i < count; ++i, to += c_count * taps) {
      std::fill_n(to, c_count * taps, T{0});
      for (int64_t tap = 0; tap < g.kh * g.kw; ++tap) {
        const T* sum = from + i * of_o + tap * m_total * n_row;
        T* const at = to + (whole.u0 + tap / g.kw) * whole.kw + whole.v0 + tap % g.kw;
        for (int64_t c = 0; c < c_count; ++c) at[c * taps] = sum[c * of_c];
      }
    }
  }

  // All slices' sums of `count` outputs into the first slice's.
  void add_slices(T* first, int64_t count) const {
    const int64_t lines = x_is_vector ? count : m_total, length = x_is_vector ? n_total : count;
    for (int64_t slice = 1; slice < slices.count; ++slice)
      for (int64_t tap = 0; tap < g.kh * g.kw; ++tap)
        for (int64_t line = 0; line < lines; ++line) {
          T* const to = first + (tap * m_total + line) * n_row;
          k.spread(to, 1, to + slice * g.groups * group_sums(), length, true, false);
        }
  }

  const Geometry g;
  const Whole whole;
  const GemmKernelsOf<T>& k;
  const T *dy, *x;
  T* dw;
  const Strides dy_strides, x_strides;
  const bool x_is_vector;
  const int64_t m_total, n_total, n_row;
  const int64_t threads;
  const Split columns, rows;
  const int64_t merged;  // kernel columns in one tile
  const int64_t x_step;  // pixels of the copy of x from one destination to the next
  const BlockCopy copy;
  const Split slices, m_chunks, n_chunks;
  const int64_t m_pixel, n_pixel;  // pitch of a pixel in the copies
  std::vector<TapOffset> lines;
  T* sums = nullptr;
};

template <class T>
void run(const Problem& problem, const Operands& operands) {
  const Geometry& g = problem.g;
  const LiveTaps u(forward_taps(g.kh, g.dil_h, g.pad_top), g.stride_h, g.out_h, g.h);
  const LiveTaps v(forward_taps(g.kw, g.dil_w, g.pad_left), g.stride_w, g.out_w, g.w);
  Problem live = problem;
  live.g.kh = u.count, live.g.pad_top -= u.first * g.dil_h;
  live.g.kw = v.count, live.g.pad_left -= v.first * g.dil_w;
  GradWeight<T>(live, operands, {g.kh, g.kw, u.first, v.first}).run();
}

}  // namespace

void grad_weight_general(const Problem& problem, const Operands& operands) {
  problem.dtype == DType::f32 ? run<float>(problem, operands) : run<double>(problem, operands);
}

}  // namespace fastconv
