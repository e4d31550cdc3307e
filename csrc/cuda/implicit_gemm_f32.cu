#include "implicit_gemm.cuh"

namespace fastconv::cuda {

ImplicitGemmKernel implicit_gemm_f32(Precision precision, Reads reads, bool large) {
  switch (precision) {
    case Precision::tf32: return implicit_gemm_of_kind<Tf32>(reads, large);
    case Precision::bf16: return implicit_gemm_of_kind<RoundedToBf16>(reads, large);
    default: return implicit_gemm_of_kind<ThreeTf32>(reads, large);
  }
}

}  // namespace fastconv::cuda
