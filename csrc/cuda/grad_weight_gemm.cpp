// Which gradients of weights the tensor cores take, and into how many parts the pixels are split.
#include "grad_weight_gemm.h"

#include "operations.h"

namespace fastconv::cuda {
namespace {

int narrow(int64_t value) { return static_cast<int>(value); }
int64_t tiles(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

int64_t pixels_of(const Problem& p) { return p.g.n * p.g.out_h * p.g.out_w; }
int64_t columns_of(const Problem& p) { return p.g.kh * p.g.kw * p.g.c_in_per_group(); }

bool reads_vectors(const Problem& p, const Operands& o) {
  const Geometry& g = p.g;
  const auto fits = [&](int64_t channels, const void* data) {
    return channels * bytes_of(p.type) % 16 == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0;
  };
  return fits(g.c_out_per_group(), o.a) && fits(g.c_in_per_group(), o.b);
}

bool large_tiles(const Problem& p) { return p.g.c_out_per_group() > 64 && columns_of(p) > 64; }

// Enough for two blocks a processor, but no split of less than 512 pixels: each costs a pass over dW.
int64_t splits_of(const Problem& p) {
  const int64_t tile = large_tiles(p) ? 128 : 64;
  const int64_t blocks = tiles(p.g.c_out_per_group(), tile) * tiles(columns_of(p), tile) * p.g.groups;
  const int64_t wanted = tiles(2 * p.processors, blocks), most = tiles(pixels_of(p), 512);
  return wanted < most ? wanted : most;
}

GradWeightGemm grad_weight_of(const Problem& p, const Operands& o, const GradWeightKernel& kernel) {
  const Geometry& g = p.g;
  GradWeightGemm w{};
  w.x.src = o.b;
  w.x.src_h = narrow(g.h), w.x.src_w = narrow(g.w), w.x.src_channels = narrow(g.c_in);
  w.x.dst_h = narrow(g.out_h), w.x.dst_w = narrow(g.out_w);
  w.x.src_image = g.h * g.w * g.c_in;
  w.x.rows = w.pixels = narrow(pixels_of(p));
  w.x.channels = narrow(g.c_in_per_group()), w.x.kw = narrow(g.kw), w.x.k = narrow(columns_of(p));
  w.x.step_h = narrow(g.stride_h), w.x.step_w = narrow(g.stride_w);
  w.x.dil_h = narrow(g.dil_h), w.x.dil_w = narrow(g.dil_w);
  w.x.offset_h = -narrow(g.pad_top), w.x.offset_w = -narrow(g.pad_left);
  w.x.spread_h = w.x.spread_w = 1;
  w.dy = o.a;
  w.dy_channels = narrow(g.c_out);
  w.partial = static_cast<float*>(o.space);
  w.rows = narrow(g.c_out_per_group());
  w.row_tiles = narrow(tiles(w.rows, kernel.tile_rows)), w.column_tiles = narrow(tiles(w.x.k, kernel.tile_columns));
  w.splits = narrow(splits_of(p));
  w.pixels_per_split = narrow(tiles(tiles(w.pixels, w.splits), 32) * 32);  // whole steps
  return w;
}

GradWeightKernel kernel_for(const Problem& p, Reads reads) {
  switch (p.type) {
    case Type::bf16: return grad_weight_bf16(reads, large_tiles(p));
    case Type::f16: return grad_weight_f16(reads, large_tiles(p));
    default: return grad_weight_f32(p.precision, reads, large_tiles(p));
  }
}

}  // namespace

bool grad_weight_gemm_accepts(const Problem& p) {
  const Geometry& g = p.g;
  if (p.operation != Operation::grad_weight || p.type == Type::f64 || p.capability < 80 || !p.channels_last) return false;
  if (g.groups > 1 && (g.c_in_per_group() < 16 || g.c_out_per_group() < 16)) return false;
  return counts_in_32_bits(g) && columns_of(p) * g.c_out < int64_t{1} << 30;
}

int64_t grad_weight_gemm_space_bytes(const Problem& p) {
  return splits_of(p) * p.g.c_out * columns_of(p) * static_cast<int64_t>(sizeof(float));
}

int grad_weight_gemm_launch(const Problem& p, const Operands& o, void* stream) {
  const GradWeightKernel kernel = kernel_for(p, reads_vectors(p, o) ? Reads::vectors : Reads::words);
  const GradWeightGemm w = grad_weight_of(p, o, kernel);
  const auto blocks = static_cast<unsigned>(int64_t{w.row_tiles} * w.column_tiles * w.splits);
  const int error = kernel.launch(w, blocks, static_cast<unsigned>(p.g.groups), stream);
  return error ? error : add_splits(p, w.partial, w.splits, o.out, stream);
}

}  // namespace fastconv::cuda
