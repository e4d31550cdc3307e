// A plan as the copy engine reads it, through the driver: found at run time, so that a machine without
// a driver can load the library.  Under emulation host/hopper.cpp takes this part.
#ifdef __CUDACC__
#include <cuda.h>
#include <cuda_runtime.h>

#include "hopper_plan.h"

namespace fastconv::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
  return error == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(function) : nullptr;
}

// TFLOAT32 rounds to nearest while copying; as FLOAT32 the products would cut the numbers off.
CUtensorMapDataType element_of(Type type) {
  switch (type) {
    case Type::bf16: return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case Type::f16: return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    default: return CU_TENSOR_MAP_DATA_TYPE_TFLOAT32;
  }
}

}  // namespace

int encode(const TensorMapPlan& plan, TensorMap* map) {
  static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) >= alignof(CUtensorMap));
  static const Encode function = find_encode();
  if (!function) return cudaErrorCallRequiresNewerDriver;
  cuuint64_t sizes[4], steps[3];
  cuuint32_t box[4];
  const cuuint32_t every[4] = {1, 1, 1, 1};
  for (int i = 0; i < 4; ++i) sizes[i] = plan.sizes[i], box[i] = plan.box[i];
  for (int i = 0; i < 3; ++i) steps[i] = plan.step_bytes[i];
  const CUresult result =
      function(reinterpret_cast<CUtensorMap*>(map), element_of(plan.type), static_cast<cuuint32_t>(plan.rank),
               const_cast<void*>(plan.data), sizes, steps, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
               CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace fastconv::cuda
#endif
