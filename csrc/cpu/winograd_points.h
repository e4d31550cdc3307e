// Winograd's minimal filtering F(M x M, 3 x 3): a tile of M x M results from A x A = (M+2)^2 data.
//
//   y = A^T [ (G g G^T) . (B^T d B) ] A        . element by element, summed over input channels
//
// With finite points p, the nodal polynomial N(x) = prod (x - p) and the point at infinity:
//
//   B^T row of p:    the coefficients of N(x) / (x - p)          of infinity: those of N(x)
//   G   row of p:    (1, p, p^2) / prod_{q != p} (p - q)         of infinity: (0, 0, 1)
//   A^T column of p: (1, p, ..., p^(M-1))                        of infinity: (0, ..., 0, 1)
//
// The points come in pairs +-p beside 0.  N(x)/(x -+ p) then splits into an even part and +-p
// times an odd part, which both rows of a pair share: 12 multiply-adds for 6 values, 24 for 8.
//
// F(4x4) has the points 0, +-2/3, +-3/2: their product is 1, which keeps all coefficients near 1
// and halves the error of the usual 0, +-1, +-2.  F(6x6) has 0, +-1, +-2, +-1/2.
#pragma once
#include "lanes.h"

namespace fastconv::FASTCONV_ISA {

template <int M>
struct Points;

template <>
struct Points<4> {
  static constexpr int pairs = 2;
  static constexpr double p[pairs] = {2.0 / 3, 1.5};
};

template <>
struct Points<6> {
  static constexpr int pairs = 3;
  static constexpr double p[pairs] = {1, 2, 0.5};
};

template <int M>
inline constexpr int taps = M + 2;  // A: values a tile reads in one direction

constexpr double power(double p, int n) { return n == 0 ? 1 : p * power(p, n - 1); }

// The finite point of row i: 0, +p0, -p0, +p1, ...
template <int M>
constexpr double point(int i) {
  return i == 0 ? 0 : (i % 2 ? 1 : -1) * Points<M>::p[(i - 1) / 2];
}

// G[i][u]
template <int M>
constexpr double weight_factor(int i, int u) {
  if (i == M + 1) return u == 2;
  double product = 1;
  for (int j = 0; j <= M; ++j)
    if (j != i) product *= point<M>(i) - point<M>(j);
  return power(point<M>(i), u) / product;
}

// d -> B^T d, in place.
inline void data_transform(V (&d)[6]) {
  constexpr float p0 = Points<4>::p[0], p1 = Points<4>::p[1];
  constexpr float q0 = Points<4>::p[0] * Points<4>::p[0], q1 = Points<4>::p[1] * Points<4>::p[1];
  constexpr float sum = 97.0 / 36;  // q0 + q1
  const V even0 = d[4] - q1 * d[2], odd0 = d[3] - q1 * d[1];
  const V even1 = d[4] - q0 * d[2], odd1 = d[3] - q0 * d[1];
  d[0] = (d[0] + d[4]) - sum * d[2];
  d[5] = (d[1] + d[5]) - sum * d[3];
  d[1] = even0 + p0 * odd0;
  d[2] = even0 - p0 * odd0;
  d[3] = even1 + p1 * odd1;
  d[4] = even1 - p1 * odd1;
}

inline void data_transform(V (&d)[8]) {
  // Of the squares 1, 4, 1/4: the sum and product of the two that are not the pair's own.
  const V even0 = (d[2] + d[6]) - 4.25f * d[4], odd0 = (d[1] + d[5]) - 4.25f * d[3];
  const V even1 = (d[6] - 1.25f * d[4]) + 0.25f * d[2], odd1 = (d[5] - 1.25f * d[3]) + 0.25f * d[1];
  const V even2 = (d[6] - 5.f * d[4]) + 4.f * d[2], odd2 = (d[5] - 5.f * d[3]) + 4.f * d[1];
  d[0] = (d[6] - d[0]) + 5.25f * (d[2] - d[4]);
  d[7] = (d[7] - d[1]) + 5.25f * (d[3] - d[5]);
  d[1] = even0 + odd0;
  d[2] = even0 - odd0;
  d[3] = even1 + 2.f * odd1;
  d[4] = even1 - 2.f * odd1;
  d[5] = even2 + 0.5f * odd2;
  d[6] = even2 - 0.5f * odd2;
}

// y -> A y, the adjoint of result_transform: 4 values become 6, or 6 become 8.
inline void result_adjoint(V (&y)[6]) {
  constexpr double p0 = Points<4>::p[0], p1 = Points<4>::p[1];
  constexpr float a1 = p0, b1 = p1, a2 = p0 * p0, b2 = p1 * p1, a3 = a2 * p0, b3 = b2 * p1;
  const V even0 = y[0] + a2 * y[2], odd0 = a1 * y[1] + a3 * y[3];
  const V even1 = y[0] + b2 * y[2], odd1 = b1 * y[1] + b3 * y[3];
  y[5] = y[3];
  y[1] = even0 + odd0;
  y[2] = even0 - odd0;
  y[3] = even1 + odd1;
  y[4] = even1 - odd1;
}

inline void result_adjoint(V (&y)[8]) {
  const V even0 = y[0] + y[2] + y[4], odd0 = y[1] + y[3] + y[5];
  const V even1 = y[0] + 4.f * y[2] + 16.f * y[4], odd1 = 2.f * y[1] + 8.f * y[3] + 32.f * y[5];
  const V even2 = y[0] + 0.25f * y[2] + 0.0625f * y[4];
  const V odd2 = 0.5f * y[1] + 0.125f * y[3] + 0.03125f * y[5];
  y[7] = y[5];
  y[1] = even0 + odd0;
  y[2] = even0 - odd0;
  y[3] = even1 + odd1;
  y[4] = even1 - odd1;
  y[5] = even2 + odd2;
  y[6] = even2 - odd2;
}

// m -> A^T m; the first M entries hold the result.
inline void result_transform(V (&m)[6]) {
  constexpr double p0 = Points<4>::p[0], p1 = Points<4>::p[1];
  constexpr float a1 = p0, b1 = p1, a2 = p0 * p0, b2 = p1 * p1, a3 = a2 * p0, b3 = b2 * p1;
  const V s0 = m[1] + m[2], t0 = m[1] - m[2], s1 = m[3] + m[4], t1 = m[3] - m[4];
  m[0] = m[0] + s0 + s1;
  m[1] = a1 * t0 + b1 * t1;
  m[2] = a2 * s0 + b2 * s1;
  m[3] = m[5] + a3 * t0 + b3 * t1;
}

inline void result_transform(V (&m)[8]) {
  const V s0 = m[1] + m[2], t0 = m[1] - m[2], s1 = m[3] + m[4], t1 = m[3] - m[4];
  const V s2 = m[5] + m[6], t2 = m[5] - m[6];
  m[0] = m[0] + s0 + s1 + s2;
  m[1] = t0 + 2.f * t1 + 0.5f * t2;
  m[2] = s0 + 4.f * s1 + 0.25f * s2;
  m[3] = t0 + 8.f * t1 + 0.125f * t2;
  m[4] = s0 + 16.f * s1 + 0.0625f * s2;
  m[5] = m[7] + t0 + 32.f * t1 + 0.03125f * t2;
}

}  // namespace fastconv::FASTCONV_ISA
