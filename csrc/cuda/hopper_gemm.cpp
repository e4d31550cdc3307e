// Which problems the Hopper kernel takes, and how they are laid out for it.
#include "hopper_gemm.h"

#include "implicit_gemm.h"
#include "operations.h"
#include "pack_weight.h"

namespace fastconv::cuda {
namespace {

int narrow(int64_t value) { return static_cast<int>(value); }
int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Sides {  // of the product: src is read around the pixels of dst
  int64_t src_h, src_w, src_channels, dst_h, dst_w, dst_channels;
};

Sides sides_of(const Problem& p) {
  const Geometry& g = p.g;
  if (p.operation == Operation::forward) return {g.h, g.w, g.c_in, g.out_h, g.out_w, g.c_out};
  return {g.out_h, g.out_w, g.c_out, g.h, g.w, g.c_in};
}

HopperSteps steps_of(const Problem& p, const Sides& s) {
  const Geometry& g = p.g;
  const int sign = p.operation == Operation::forward ? 1 : -1, channels = channels_of_step(p.type);
  return {narrow(g.kh * g.kw),         narrow(g.kw),
          narrow(ceil_div(s.src_channels, channels)), channels,
          sign * narrow(g.dil_h),      sign * narrow(g.dil_w),
          -sign * narrow(g.pad_top),   -sign * narrow(g.pad_left)};
}

// Wide tiles reuse more of what they fetch, if there are enough of them for three processors in four;
// the widest have an epilogue that nothing hides, which only long sums make up for.
int columns_of_tile(const Problem& p, const Sides& s) {
  const PixelTile tile = pixel_tile(s.dst_h, s.dst_w);
  const int64_t pixel_tiles = p.g.n * ceil_div(s.dst_h, tile.h) * ceil_div(s.dst_w, tile.w);
  const auto fill = [&](int columns) {
    return 4 * pixel_tiles * ceil_div(s.dst_channels, columns) >= 3 * p.processors;
  };
  const HopperSteps steps = steps_of(p, s);
  if (s.dst_channels > 128 && fill(256) && steps.taps * steps.per_tap >= 24) return 256;
  return s.dst_channels > 64 && fill(128) ? 128 : 64;
}

HopperTiles tiles_of(const Problem& p, const Sides& s, int columns) {
  const PixelTile tile = pixel_tile(s.dst_h, s.dst_w);
  return {tile, narrow(ceil_div(s.dst_w, tile.w)), narrow(ceil_div(s.dst_h, tile.h)), narrow(p.g.n),
          narrow(ceil_div(s.dst_channels, columns))};
}

}  // namespace

// Float32 tensors by tf32; their other precisions have no product of their own here.  The copy engine
// wants pixels that begin at multiples of 16 bytes.
bool hopper_gemm_accepts(const Problem& p) {
  const Geometry& g = p.g;
  const bool type = p.type == Type::bf16 || p.type == Type::f16 || (p.type == Type::f32 && p.precision == Precision::tf32);
  if (!type || p.capability != 90 || !implicit_gemm_accepts(p)) return false;
  return g.groups == 1 && g.stride_h == 1 && g.stride_w == 1 && sides_of(p).src_channels * bytes_of(p.type) % 16 == 0;
}

int hopper_gemm_launch(const Problem& p, const Operands& o, void* stream) {
  if (reinterpret_cast<uintptr_t>(o.a) % 16) return implicit_gemm_launch(p, o, stream);  // weights are packed alike
  const Sides s = sides_of(p);
  HopperGemm h{{}, {}, o.bias, o.added, o.mask, o.out, o.relu};
  const int columns = columns_of_tile(p, s);
  h.tiles = tiles_of(p, s, columns);
  h.steps = steps_of(p, s);
  h.dst_h = narrow(s.dst_h), h.dst_w = narrow(s.dst_w), h.dst_channels = narrow(s.dst_channels);
  h.pairs = s.dst_channels % 2 == 0 && reinterpret_cast<uintptr_t>(o.out) % (2 * bytes_of(p.type)) == 0;
  const TensorMapPlan src = source_plan(o.a, p.type, p.g.n, s.src_h, s.src_w, s.src_channels, h.tiles.tile);
  const TensorMapPlan weight =
      weight_plan(o.prepared, p.type, s.dst_channels, h.steps.taps, s.src_channels, packed_k(p), columns);
  int error = encode(src, &h.src);
  if (!error) error = encode(weight, &h.weight);
  const auto blocks = static_cast<unsigned>(int64_t{h.tiles.images} * h.tiles.down * h.tiles.across * h.tiles.columns);
  return error ? error : hopper_gemm(h, p.type, columns, blocks, stream);
}

}  // namespace fastconv::cuda
