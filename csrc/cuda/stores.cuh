// How sums leave the registers of a tensor-core kernel: the epilogue, and two channels at a time.
#pragma once
#include "epilogue.h"

namespace fastconv::cuda {

template <class T>
FASTCONV_DEVICE void store_pair(T* to, float first, float second) {
  if constexpr (sizeof(T) == 4)
    *reinterpret_cast<uint64_t*>(to) = bits_of(first) | uint64_t{bits_of(second)} << 32;
  else
    *reinterpret_cast<uint32_t*>(to) = rounded<T>(first).bits | uint32_t{rounded<T>(second).bits} << 16;
}

// Two neighbouring channels of a pixel, of which the second may not exist.  `pairs`: it always does,
// and both may be stored at once.
template <class T>
FASTCONV_DEVICE void store_two(T* dst, const Epilogue<T>& epilogue, int64_t place, int64_t channel, bool second_exists,
                               bool pairs, float first, float second) {
  first = finished(first, epilogue, channel, place);
  if (second_exists) second = finished(second, epilogue, channel + 1, place + 1);
  if (pairs) return store_pair(dst + place, first, second);
  dst[place] = rounded<T>(first);
  if (second_exists) dst[place + 1] = rounded<T>(second);
}

}  // namespace fastconv::cuda
