// How numbers in shared memory become products of tensor cores: one struct per precision.
//
//   Element   what lies in memory
//   pieces    how many pieces of 32 bytes of k one call of `add` takes
//   A, B      the fragments of 16 rows and of 8 columns, made of what ldmatrix delivers
//   add       c += a b over these pieces
//   blocks    how many blocks of 256 threads a multiprocessor should hold: 2 leave 128 registers
//
// Where a k stands inside a fragment does not matter as long as A and B agree.
#pragma once
#include "device.h"

namespace fastconv::cuda {

FASTCONV_DEVICE void mma_halves(bf16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma_bf16(c, a, b);
}
FASTCONV_DEVICE void mma_halves(f16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma_f16(c, a, b);
}

template <int N>
struct Fragment {
  uint32_t r[N];
};

// 16-bit tensors are multiplied as they are.
template <class T>
struct Halves {
  using Element = T;
  static constexpr int pieces = 1, blocks = 2;
  using A = Fragment<4>;
  using B = Fragment<2>;

  template <int N>
  static FASTCONV_MEMBER void prepare(Fragment<N>& f, const uint32_t (&raw)[1][N]) {
    FASTCONV_UNROLL
    for (int i = 0; i < N; ++i) f.r[i] = raw[0][i];
  }
  static FASTCONV_MEMBER void add(float (&c)[4], const A& a, const B& b) { mma_halves(T{}, c, a.r, b.r); }
};

struct Tf32 {
  using Element = float;
  static constexpr int pieces = 1, blocks = 2;
  using A = Fragment<4>;
  using B = Fragment<2>;

  template <int N>
  static FASTCONV_MEMBER void prepare(Fragment<N>& f, const uint32_t (&raw)[1][N]) {
    FASTCONV_UNROLL
    for (int i = 0; i < N; ++i) f.r[i] = rounded_to_tf32(float_of(raw[0][i]));
  }
  static FASTCONV_MEMBER void add(float (&c)[4], const A& a, const B& b) { mma_tf32(c, a.r, b.r); }
};

// float32 tensors, products in bf16: pairs of k that lie four apart, alike in A and B.
struct RoundedToBf16 {
  using Element = float;
  static constexpr int pieces = 2, blocks = 2;
  using A = Fragment<4>;
  using B = Fragment<2>;

  static FASTCONV_MEMBER uint32_t pair(uint32_t low, uint32_t high) { return bf16_pair(float_of(low), float_of(high)); }
  static FASTCONV_MEMBER void prepare(A& f, const uint32_t (&raw)[2][4]) {
    FASTCONV_UNROLL
    for (int i = 0; i < 4; ++i) f.r[i] = pair(raw[i / 2][i % 2], raw[i / 2][i % 2 + 2]);
  }
  static FASTCONV_MEMBER void prepare(B& f, const uint32_t (&raw)[2][2]) {
    FASTCONV_UNROLL
    for (int i = 0; i < 2; ++i) f.r[i] = pair(raw[i][0], raw[i][1]);
  }
  static FASTCONV_MEMBER void add(float (&c)[4], const A& a, const B& b) { mma_bf16(c, a.r, b.r); }
};

// fp32-accurate: a number is the sum of two of tf32, and three of the four products count.
// Tensor cores truncate their sums, which over thousands of k would cost two digits: so each
// k-step is summed from zero, and added to the rest by an ordinary, rounding addition.
// The first part is rounded: cut off, it would leave twice as much to the second, always of its own
// sign, and the product left out would be up to 2^-20 (5.7e-7 was seen) instead of 2^-22.
// An infinity in the tensors becomes NaN in the result, and so does 2^128 (1 - 2^-12) and more.
struct ThreeTf32 {
  using Element = float;
  static constexpr int pieces = 1, blocks = 1;
  struct A {
    uint32_t big[4], small[4];
  };
  struct B {
    uint32_t big[2], small[2];
  };

  template <class F, int N>
  static FASTCONV_MEMBER void prepare(F& f, const uint32_t (&raw)[1][N]) {
    FASTCONV_UNROLL
    for (int i = 0; i < N; ++i) {
      f.big[i] = rounded_to_tf32(float_of(raw[0][i]));
      f.small[i] = rounded_to_tf32(float_of(raw[0][i]) - float_of(f.big[i]));
    }
  }
  static FASTCONV_MEMBER void add(float (&c)[4], const A& a, const B& b) {
    float step[4] = {};
    mma_tf32(step, a.small, b.big);
    mma_tf32(step, a.big, b.small);
    mma_tf32(step, a.big, b.big);
    FASTCONV_UNROLL
    for (int i = 0; i < 4; ++i) c[i] += step[i];
  }
};

}  // namespace fastconv::cuda
