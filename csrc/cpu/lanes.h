// What the blocked kernels need beyond vec.h: stores that bypass the caches, and NaN-keeping maxima.
//
// Include only from *_kernels.cpp.
#pragma once
#include <stdint.h>

#include "vec.h"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace fastconv::FASTCONV_ISA {

using V = Vec<float>;
inline constexpr int L = lanes<float>;

inline void transpose(V (&rows)[L]) { transpose<float>(rows); }

// A store to an address aligned to the vector that does not bring the line into the caches: worth
// 5-10 % where the result is larger than they are.
inline void stream(float* to, V v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, (__m512)v);
#elif defined(__AVX__)
  _mm256_stream_ps(to, (__m256)v);
#elif defined(__SSE2__)
  _mm_stream_ps(to, (__m128)v);
#else
  store(to, v);
#endif
}

// Streamed stores become visible to other threads only after this.
inline void stream_end() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

inline bool aligned(const void* at) {
  return reinterpret_cast<uintptr_t>(at) % FASTCONV_VECTOR_BYTES == 0;
}

// a where it is a NaN, as torch's ReLU and pooling have it.
inline V maximum(V a, V b) { return b > a ? b : a; }

}  // namespace fastconv::FASTCONV_ISA
