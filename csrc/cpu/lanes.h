// What the blocked kernels need beyond vec.h: vectors of floats, and NaN-keeping maxima.
//
// Include only from *_kernels.cpp.
#pragma once
#include <stdint.h>

#include "vec.h"

namespace fastconv::FASTCONV_ISA {

using V = Vec<float>;
inline constexpr int L = lanes<float>;

inline void transpose(V (&rows)[L]) { transpose<float>(rows); }

inline bool aligned(const void* at) {
  return reinterpret_cast<uintptr_t>(at) % FASTCONV_VECTOR_BYTES == 0;
}

// a where it is a NaN, as torch's ReLU and pooling have it.
inline V maximum(V a, V b) { return b > a ? b : a; }

}  // namespace fastconv::FASTCONV_ISA
