// The blocking of Winograd's gradient to the weights (equations: the kernels' file).
//
// Threads transform a chunk of tiles, x and dy alike, into V and W, which live in the third-level
// cache; then they share out the elements e and blocks of output channels.  Each such piece
// of dU belongs to one thread at a time, so that there is nothing to add up in the end.
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

struct Plan {
  Tiles tiles;
  int64_t k_blocks, o_blocks, inputs;  // inputs: padded to panels
  int64_t chunk;
  TileStrides v, w;
  int64_t du_element;

  Plan(int tile, const Geometry& g)
      : tiles(tile, g.n, g.out_h, g.out_w),
        k_blocks(ceil_div(g.c_in, block_width)),
        o_blocks(ceil_div(g.c_out, block_width)) {
    const int64_t panel = std::max<int64_t>(kernels().winograd_sums->panel, block_width);
    inputs = ceil_div(g.c_in, panel) * panel;
    k_blocks = inputs / block_width;
    // V and W together about 3 MB (12 MB took 20 % longer, and at times twice as long, where others
    // share the third-level cache), but enough tiles for dU to be worth passing through.
    const int64_t each = tiles.elements() * (k_blocks + o_blocks) * block_width * sizeof(float);
    chunk = std::min(std::max((int64_t{3} << 20) / each, kernels().winograd_sums->tiles), tiles.count);
    v = strides_for(k_blocks, chunk);
    w = strides_for(o_blocks, chunk);
    du_element = o_blocks * block_width * inputs + block_width;
  }

  int64_t v_floats() const { return tiles.elements() * v.element; }
  int64_t w_floats() const { return tiles.elements() * w.element; }
  int64_t du_floats() const { return tiles.elements() * du_element; }
  int64_t room_floats() const {
    const OuterProducts& sums = *kernels().winograd_sums;
    return sums.room(sums.rows, inputs);
  }
};

void transform_picture(const Picture& x, const Geometry& g, const Plan& p, int64_t first, int64_t last,
                       int64_t block, float* v, float* strip) {
  if (block * block_width < x.channels) {
    transform_input(x, nullptr, g.pad_top, g.pad_left, p.tiles, first, last, block, v, p.v, strip);
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

void add_chunk(const Plan& p, bool fresh, int64_t tiles, const float* v, const float* w, float* du,
               float* rooms) {
  const OuterProducts& sums = *kernels().winograd_sums;
  const int64_t outputs = p.o_blocks * block_width, parts = ceil_div(outputs, sums.rows);
  parallel_for(p.tiles.elements() * parts, [&](int64_t index, int64_t thread) {
    const int64_t e = index / parts, first = index % parts * sums.rows;
    sums.add({w + e * p.w.element + first / block_width * p.w.block, v + e * p.v.element,
              du + e * p.du_element + first * p.inputs, tiles, std::min(sums.rows, outputs - first),
              p.inputs, p.w.block, p.v.block, p.inputs, fresh, rooms + thread * p.room_floats()});
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
  const Picture dy = picture_of(problem, operands.a, g.c_out, g.out_h, g.out_w);
  const Picture x = picture_of(problem, operands.b, g.c_in, g.h, g.w);
  const int64_t threads = thread_count();
  const int64_t floats = p.v_floats() + p.w_floats() + p.du_floats() +
                         threads * (Strip::floats + p.room_floats());
  Workspace space(Workspace::bytes_for<float>(floats));
  float* v = space.take<float>(floats);
  float* w = v + p.v_floats();
  float* du = w + p.w_floats();
  float* strips = du + p.du_floats();
  float* rooms = strips + threads * Strip::floats;
  for (int64_t first = 0; first < p.tiles.count; first += p.chunk) {
    const int64_t last = std::min(first + p.chunk, p.tiles.count);
    parallel_for(p.k_blocks + p.o_blocks, [&](int64_t index, int64_t thread) {
      float* strip = strips + thread * Strip::floats;
      if (index < p.k_blocks)
        transform_picture(x, g, p, first, last, index, v, strip);
      else
        transform_gradient(dy, p, first, last, index - p.k_blocks, w, strip);
    });
    add_chunk(p, first == 0, last - first, v, w, du, rooms);
  }
  collect(p, g, du, static_cast<float*>(operands.out));
}

}  // namespace

void winograd_f4_grad_weight(const Problem& p, const Operands& o) { grad_weight(4, p, o); }
void winograd_f6_grad_weight(const Problem& p, const Operands& o) { grad_weight(6, p, o); }

}  // namespace fastconv
