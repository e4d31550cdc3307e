// The table of implementations for tests: C functions over pointers, see tests/fastconv/cuda_table.py.
// `name` is a row of the table, or null for the one that the problem chooses.
#include "../operations.h"
#include "../pools.h"

using namespace fastconv::cuda;

namespace {

const Implementation& row_of(const Problem& p, const char* name) {
  const Implementation* row = name ? row_named(name) : nullptr;
  return row ? *row : choose(p);
}

}  // namespace

extern "C" {

const char* fastconv_cuda_choice(const Problem* p) { return choose(*p).name; }
int fastconv_cuda_worth_transposing(const Problem* p) { return worth_transposing(*p); }
int fastconv_cuda_accepts(const Problem* p, const char* name) { return row_named(name) && row_named(name)->accepts(*p); }
int64_t fastconv_cuda_prepared_bytes(const Problem* p, const char* name) { return prepared_bytes(row_of(*p, name), *p); }
int64_t fastconv_cuda_space_bytes(const Problem* p, const char* name) { return space_bytes(row_of(*p, name), *p); }

int fastconv_cuda_prepare(const Problem* p, const char* name, const void* weight, void* prepared) {
  const Implementation& row = row_of(*p, name);
  return row.prepare ? row.prepare(*p, weight, prepared, nullptr) : 0;
}
int fastconv_cuda_launch(const Problem* p, const char* name, const Operands* o) {
  return row_of(*p, name).launch(*p, *o, nullptr);
}

int64_t fastconv_cuda_grad_bias_bytes(const Problem* p) { return grad_bias_space_bytes(*p); }
int fastconv_cuda_grad_bias(const Problem* p, const void* dy, void* dbias, void* space) {
  return grad_bias_launch(*p, dy, dbias, space, nullptr);
}

int fastconv_cuda_pool(const PoolJob* job) { return pool_launch(*job, nullptr); }
int fastconv_cuda_mask(int32_t type, const void* from, const void* gradient, void* to, int64_t numbers) {
  return mask_launch(static_cast<Type>(type), from, gradient, to, numbers, nullptr);
}

}  // extern "C"
