// Vectors as wide as the instruction set that the including file is compiled for.
//
// Written with the vector extensions of gcc and clang: the same source becomes AVX-512, AVX2,
// SSE2 or NEON code, and a*b + c becomes a fused multiply-add where there is one.  Other
// compilers get one lane.  Include only from *_kernels.cpp.
#pragma once
#include <stdint.h>
#include <string.h>

namespace fastconv::FASTCONV_ISA {

#if defined(__GNUC__)
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

template <class T>
inline Vec<T> broadcast(T value) {
  return value - Vec<T>{};  // x - 0 is x to the compiler, 0 + x is not: it would keep the addition
}

}  // namespace fastconv::FASTCONV_ISA
