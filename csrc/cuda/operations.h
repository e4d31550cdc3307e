// The implementations that table.cpp names.
#pragma once
#include "table.h"

namespace fastconv::cuda {

// implicit_gemm.cpp: forward and grad_input on tensor cores, channels_last.
bool implicit_gemm_accepts(const Problem&);
int64_t implicit_gemm_prepared_bytes(const Problem&);
int implicit_gemm_prepare(const Problem&, const void* weight, void* prepared, void* stream);
int implicit_gemm_launch(const Problem&, const Operands&, void* stream);

// hopper_gemm.cpp: the same at stride 1 by Hopper's own instructions; weights as implicit_gemm has them.
bool hopper_gemm_accepts(const Problem&);
int hopper_gemm_launch(const Problem&, const Operands&, void* stream);

// grad_weight_gemm.cpp: grad_weight on tensor cores, channels_last.
bool grad_weight_gemm_accepts(const Problem&);
int64_t grad_weight_gemm_space_bytes(const Problem&);
int grad_weight_gemm_launch(const Problem&, const Operands&, void* stream);

// simt_gemm.cu: implicit GEMM in plain CUDA, for everything.
bool simt_accepts(const Problem&);
int64_t simt_prepared_bytes(const Problem&);
int simt_prepare(const Problem&, const void* weight, void* prepared, void* stream);
int64_t simt_space_bytes(const Problem&);
int simt_launch(const Problem&, const Operands&, void* stream);

// simt_direct.cu: one thread per output, where groups leave a matrix product too few columns.
bool direct_accepts(const Problem&);
int direct_launch(const Problem&, const Operands&, void* stream);

// simt_direct.cu: the bias's gradient, the sum of dy over pictures and pixels; no row of the table.
int64_t grad_bias_space_bytes(const Problem&);
int grad_bias_launch(const Problem&, const void* dy, void* dbias, void* space, void* stream);

}  // namespace fastconv::cuda
