// Vectors as wide as the instruction set that the including file is compiled for.
//
// Written with the vector extensions of gcc and clang: the same source becomes AVX-512, AVX2,
// SSE2 or NEON code, and a*b + c becomes a fused multiply-add where there is one.  Other
// compilers get one lane, as these do with FASTCONV_ONE_LANE.  Include only from *_kernels.cpp.
#pragma once
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__GNUC__) && !defined(FASTCONV_ONE_LANE)
#define FASTCONV_VECTORS 1
#endif

namespace fastconv::FASTCONV_ISA {

#if defined(FASTCONV_VECTORS)
template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
  static constexpr int lanes = FASTCONV_VECTOR_BYTES / sizeof(T);
};
#else
template <class T>
struct VectorOf {
  typedef T type;
  static constexpr int lanes = 1;
};
#endif

template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
inline constexpr int lanes = VectorOf<T>::lanes;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

template <class T>
inline Vec<T> load(const T* from) {  // any alignment
  Vec<T> v;
  memcpy(&v, from, sizeof v);
  return v;
}

template <class T>
inline void store(T* to, Vec<T> v) {  // any alignment
  memcpy(to, &v, sizeof v);
}

// The first `count` lanes; the rest is zero on load and untouched in memory on store.
template <class T>
inline Vec<T> load_first(const T* from, int64_t count) {
  Vec<T> v{};
  memcpy(&v, from, static_cast<size_t>(count) * sizeof(T));
  return v;
}

template <class T>
inline void store_first(T* to, Vec<T> v, int64_t count) {
  memcpy(to, &v, static_cast<size_t>(count) * sizeof(T));
}

// A store to an address aligned to the vector that does not bring the line into the caches: worth
// 5-10 % of a 3x3 convolution whose result is larger than they are.
template <class T>
inline void stream(T* to, Vec<T> v) {
#if !defined(FASTCONV_VECTORS) || defined(__SANITIZE_THREAD__)  // which does not see the others
  store(to, v);
#elif defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)v);
#elif defined(__AVX__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), (__m256i)v);
#elif defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), (__m128i)v);
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

template <class T>
inline Vec<T> broadcast(T value) {
  return value - Vec<T>{};  // x - 0 is x to the compiler, 0 + x is not: it would keep the addition
}

// Into the second-level cache; into the first; into the first, to be written.
#if defined(__GNUC__)
inline void prefetch(const void* at) { __builtin_prefetch(at, 0, 2); }
inline void prefetch_near(const void* at) { __builtin_prefetch(at); }
inline void prefetch_to_write(const void* at) { __builtin_prefetch(at, 1); }
#else
inline void prefetch(const void*) {}
inline void prefetch_near(const void*) {}
inline void prefetch_to_write(const void*) {}
#endif

// Indices<0, 1, ..., N - 1>, as std::make_index_sequence has it.
template <int... I>
struct Indices {};
template <int N, int... I>
struct CountTo : CountTo<N - 1, N - 1, I...> {};
template <int... I>
struct CountTo<0, I...> {
  typedef Indices<I...> type;
};

#if defined(FASTCONV_VECTORS) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FASTCONV_SHUFFLES 1
#endif
#endif
#if defined(FASTCONV_SHUFFLES)

// a0 b0 a1 b1 ... of the lower (Half = 0) or upper halves.
template <class T, int Half, int... I>
inline Vec<T> interleave(Vec<T> a, Vec<T> b, Indices<I...>) {
  constexpr int n = lanes<T>;
  return __builtin_shufflevector(a, b, (Half * n / 2 + I / 2 + I % 2 * n)...);
}

// A square of lanes x lanes, in place: log2(lanes) perfect shuffles of its rows.
template <class T>
inline void transpose(Vec<T> (&rows)[lanes<T>]) {
  constexpr int n = lanes<T>;
  const typename CountTo<n>::type all{};
#pragma GCC unroll 4
  for (int stage = 1; stage < n; stage *= 2) {
    Vec<T> next[n];
#pragma GCC unroll 16
    for (int i = 0; i < n / 2; ++i) {
      next[2 * i] = interleave<T, 0>(rows[i], rows[i + n / 2], all);
      next[2 * i + 1] = interleave<T, 1>(rows[i], rows[i + n / 2], all);
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) rows[i] = next[i];
  }
}
#else

template <class T>
inline void transpose(Vec<T> (&rows)[lanes<T>]) {
  if constexpr (lanes<T> > 1)
    for (int i = 0; i < lanes<T>; ++i)
      for (int j = 0; j < i; ++j) {
        const T kept = rows[i][j];
        rows[i][j] = rows[j][i];
        rows[j][i] = kept;
      }
}
#endif

}  // namespace fastconv::FASTCONV_ISA
