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

}  // namespace

const Implementation& choose(const Problem& problem) {
  const Implementation* row = table;
  while (!row->accepts(problem)) ++row;
  return *row;
}

const Implementation* row_named(const char* name) {
  for (const Implementation& row : table)
    if (!strcmp(row.name, name)) return &row;
  return nullptr;
}

}  // namespace fastconv::cuda
