#include "table.h"

#include <string.h>

#include "operations.h"

namespace fastconv::cuda {
namespace {

const Implementation table[] = {
    {"hopper_gemm", hopper_gemm_accepts, implicit_gemm_prepared_bytes, implicit_gemm_prepare, nullptr,
     hopper_gemm_launch},
    {"implicit_gemm", implicit_gemm_accepts, implicit_gemm_prepared_bytes, implicit_gemm_prepare, nullptr,
     implicit_gemm_launch},
    {"grad_weight_gemm", grad_weight_gemm_accepts, nullptr, nullptr, grad_weight_gemm_space_bytes, grad_weight_gemm_launch},
    {"simt_direct", direct_accepts, nullptr, nullptr, nullptr, direct_launch},
    {"simt", simt_accepts, simt_prepared_bytes, simt_prepare, simt_space_bytes, simt_launch},
};

const Implementation* preferred = nullptr;

}  // namespace

void prefer_row(const Implementation* row) { preferred = row; }

const Implementation& choose(const Problem& problem) {
  if (preferred && preferred->accepts(problem)) return *preferred;
  const Implementation* row = table;
  while (!row->accepts(problem)) ++row;
  return *row;
}

bool worth_transposing(const Problem& p) {
  // At 45 TFLOP/s and 4 TB/s, moving a float32 number in and out costs as much as 90 products; a
  // convolution moves two of them for each sum, and tensor cores save about half of its products.
  constexpr int64_t least_products = 256;
  const Geometry& g = p.g;
  const int64_t channels = p.operation == Operation::grad_input ? g.c_out_per_group() : g.c_in_per_group();
  if (p.channels_last || channels * g.kh * g.kw < least_products) return false;
  Problem last = p;
  last.channels_last = true;
  const auto is_general = [](const Implementation& row) { return !strncmp(row.name, "simt", 4); };
  return is_general(choose(p)) && !is_general(choose(last));
}

const Implementation* row_named(const char* name) {
  for (const Implementation& row : table)
    if (!strcmp(row.name, name)) return &row;
  return nullptr;
}

}  // namespace fastconv::cuda
