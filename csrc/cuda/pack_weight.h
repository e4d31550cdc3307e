// Weights as the tensor-core kernels read them: packed[group][m][k], k = (u * kw + v) * channels + c,
// each row filled with zeros up to k_packed.
//
//   forward      m: the group's output channels, c: its input channels
//   grad_input   m: the group's input channels,  c: its output channels
#pragma once
#include "table.h"

namespace fastconv::cuda {

int64_t packed_k(const Problem&);  // in elements: whole steps of 64 bytes
int64_t packed_bytes(const Problem&);
int pack_weight(const Problem&, const void* weight, void* packed, void* stream);

}  // namespace fastconv::cuda
