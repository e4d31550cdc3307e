#include "implicit_gemm.cuh"

namespace fastconv::cuda {

ImplicitGemmKernel implicit_gemm_bf16(Reads reads, bool large) { return implicit_gemm_of_kind<Halves<bf16>>(reads, large); }
ImplicitGemmKernel implicit_gemm_f16(Reads reads, bool large) { return implicit_gemm_of_kind<Halves<f16>>(reads, large); }

}  // namespace fastconv::cuda
