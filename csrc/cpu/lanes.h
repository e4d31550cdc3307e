// What the blocked kernels need beyond vec.h: transposition, and stores that bypass the caches.
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

template <int... I>
struct Indices {};
template <int N, int... I>
struct IndicesTo : IndicesTo<N - 1, N - 1, I...> {};
template <int... I>
struct IndicesTo<0, I...> {
  using type = Indices<I...>;
};

#if defined(__GNUC__)
// Swaps the off-diagonal S x S blocks of every 2S x 2S block of the matrix whose rows a and b are.
template <int S, int... I>
inline void swap_blocks(V& a, V& b, Indices<I...>) {
  const V low = __builtin_shufflevector(a, b, (I & S ? L + I - S : I)...);
  const V high = __builtin_shufflevector(a, b, (I & S ? L + I : I + S)...);
  a = low;
  b = high;
}

template <int S>
inline void transpose_from(V (&rows)[L]) {
  if constexpr (S > 0) {
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i)
      if (!(i & S)) swap_blocks<S>(rows[i], rows[i + S], typename IndicesTo<L>::type{});
    transpose_from<S / 2>(rows);
  }
}

// rows[i][j] becomes rows[j][i].
inline void transpose(V (&rows)[L]) { transpose_from<L / 2>(rows); }
#else
inline void transpose(V (&)[L]) {}
#endif

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
