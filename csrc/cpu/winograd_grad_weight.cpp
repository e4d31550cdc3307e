// The blocking of Winograd's gradient to the weights (equations: the kernels' file).
//
// x and dy are transformed into V and W chunk by chunk of tiles, and their products added to dU.  Two
// schedules:
//
//   own     Few channels and many tiles.  A thread has its share of the chunks, and a dU of its own:
//           all three stay in its second-level cache.  The dUs are added in the end, in order, so that
//           the result does not depend on which thread was faster.
//   shared  Threads transform a large chunk together, whose V and W live in the third-level cache; then
//           they share out the elements e and blocks of output channels.  Each such piece of dU
//           belongs to one thread at a time, so that there is nothing to add up in the end.
#include <algorithm>

#include "parallel.h"
#include "winograd.h"
#include "winograd_tiles.h"
#include "workspace.h"

namespace fastconv {
namespace {

const WinogradGradWeight& kernels_of(int tile) {
  return tile == 4 ? *kernels().winograd_grad_weight_f4 : *kernels().winograd_grad_weight_f6;
}

// Of `own`: tiles of a chunk, and the most that a dU may take.  64 to 64 channels at 512 x 512 on a Xeon,
// medians of runs: 41 to 50 ms, with 64 tiles 55 to 60, with 128 53 to 64, shared 70 to 79.  64 to 128
// channels, with 1.2 MB of dU, gain nothing.
constexpr int64_t own_tiles = 32, own_bytes = 640 << 10;

struct Plan {
  Tiles tiles;
  int64_t k_blocks, o_blocks, inputs;  // inputs: padded to panels
  bool own;
  int64_t chunk, chunks;
  TileStrides v, w;
  int64_t du_rows, du_element;

  Plan(int tile, const Geometry& g)
      : tiles(tile, g.n, g.out_h, g.out_w),
        k_blocks(ceil_div(g.c_in, block_width)),
        o_blocks(ceil_div(g.c_out, block_width)) {
    const int64_t panel = std::max<int64_t>(kernels().outer_products->panel, block_width);
    inputs = ceil_div(g.c_in, panel) * panel;
    k_blocks = inputs / block_width;
    // V and W together about 3 MB (12 MB took 20 % longer, and at times twice as long, where others
    // share the third-level cache), but enough tiles for dU to be worth passing through.
    const int64_t each = tiles.elements() * (k_blocks + o_blocks) * block_width * sizeof(float);
    chunk = std::min(std::max((int64_t{3} << 20) / each, kernels().outer_products->tiles), tiles.count);
    du_rows = o_blocks * block_width;
    own = tiles.elements() * du_rows * inputs * int64_t{sizeof(float)} <= own_bytes &&
          tiles.count >= 8 * own_tiles * thread_count();
    if (own) chunk = own_tiles;
    chunks = ceil_div(tiles.count, chunk);
    v = strides_for(k_blocks, chunk);
    w = strides_for(o_blocks, chunk);
    du_element = du_rows * inputs + block_width;
  }

  int64_t v_floats() const { return tiles.elements() * v.element; }
  int64_t w_floats() const { return tiles.elements() * w.element; }
  int64_t du_floats() const { return tiles.elements() * du_element; }
  // What each thread has beside V, W and dU.
  int64_t share_floats() const {
    const OuterProducts& sums = *kernels().outer_products;
    return Strip::floats + sums.room(sums.rows, inputs);
  }
};

struct Job {
  const Geometry& g;
  Picture x, dy;
};

void transform_picture(const Job& job, const Plan& p, int64_t first, int64_t last, int64_t block,
                       float* v, float* strip) {
  if (block * block_width < job.x.channels) {
    transform_input(job.x, nullptr, job.g.pad_top, job.g.pad_left, p.tiles, first, last, block, v, p.v,
                    strip);
    return;
  }
  for (int64_t e = 0; e < p.tiles.elements(); ++e)  // the last panel's padding
    std::fill_n(v + e * p.v.element + block * p.v.block, (last - first) * block_width, 0.f);
}

void transform_gradient(const Picture& dy, const Plan& p, int64_t first, int64_t last,
                        int64_t block, float* w, float* strip) {
  for_strips(p.tiles, first, last, block, [&](const Window& window, int64_t position, int64_t tiles) {
    kernels().picture->gather(dy, window, strip);
    kernels_of(p.tiles.tile).gradient(strip, tiles,
                                      w + block * p.w.block + position * block_width, p.w.element);
  });
}

// Of the tiles first ... last, one block of V or of W.
void transform(const Job& job, const Plan& p, int64_t first, int64_t last, int64_t index, float* v,
               float* w, float* strip) {
  if (index < p.k_blocks)
    transform_picture(job, p, first, last, index, v, strip);
  else
    transform_gradient(job.dy, p, first, last, index - p.k_blocks, w, strip);
}

// As many rows of one element of dU as the kernel takes, `first` the first one.
void add_rows(const Plan& p, int64_t e, int64_t first, bool fresh, int64_t tiles, const float* v,
              const float* w, float* du, float* room) {
  const OuterProducts& sums = *kernels().outer_products;
  sums.add({w + e * p.w.element + first / block_width * p.w.block, v + e * p.v.element,
            du + e * p.du_element + first * p.inputs, tiles, std::min(sums.rows, p.du_rows - first),
            p.inputs, p.w.block, p.v.block, p.inputs, fresh, room});
}

void run_shared(const Job& job, const Plan& p, float* v, float* w, float* du, float* shares) {
  const int64_t rows = kernels().outer_products->rows, parts = ceil_div(p.du_rows, rows);
  const auto strip = [&](int64_t thread) { return shares + thread * p.share_floats(); };
  for (int64_t first = 0; first < p.tiles.count; first += p.chunk) {
    const int64_t last = std::min(first + p.chunk, p.tiles.count);
    parallel_for(p.k_blocks + p.o_blocks, [&](int64_t index, int64_t thread) {
      transform(job, p, first, last, index, v, w, strip(thread));
    });
    parallel_for(p.tiles.elements() * parts, [&](int64_t index, int64_t thread) {
      add_rows(p, index / parts, index % parts * rows, first == 0, last - first, v, w, du,
               strip(thread) + Strip::floats);
    });
  }
}

// Leaves the sum in the first part's dU, which `work` begins with.
void run_own(const Job& job, const Plan& p, float* work) {
  const int64_t parts = thread_count(), rows = kernels().outer_products->rows;
  const int64_t share = p.du_floats() + p.v_floats() + p.w_floats() + p.share_floats();
  parallel_for(parts, [&](int64_t part, int64_t) {
    float* const du = work + part * share;
    float* const v = du + p.du_floats();
    float* const w = v + p.v_floats();
    float* const strip = w + p.w_floats();
    const int64_t begin = part * p.chunks / parts, end = (part + 1) * p.chunks / parts;
    for (int64_t c = begin; c < end; ++c) {
      const int64_t first = c * p.chunk, last = std::min(first + p.chunk, p.tiles.count);
      for (int64_t index = 0; index < p.k_blocks + p.o_blocks; ++index)
        transform(job, p, first, last, index, v, w, strip);
      for (int64_t e = 0; e < p.tiles.elements(); ++e)
        for (int64_t row = 0; row < p.du_rows; row += rows)
          add_rows(p, e, row, c == begin, last - first, v, w, du, strip + Strip::floats);
    }
  });
  parallel_for(p.tiles.elements(), [&](int64_t e, int64_t) {
    float* const to = work + e * p.du_element;
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t i = 0; i < p.du_rows * p.inputs; ++i) to[i] += to[part * share + i];
  });
}

// dw from dU, row by row of both.
void collect(const Plan& p, const Geometry& g, const float* du, float* dw) {
  const WinogradGradWeight& kernels = kernels_of(p.tiles.tile);
  parallel_for(p.o_blocks, [&](int64_t block, int64_t) {
    const int64_t first = block * block_width, last = std::min(first + block_width, g.c_out);
    for (int64_t o = first; o < last; ++o)
      for (int64_t k = 0; k < g.c_in; k += block_width)
        kernels.weights(du + o * p.inputs + k, p.du_element, std::min(block_width, g.c_in - k),
                        dw + (o * g.c_in + k) * 9);
  });
}

void grad_weight(int tile, const Problem& problem, const Operands& operands) {
  const Geometry& g = problem.g;
  const Plan p(tile, g);
  const Job job{g, picture_of(problem, operands.b, g.c_in, g.h, g.w),
                picture_of(problem, operands.a, g.c_out, g.out_h, g.out_w)};
  const int64_t whole = p.du_floats() + p.v_floats() + p.w_floats();
  const int64_t floats = thread_count() * p.share_floats() + whole * (p.own ? thread_count() : 1);
  Workspace space(Workspace::bytes_for<float>(floats));
  float* const du = space.take<float>(floats);
  float* const v = du + p.du_floats();
  float* const w = v + p.v_floats();
  if (p.own)
    run_own(job, p, du);
  else
    run_shared(job, p, v, w, du, w + p.w_floats());
  collect(p, g, du, static_cast<float*>(operands.out));
}

}  // namespace

void winograd_f4_grad_weight(const Problem& p, const Operands& o) { grad_weight(4, p, o); }
void winograd_f6_grad_weight(const Problem& p, const Operands& o) { grad_weight(6, p, o); }

}  // namespace fastconv
