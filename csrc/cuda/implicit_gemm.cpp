// Which problems the tensor cores take, and with which tile.
#include "implicit_gemm.h"

#include "operations.h"
#include "pack_weight.h"

namespace fastconv::cuda {
namespace {

int narrow(int64_t value) { return static_cast<int>(value); }
int64_t tiles(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

bool is_forward(const Problem& p) { return p.operation == Operation::forward; }
int64_t source_channels(const Problem& p) { return is_forward(p) ? p.g.c_in_per_group() : p.g.c_out_per_group(); }
int64_t result_channels(const Problem& p) { return is_forward(p) ? p.g.c_out_per_group() : p.g.c_in_per_group(); }
int64_t result_pixels(const Problem& p) { return p.g.n * (is_forward(p) ? p.g.out_h * p.g.out_w : p.g.h * p.g.w); }

ImplicitGemm implicit_gemm_of(const Problem& p, const Operands& o) {
  const Geometry& g = p.g;
  const bool forward = is_forward(p);
  ImplicitGemm i{o.a, o.prepared, o.bias, o.added, o.mask, o.out, o.relu};
  i.src_h = narrow(forward ? g.h : g.out_h), i.src_w = narrow(forward ? g.w : g.out_w);
  i.dst_h = narrow(forward ? g.out_h : g.h), i.dst_w = narrow(forward ? g.out_w : g.w);
  i.src_channels = narrow(forward ? g.c_in : g.c_out), i.dst_channels = narrow(forward ? g.c_out : g.c_in);
  i.src_image = int64_t{i.src_h} * i.src_w * i.src_channels;
  i.rows = narrow(result_pixels(p)), i.columns = narrow(result_channels(p));
  i.channels = narrow(source_channels(p)), i.kw = narrow(g.kw), i.k = narrow(g.kh * g.kw) * i.channels;
  i.k_packed = narrow(packed_k(p));
  const int sign = forward ? 1 : -1;
  i.dil_h = sign * narrow(g.dil_h), i.dil_w = sign * narrow(g.dil_w);
  i.offset_h = -sign * narrow(g.pad_top), i.offset_w = -sign * narrow(g.pad_left);
  i.step_h = narrow(forward ? g.stride_h : 1), i.step_w = narrow(forward ? g.stride_w : 1);
  i.spread_h = narrow(forward ? 1 : g.stride_h), i.spread_w = narrow(forward ? 1 : g.stride_w);
  i.pairs = i.columns % 2 == 0 && reinterpret_cast<uintptr_t>(o.out) % (2 * bytes_of(p.type)) == 0;
  return i;
}

bool reads_vectors(const Problem& p, const Operands& o) {
  return source_channels(p) * bytes_of(p.type) % 16 == 0 && reinterpret_cast<uintptr_t>(o.a) % 16 == 0;
}

// Large tiles reuse more of what they read, if there are enough of them for three processors in four.
bool large_tiles_fill(const Problem& p) {
  const int64_t columns = result_channels(p);
  return columns > 64 && 4 * tiles(result_pixels(p), 128) * tiles(columns, 128) * p.g.groups >= 3 * p.processors;
}

ImplicitGemmKernel kernel_for(const Problem& p, Reads reads, bool large) {
  switch (p.type) {
    case Type::bf16: return implicit_gemm_bf16(reads, large);
    case Type::f16: return implicit_gemm_f16(reads, large);
    default: return implicit_gemm_f32(p.precision, reads, large);
  }
}

}  // namespace

bool counts_in_32_bits(const Geometry& g) {
  constexpr int64_t most = int64_t{1} << 30;
  return g.n * g.h * g.w < most && g.n * g.out_h * g.out_w < most && (g.h + g.pad_top) * g.stride_h < most &&
         (g.w + g.pad_left) * g.stride_w < most && g.kh * g.dil_h < most && g.kw * g.dil_w < most &&
         g.groups < 65536;
}

// Groups of few channels leave most of a tile empty; grad_input at a stride above 2 would multiply
// mostly by the zeros between.
bool implicit_gemm_accepts(const Problem& p) {
  if (p.operation == Operation::grad_weight || p.type == Type::f64) return false;
  if (p.capability < 80 || !p.channels_last) return false;
  if (p.g.groups > 1 && (source_channels(p) < 16 || result_channels(p) < 16)) return false;
  if (!is_forward(p) && p.g.stride_h * p.g.stride_w > 4) return false;
  return counts_in_32_bits(p.g) && packed_bytes(p) < int64_t{1} << 30;
}

int64_t implicit_gemm_prepared_bytes(const Problem& p) { return packed_bytes(p); }

int implicit_gemm_prepare(const Problem& p, const void* weight, void* prepared, void* stream) {
  return pack_weight(p, weight, prepared, stream);
}

int implicit_gemm_launch(const Problem& p, const Operands& o, void* stream) {
  ImplicitGemm i = implicit_gemm_of(p, o);
  const Reads reads = reads_vectors(p, o) ? Reads::vectors : Reads::words;
  const ImplicitGemmKernel kernel = kernel_for(p, reads, large_tiles_fill(p));
  i.column_tiles = narrow(tiles(i.columns, kernel.tile_columns));
  const auto blocks = static_cast<unsigned>(tiles(i.rows, kernel.tile_rows) * i.column_tiles);
  return kernel.launch(i, blocks, static_cast<unsigned>(p.g.groups), stream);
}

}  // namespace fastconv::cuda
