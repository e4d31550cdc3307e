// What the blocked kernels need beyond vec.h: vectors of floats, and NaN-keeping maxima.
//
// Include only from *_kernels.cpp.
#pragma once
#include <stdint.h>

#include "vec.h"

namespace fastconv::FASTCONV_ISA {

using V = Vec<float>;
inline constexpr int L = lanes<float>;

// Sums of a product in registers, rows x panel: a panel is two vectors, and 14 rows are 28 of AVX-512's
// 32 registers, 6 rows 12 of 16 elsewhere.
inline constexpr int64_t panel = 2 * L;
#if defined(__AVX512F__)
inline constexpr int max_rows = 14;
#else
inline constexpr int max_rows = 6;
#endif

inline void transpose(V (&rows)[L]) { transpose<float>(rows); }

inline bool aligned(const void* at) {
  return reinterpret_cast<uintptr_t>(at) % FASTCONV_VECTOR_BYTES == 0;
}

// a where it is a NaN, as torch's ReLU and pooling have it.
inline V maximum(V a, V b) { return b > a ? b : a; }

}  // namespace fastconv::FASTCONV_ISA
