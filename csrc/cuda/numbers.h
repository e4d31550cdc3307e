// The 16-bit number formats as plain structs, and roundings, alike on a card and on the CPU.
#pragma once
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define FASTCONV_BOTH __host__ __device__ __forceinline__
#else
#define FASTCONV_BOTH inline
#endif

namespace fastconv {

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

FASTCONV_BOTH uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

FASTCONV_BOTH float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

FASTCONV_BOTH float to_float(float value) { return value; }
FASTCONV_BOTH double to_float(double value) { return value; }
FASTCONV_BOTH float to_float(bf16 value) { return float_of(uint32_t{value.bits} << 16); }

// 11 bits of mantissa, ties to even; below 2^-14 the spacing stays 2^-24.
FASTCONV_BOTH float to_float(f16 value) {
#ifdef __CUDA_ARCH__
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
  return wide;
#else
  const uint32_t sign = uint32_t{value.bits} >> 15 << 31, magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return float_of(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  const float scaled = float_of(magnitude << 13) * 0x1p112f;  // a subnormal float becomes normal
  return float_of(sign | bits_of(scaled));
#endif
}

template <class T>
struct Rounded;
template <>
struct Rounded<float> {
  static FASTCONV_BOTH float from(float value) { return value; }
};
template <>
struct Rounded<double> {
  static FASTCONV_BOTH double from(double value) { return value; }
};
template <>
struct Rounded<bf16> {
  static FASTCONV_BOTH bf16 from(float value) {
    const uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>(bits >> 16 | 0x40u)};
    return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
  }
};
template <>
struct Rounded<f16> {
  static FASTCONV_BOTH f16 from(float value) {
#ifdef __CUDA_ARCH__
    f16 narrow;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(value));
    return narrow;
#else
    const uint32_t bits = bits_of(value), sign = bits >> 31 << 15;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
    if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // 65520 and up
    if (magnitude < 0x38800000u) {  // adding 0.5 leaves multiples of 2^-24 in the low bits
      const float shifted = float_of(magnitude) + 0.5f;
      return {static_cast<uint16_t>(sign | (bits_of(shifted) - 0x3f000000u))};
    }
    magnitude += 0xfffu + (magnitude >> 13 & 1);
    return {static_cast<uint16_t>(sign | (magnitude - 0x38000000u) >> 13)};
#endif
  }
};

template <class T, class F>
FASTCONV_BOTH T rounded(F value) {
  return Rounded<T>::from(value);
}

// To 10 explicit bits, ties away from zero, as cvt.rna.tf32 does; the low 13 bits become zero.
FASTCONV_BOTH uint32_t rounded_to_tf32(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
#else
  const uint32_t bits = bits_of(value);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
#endif
}

// Two floats as a pair of bf16; `low` in the low half.
FASTCONV_BOTH uint32_t bf16_pair(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
#else
  return rounded<bf16>(low).bits | uint32_t{rounded<bf16>(high).bits} << 16;
#endif
}

}  // namespace fastconv
