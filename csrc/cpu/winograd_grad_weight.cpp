// The blocking of Winograd's gradient to the weights (equations: the kernels' file).
//
// Threads transform a chunk of tiles, x and dy alike, into V and W, which live in the third-level
// cache; then they share out the elements e and blocks of 16 input channels.  Each such piece
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
  int64_t k_blocks, o_blocks, outputs;  // outputs: padded to panels
  int64_t chunk;
  TileStrides v, w;
  int64_t du_element;

  Plan(int tile, const Geometry& g)
      : tiles(tile, g.n, g.out_h, g.out_w),
        k_blocks(ceil_div(g.c_in, block_width)),
        o_blocks(ceil_div(g.c_out, block_width)) {
    const int64_t panel = std::max<int64_t>(kernels_of(tile).panel, block_width);
    outputs = ceil_div(g.c_out, panel) * panel;
    o_blocks = outputs / block_width;
    // V and W together about 12 MB, but enough tiles for dU to be worth passing through.
    const int64_t each = tiles.elements() * (k_blocks + o_blocks) * block_width * sizeof(float);
    chunk = std::min(std::max<int64_t>((12 << 20) / each, 256), tiles.count);
    v = strides_for(k_blocks, chunk);
    w = strides_for(o_blocks, chunk);
    du_element = k_blocks * block_width * outputs + block_width;
  }

  int64_t v_floats() const { return tiles.elements() * v.element; }
  int64_t w_floats() const { return tiles.elements() * w.element; }
  int64_t du_floats() const { return tiles.elements() * du_element; }
};

void transform_gradient(const Picture& dy, const Plan& p, int64_t first, int64_t last,
                        int64_t block, float* w, float* strip) {
  if (block * block_width >= dy.channels) return;  // padding of the last panel: stays 0
  for_strips(p.tiles, first, last, block, [&](const Window& window, int64_t position, int64_t tiles) {
    kernels().picture->gather(dy, window, strip);
    kernels_of(p.tiles.tile).gradient(strip, tiles,
                                      w + block * p.w.block + position * block_width, p.w.element);
  });
}

void add_chunk(const Plan& p, int64_t tiles, const float* v, const float* w, float* du) {
  const WinogradGradWeight& k = kernels_of(p.tiles.tile);
  parallel_for(p.tiles.elements() * p.k_blocks, [&](int64_t index, int64_t) {
    const int64_t e = index / p.k_blocks, block = index % p.k_blocks;
    k.add({v + e * p.v.element + block * p.v.block, w + e * p.w.element,
           du + e * p.du_element + block * block_width * p.outputs, tiles, p.outputs, p.w.block,
           p.outputs});
  });
}

void grad_weight(int tile, const Problem& problem, const Operands& operands) {
  const Geometry& g = problem.g;
  const Plan p(tile, g);
  const Picture dy = picture_of(problem, operands.a, g.c_out, g.out_h, g.out_w);
  const Picture x = picture_of(problem, operands.b, g.c_in, g.h, g.w);
  const int64_t threads = thread_count();
  const int64_t floats = p.v_floats() + p.w_floats() + p.du_floats() + threads * Strip::floats;
  Workspace space(Workspace::bytes_for<float>(floats));
  float* v = space.take<float>(floats);
  float* w = v + p.v_floats();
  float* du = w + p.w_floats();
  float* strips = du + p.du_floats();
  std::fill_n(w, p.w_floats(), 0.f);
  std::fill_n(du, p.du_floats(), 0.f);
  for (int64_t first = 0; first < p.tiles.count; first += p.chunk) {
    const int64_t last = std::min(first + p.chunk, p.tiles.count);
    parallel_for(p.k_blocks + p.o_blocks, [&](int64_t index, int64_t thread) {
      float* strip = strips + thread * Strip::floats;
      if (index < p.k_blocks)
        transform_input(x, nullptr, g.pad_top, g.pad_left, p.tiles, first, last, index, v, p.v,
                        strip);
      else
        transform_gradient(dy, p, first, last, index - p.k_blocks, w, strip);
    });
    add_chunk(p, last - first, v, w, du);
  }
  parallel_for(g.c_in, [&](int64_t k, int64_t) {
    kernels_of(tile).weights(du + k * p.outputs, p.du_element, g.c_out,
                             static_cast<float*>(operands.out) + k * 9, g.c_in * 9);
  });
}

}  // namespace

void winograd_f4_grad_weight(const Problem& p, const Operands& o) { grad_weight(4, p, o); }
void winograd_f6_grad_weight(const Problem& p, const Operands& o) { grad_weight(6, p, o); }

}  // namespace fastconv
