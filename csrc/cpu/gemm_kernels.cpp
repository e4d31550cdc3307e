#include "kernels.h"
#include "vec.h"

namespace fastconv::FASTCONV_ISA {

extern const GemmKernels gemm_kernels;
const GemmKernels gemm_kernels = {lanes<float>};

}  // namespace fastconv::FASTCONV_ISA
