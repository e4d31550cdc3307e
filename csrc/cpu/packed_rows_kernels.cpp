// Rows of 16-bit integers with a scale for each block (ops_packed_rows.cpp), block by block.
//
// Products and sums wait for memory.  A processor's own prefetching ends with a page of 4 KB, which is as long as
// a block of a row is: so the block that is read next is fetched line by line meanwhile.
#include <math.h>

#include "kernels.h"
#include "lanes.h"

namespace fastconv::FASTCONV_ISA {
namespace {

constexpr int64_t line = 32;  // integers
constexpr int64_t whole = PackedRowsKernels::whole;
static_assert(whole % L == 0, "blocks are of whole vectors");

#if defined(FASTCONV_VECTORS)
typedef int16_t Shorts __attribute__((vector_size(FASTCONV_VECTOR_BYTES / 2)));
typedef int32_t Integers __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));

inline V load_shorts(const int16_t* from) {
  Shorts v;
  memcpy(&v, from, sizeof v);
  return __builtin_convertvector(__builtin_convertvector(v, Integers), V);
}

inline void store_shorts(int16_t* to, V v) {
  const Shorts made = __builtin_convertvector(__builtin_convertvector(v, Integers), Shorts);
  memcpy(to, &made, sizeof made);
}
#else
inline V load_shorts(const int16_t* from) { return static_cast<V>(*from); }
inline void store_shorts(int16_t* to, V v) { *to = static_cast<int16_t>(v); }
#endif

inline V absolute(V v) { return v < V{} ? -v : v; }

inline float sum_of(V v) {
  float lanes[L], sum = 0;
  store(lanes, v);
  for (const float lane : lanes) sum += lane;
  return sum;
}

// The smallest power of two times which 32767 is as much as `most`.  Packed once more, a block stays as it is.
float scale_for(float most) {
  constexpr int least = -126;  // so that it and its inverse are no denormals
  int exponent = most > 0 ? ilogbf(most) - 14 : least;
  if (exponent < least) exponent = least;
  return most > ldexpf(32767, exponent) ? ldexpf(1, exponent + 1) : ldexpf(1, exponent);
}

float pack(const float* from, int64_t count, int16_t* to) {
  V most = {}, nothing = {};  // nothing: 0, or NaN if there is one or an infinity
  for (int64_t i = 0; i < count; i += L) {
    const V v = load(from + i);
    most = maximum(most, absolute(v));
    nothing += v * V{};
  }
  float lanes[L], largest = 0;
  store(lanes, most);
  for (const float lane : lanes) largest = lane > largest ? lane : largest;
  const float scale = sum_of(nothing) == 0 ? scale_for(largest) : NAN;
  const V times = broadcast(scale == scale ? 1 / scale : 0.f);
  const V to_round = broadcast(12582912.f);  // 1.5 * 2^23: what is added to it has no fraction left
  for (int64_t i = 0; i < count; i += L)
    store_shorts(to + i, scale == scale ? (load(from + i) * times + to_round) - to_round : V{});
  return scale;
}

template <int count>
void multiply(const PackedBlock& p, const float* const* with, double* sums) {
  constexpr int side = whole / L > 1 ? 2 : 1;  // sums side by side, or each would wait for the one before it
  V sum[count][side] = {};
  for (int64_t i = 0; i < p.count; i += side * L) {
    if (i % line == 0) prefetch(p.soon + i);
#pragma GCC unroll 2
    for (int j = 0; j < side; ++j) {
      const V v = load_shorts(p.integers + i + j * L);
#pragma GCC unroll 4
      for (int k = 0; k < count; ++k) sum[k][j] += v * load(with[k] + i + j * L);
    }
  }
  for (int k = 0; k < count; ++k) {
    V both = sum[k][0];
    for (int j = 1; j < side; ++j) both += sum[k][j];
    sums[k] += double{p.scale} * sum_of(both);
  }
}

void add(const PackedBlock& p, float factor, float* to) {
  const V times = broadcast(factor * p.scale);
  for (int64_t i = 0; i < p.count; i += L) {
    if (i % line == 0) prefetch(p.soon + i);
    store(to + i, load(to + i) + times * load_shorts(p.integers + i));
  }
}

}  // namespace

extern const PackedRowsKernels packed_rows_kernels;
const PackedRowsKernels packed_rows_kernels = {pack, {multiply<1>, multiply<2>, multiply<3>}, add};

}  // namespace fastconv::FASTCONV_ISA
