// The passes of a move of L-BFGS within a box (nst/optimizers/curvature_pairs.py has the equations), piece by piece.
//
// All of them wait for memory.  So rows are kept as integers of 16 bits, with a scale for each piece; and as a
// processor's own prefetching ends with a page of 4 KB, as long as a piece of a row is, the same piece of the
// next row is fetched line by line meanwhile.
#include <math.h>

#include "kernels.h"
#include "lanes.h"

namespace fastconv::FASTCONV_ISA {
namespace {

constexpr int64_t line = 32;  // integers
constexpr int64_t whole = PairsKernels::whole;
static_assert(whole % L == 0, "pieces are of whole vectors");

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

struct Walls {
  V low, high;
  explicit Walls(PairsBox box) : low(broadcast(box.low)), high(broadcast(box.high)) {}
  V within(V v) const {
    v = v < low ? low : v;
    return v > high ? high : v;
  }
  V free(V x, V g) const { return within(x - g) != x ? broadcast(1.f) : V{}; }
};

// take(at, load, store) for whole vectors, and with the first lanes alone for the rest.
template <class Take>
inline void for_vectors(int64_t count, const Take& take) {
  int64_t i = 0;
  for (; i + L <= count; i += L)
    take([i](const float* from) { return load(from + i); }, [i](float* to, V v) { store(to + i, v); });
  if (const int64_t rest = count - i; rest > 0)
    take([i, rest](const float* from) { return load_first(from + i, rest); },
         [i, rest](float* to, V v) { store_first(to + i, v, rest); });
}

double look(const PairsLook& p, PairsBox box) {
  const Walls walls(box);
  V sum = {};
  for_vectors(p.count, [&](const auto& from, const auto& put) {
    const V g = from(p.g), free = walls.free(from(p.x), g), push = g * free;
    put(p.push, push);
    sum += push * push;
    if (p.before != nullptr) put(p.y, (g - from(p.before)) * free);
  });
  return double{sum_of(sum)};
}

// The smallest power of two times which 32767 is as much as `most`.  Packed once more, a piece stays as it is.
float scale_for(float most) {
  constexpr int least = -126;  // so that it and its inverse are no denormals
  int exponent = most > 0 ? ilogbf(most) - 14 : least;
  if (exponent < least) exponent = least;
  return most > ldexpf(32767, exponent) ? ldexpf(1, exponent + 1) : ldexpf(1, exponent);
}

float pack(float* from, int64_t count, int16_t* to) {
  for (; count % whole != 0; ++count) from[count] = 0;
  V most = {}, nothing = {};  // nothing: 0, or not a number if one of them is none
  for (int64_t i = 0; i < count; i += L) {
    const V v = load(from + i);
    most = maximum(most, absolute(v));
    nothing += v * V{};
  }
  float lanes[L], largest = 0;
  store(lanes, most);
  for (const float lane : lanes) largest = lane > largest ? lane : largest;
  const float scale = sum_of(nothing) == 0 ? scale_for(largest) : NAN;
  const V times = broadcast(scale == scale ? 1 / scale : 0.f), back = broadcast(scale);
  const V to_round = broadcast(12582912.f);  // 1.5 * 2^23: what is added to it has no fraction left
  for (int64_t i = 0; i < count; i += L) {
    const V made = scale == scale ? (load(from + i) * times + to_round) - to_round : V{};
    store_shorts(to + i, made);
    store(from + i, made * back);
  }
  return scale;
}

void multiply(const PairsRow& p, const float* const (&with)[PairsKernels::seen],
              double (&sums)[PairsKernels::seen]) {
  constexpr int side = whole / L > 1 ? 2 : 1;  // sums side by side, or each would wait for the one before it
  V sum[PairsKernels::seen][side] = {};
  for (int64_t i = 0; i < p.count; i += side * L) {
    if (i % line == 0) prefetch(p.soon + i);
#pragma GCC unroll 2
    for (int j = 0; j < side; ++j) {
      const V v = load_shorts(p.row + i + j * L);
#pragma GCC unroll 3
      for (int k = 0; k < PairsKernels::seen; ++k) sum[k][j] += v * load(with[k] + i + j * L);
    }
  }
  for (int k = 0; k < PairsKernels::seen; ++k) {
    V both = sum[k][0];
    for (int j = 1; j < side; ++j) both += sum[k][j];
    sums[k] += double{p.scale} * sum_of(both);
  }
}

void add(const PairsRow& p, float factor, float* to) {
  const V times = broadcast(factor * p.scale);
  for (int64_t i = 0; i < p.count; i += L) {
    if (i % line == 0) prefetch(p.soon + i);
    store(to + i, load(to + i) + times * load_shorts(p.row + i));
  }
}

double push(const float* x, const float* g, float factor, PairsBox box, int64_t count, float* step) {
  const Walls walls(box);
  const V times = broadcast(factor);
  V sum = {};
  for_vectors(count, [&](const auto& from, const auto& put) {
    const V slope = from(g), v = (from(step) + times * slope) * walls.free(from(x), slope);
    put(step, v);
    sum += absolute(v);
  });
  return double{sum_of(sum)};
}

void go(float factor, PairsBox box, int64_t count, float* x, float* step) {
  const Walls walls(box);
  const V times = broadcast(factor);
  for_vectors(count, [&](const auto& from, const auto& put) {
    const V here = from(x), there = walls.within(here + times * from(step));
    put(step, there - here);
    put(x, there);
  });
}

}  // namespace

extern const PairsKernels pairs_kernels;
const PairsKernels pairs_kernels = {look, pack, multiply, add, push, go};

}  // namespace fastconv::FASTCONV_ISA
