#include "grad_weight_gemm.cuh"

namespace fastconv::cuda {

GradWeightKernel grad_weight_bf16(Reads reads, bool large) { return grad_weight_of_kind<Halves<bf16>>(reads, large); }
GradWeightKernel grad_weight_f16(Reads reads, bool large) { return grad_weight_of_kind<Halves<f16>>(reads, large); }

}  // namespace fastconv::cuda
