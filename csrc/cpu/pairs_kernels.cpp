// The passes of a move of L-BFGS within a box (nst/pairs.py has the equations), piece by piece.
//
// All of them wait for memory.  A processor's own prefetching ends with a page of 4 KB, about as long as
// a piece of a row is: the same piece of the next row is fetched line by line meanwhile.
#include "kernels.h"
#include "lanes.h"

namespace fastconv::FASTCONV_ISA {
namespace {

constexpr int64_t line = 16;  // floats
constexpr int64_t whole = PairsKernels::whole;

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

void look(const PairsLook& p, PairsBox box) {
  const Walls walls(box);
  for_vectors(p.count, [&](const auto& from, const auto& put) {
    const V g = from(p.g), free = walls.free(from(p.x), g);
    put(p.push, g * free);
    if (p.before != nullptr) put(p.y, (g - from(p.before)) * free);
  });
}

void multiply(const PairsRow& p, const float* const (&with)[PairsKernels::seen],
              double (&sums)[PairsKernels::seen]) {
  constexpr int side = 2;  // sums side by side, or each addition would wait for the one before it
  static_assert(whole % (side * L) == 0 || L > whole / side, "pieces are of whole steps");
  V sum[PairsKernels::seen][side] = {};
  for (int64_t i = 0; i < p.count; i += side * L) {
    if (i % line == 0)
      for (int64_t ahead = 0; ahead < side * L; ahead += line) prefetch(p.soon + i + ahead);
#pragma GCC unroll 2
    for (int j = 0; j < side; ++j) {
      const V v = load(p.row + i + j * L);
#pragma GCC unroll 3
      for (int k = 0; k < PairsKernels::seen; ++k) sum[k][j] += v * load(with[k] + i + j * L);
    }
  }
  for (int k = 0; k < PairsKernels::seen; ++k) {
    float lanes[L];
    store(lanes, sum[k][0] + sum[k][1]);
    for (const float lane : lanes) sums[k] += lane;
  }
}

void add(const PairsRow& p, float factor, float* to) {
  const V times = broadcast(factor);
  for (int64_t i = 0; i < p.count; i += L) {
    if (i % line == 0) prefetch(p.soon + i);
    store(to + i, load(to + i) + times * load(p.row + i));
  }
}

double push(const float* x, const float* g, float factor, PairsBox box, int64_t count, float* step) {
  const Walls walls(box);
  const V times = broadcast(factor);
  V sum = {};
  for_vectors(count, [&](const auto& from, const auto& put) {
    const V slope = from(g), v = (from(step) + times * slope) * walls.free(from(x), slope);
    put(step, v);
    sum += v < V{} ? -v : v;
  });
  float lanes[L];
  store(lanes, sum);
  double total = 0;
  for (const float lane : lanes) total += lane;
  return total;
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
const PairsKernels pairs_kernels = {look, multiply, add, push, go};

}  // namespace fastconv::FASTCONV_ISA
