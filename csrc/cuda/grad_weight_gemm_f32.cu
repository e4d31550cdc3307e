#include "grad_weight_gemm.cuh"

namespace fastconv::cuda {

GradWeightKernel grad_weight_f32(Precision precision, Reads reads, bool large) {
  switch (precision) {
    case Precision::tf32: return grad_weight_of_kind<Tf32>(reads, large);
    case Precision::bf16: return grad_weight_of_kind<RoundedToBf16>(reads, large);
    default: return grad_weight_of_kind<ThreeTf32>(reads, large);
  }
}

}  // namespace fastconv::cuda
