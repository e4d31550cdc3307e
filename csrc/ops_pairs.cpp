// A move of L-BFGS on a CPU, in three operators, and a fourth to keep its pairs (nst/optimizers/curvature_pairs.py and nst/optimizers/compact_lbfgs.py have the equations, and the
// same in torch's operators).
//
// `rows` is the matrix of S and Y, then s and y of this move: 16-bit integers, and for each piece of 2048 of them
// a power of two in `scales`.  What a number loses is 1/32767 of the largest one in its piece at the most, where
// that is above 2e-34.  s is found in `step`, in full.
//
//   pairs_look(x, g, is_placed, low, high, rows, scales, step, before, products)
//       s and, if it was placed before, y;  before = g;
//       products (3, rows + 1), float64: of s, y and push with S, Y, s, y and push
//   pairs_shares(products, sy, yy, is_kept, oldest, scale, is_placed, rate, boldness, least, count, to, shares)
//       takes in the pair s, y, if it was placed before and s.y is more than `least`, and says where it
//       goes; how much of each row of S and Y, and of push, the step has; all numbers float64
//   pairs_go(x, g, rows, scales, step, to, shares, longest, low, high)
//       rows[to - 2] = s, y, if `to` has no places below 2
//       step = -free (sum_i shares[i] row i of S and Y, + shares[-1] g), not longer than `longest` on
//       average;  x += step, at most up to the walls;  step becomes the way it went
//   pairs_pack(from, row, scales)       a row of its own
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "tensors.h"

namespace fastconv {
namespace {

constexpr int64_t piece = 2048;  // of a row; with those of s, y and push it is in the first-level cache
constexpr int64_t pieces_in_part = 8;
constexpr int seen = PairsKernels::seen;

// The matrix, and how it is cut.  What is summed over parts is summed in order: no thread's luck is in
// the result.
struct Rows {
  int16_t* data;
  float* scales;
  int64_t rows, length, count;

  Rows(const Tensor& matrix, const Tensor& scales_, int64_t count) : count(count) {
    if (matrix.dim() != 2) refuse("pairs: expects a matrix of rows");
    rows = matrix.size(0), length = matrix.size(1);
    if (count < 1 || rows < 1 || length < count || length % PairsKernels::whole != 0)
      refuse("pairs: expects rows of whole lines, as long as x");
    data = numbers_of<int16_t>(matrix, rows * length, "pairs: the rows");
    scales = numbers_of<float>(scales_, rows * pieces(), "pairs: the scales");
  }
  int16_t* row(int64_t i) const { return data + i * length; }
  float& scale(int64_t i, int64_t index) const { return scales[i * pieces() + index]; }
  int64_t pieces() const { return ceil_div(count, piece); }
  int64_t parts() const { return ceil_div(pieces(), pieces_in_part); }
  int64_t length_of(int64_t index) const { return std::min(piece, count - index * piece); }
  // With the zeros that follow.
  int64_t whole_of(int64_t index) const {
    return ceil_div(length_of(index), PairsKernels::whole) * PairsKernels::whole;
  }
  // Of row i, of which that of row i + 1, or after `last` rows the next piece of the first one, is wanted soon.
  PairsRow piece_of(int64_t i, int64_t index, int64_t last) const {
    const bool is_last = i + 1 == last;
    const int64_t after = is_last && index + 1 < pieces() ? piece : 0;
    const int64_t at = index * piece;
    return {row(i) + at, scale(i, index), row(is_last ? 0 : i + 1) + at + after, whole_of(index)};
  }
  void pack(int64_t i, int64_t index, float* from) const {
    scale(i, index) = kernels().pairs->pack(from, length_of(index), row(i) + index * piece);
  }
  template <class Work>
  void for_pieces(const Work& work) const {
    parallel_for(parts(), [&](int64_t part, int64_t) {
      const int64_t end = std::min(pieces(), (part + 1) * pieces_in_part);
      for (int64_t index = part * pieces_in_part; index < end; ++index) work(index, part);
    });
  }
};

PairsBox box_of(double low, double high) { return {static_cast<float>(low), static_cast<float>(high)}; }

void pairs_look(const Tensor& x, const Tensor& g, bool is_placed, double low, double high, Tensor matrix,
                Tensor scales, const Tensor& step, Tensor before, Tensor products) {
  const int64_t count = x.numel();
  const Rows rows(matrix, scales, count);
  const int64_t known = rows.rows + 1;
  if (rows.rows < 4) refuse("pairs: expects S and Y, s and y");
  const float* place = numbers_of<float>(x, count, "pairs: x");
  const float* gradient = numbers_of<float>(g, count, "pairs: g");
  const float* went = numbers_of<float>(step, rows.length, "pairs: the step");
  float* last = numbers_of<float>(before, count, "pairs: the gradient before");
  double* found = numbers_of<double>(products, seen * known, "pairs: the products");
  std::vector<double> sums(rows.parts() * known * seen);
  rows.for_pieces([&](int64_t index, int64_t part) {
    const PairsKernels& k = *kernels().pairs;
    alignas(64) float s[piece], y[piece] = {}, push[piece];
    const float* const with[seen] = {s, y, push};
    auto* own = reinterpret_cast<double(*)[seen]>(sums.data() + part * known * seen);
    const int64_t at = index * piece, length = rows.length_of(index);
    own[known - 1][2] += k.look({place + at, gradient + at, is_placed ? last + at : nullptr, push, y, length},
                                box_of(low, high));
    std::fill_n(push + length, rows.whole_of(index) - length, 0.f);
    std::copy_n(gradient + at, length, last + at);
    std::copy_n(went + at, length, s);
    rows.pack(rows.rows - 2, index, s);
    rows.pack(rows.rows - 1, index, y);
    for (int64_t i = 0; i < rows.rows; ++i)
      k.multiply(rows.piece_of(i, index, rows.rows - 2), with, own[i]);
  });
  std::fill_n(found, seen * known, 0.0);
  for (int64_t part = 0; part < rows.parts(); ++part)
    for (int64_t i = 0; i < known; ++i)
      for (int k = 0; k < seen; ++k) found[k * known + i] += sums[(part * known + i) * seen + k];
  for (int k = 0; k < 2; ++k) found[k * known + known - 1] = found[2 * known + known - 3 + k];
}

// The state of the compact form, for m pairs.
struct Compact {
  int64_t m;
  double *found[seen], *sy, *yy, *scale;  // found: products of s, y and push with S, Y, s, y and push
  bool* is_kept;
  int64_t* oldest;

  Compact(const Tensor& products, Tensor& sy_, Tensor& yy_, Tensor& is_kept_, Tensor& oldest_,
          Tensor& scale_)
      : m(is_kept_.numel()) {
    const int64_t known = 2 * m + seen;
    double* first = numbers_of<double>(products, seen * known, "pairs: the products");
    for (int i = 0; i < seen; ++i) found[i] = first + i * known;
    sy = numbers_of<double>(sy_, m * m, "pairs: s.y");
    yy = numbers_of<double>(yy_, m * m, "pairs: y.y");
    is_kept = numbers_of<bool>(is_kept_, m, "pairs: the pairs that count");
    oldest = numbers_of<int64_t>(oldest_, 1, "pairs: the oldest pair");
    scale = numbers_of<double>(scale_, 1, "pairs: the scale");
    if (*oldest < 0 || *oldest >= m) refuse("pairs: the oldest pair is none of them");
  }

  // Takes in s and y, if they say something.
  bool remember(double least, double boldness) {
    const double s_s = found[0][2 * m], s_y = found[0][2 * m + 1], y_y = found[1][2 * m + 1];
    if (!(s_y > least)) return false;
    const int64_t i = *oldest;
    for (double* with : found) with[i] = with[2 * m], with[m + i] = with[2 * m + 1];
    for (int64_t j = 0; j < m; ++j) {
      sy[j * m + i] = found[1][j];  // s_j.y of all older s_j: R needs no more of a new pair
      yy[j * m + i] = yy[i * m + j] = found[1][m + j];
    }
    *scale = std::pow(s_y / y_y, 1 - boldness) * std::pow(s_s / s_y, boldness);
    is_kept[i] = true;
    *oldest = (i + 1) % m;
    return true;
  }

  // shares: of S, of Y, of push; zeros beforehand.
  void share(double rate, double count, double* shares) {
    std::vector<int64_t> at;  // the pairs that count, oldest first
    for (int64_t k = 0; k < m; ++k)
      if (const int64_t i = (*oldest + k) % m; is_kept[i]) at.push_back(i);
    const int64_t n = static_cast<int64_t>(at.size());
    const double *of_s = found[2], *of_y = found[2] + m, push_push = found[2][2 * m + 2];
    const auto r = [&](int64_t a, int64_t b) { return sy[at[a] * m + at[b]]; };
    std::vector<double> u(n), v(n);
    for (int64_t a = n - 1; a >= 0; --a) {  // R u = S g
      u[a] = of_s[at[a]];
      for (int64_t b = a + 1; b < n; ++b) u[a] -= r(a, b) * u[b];
      u[a] /= r(a, a);
    }
    double slope = *scale * push_push;  // of H g against g; the step is its opposite
    for (int64_t a = 0; a < n; ++a) {   // R^T v = (D + c Y Y^T) u - c Y g
      double y_yu = -of_y[at[a]];
      for (int64_t b = 0; b < n; ++b) y_yu += yy[at[a] * m + at[b]] * u[b];
      v[a] = r(a, a) * u[a] + *scale * y_yu;
      for (int64_t b = 0; b < a; ++b) v[a] -= r(b, a) * v[b];
      v[a] /= r(a, a);
      slope += v[a] * of_s[at[a]] - *scale * u[a] * of_y[at[a]];
    }
    if (slope >= 0) {
      for (int64_t a = 0; a < n; ++a)
        shares[at[a]] = rate * v[a], shares[m + at[a]] = -rate * *scale * u[a];
      shares[2 * m] = rate * *scale;
      return;
    }
    // no longer than the first step: |push|_1 is the root of this product at the most
    shares[2 * m] = rate / std::max(std::sqrt(push_push * count), 1.0);
    std::fill_n(is_kept, m, false);
    *scale = 1;
  }
};

void pairs_shares(const Tensor& products, Tensor sy, Tensor yy, Tensor is_kept, Tensor oldest, Tensor scale,
                  bool is_placed, double rate, double boldness, double least, int64_t count, Tensor to,
                  Tensor shares) {
  Compact compact(products, sy, yy, is_kept, oldest, scale);
  const int64_t m = compact.m, newest = *compact.oldest;
  int64_t* places = numbers_of<int64_t>(to, 2, "pairs: the places of s and y");
  double* to_shares = numbers_of<double>(shares, 2 * m + 1, "pairs: the shares");
  const bool is_new = is_placed && compact.remember(least, boldness);
  places[0] = is_new ? 2 + newest : 0;
  places[1] = is_new ? 2 + m + newest : 1;
  std::fill_n(to_shares, 2 * m + 1, 0.0);
  compact.share(rate, static_cast<double>(count), to_shares);
}

// What the step is made of: rows with their shares, and where s and y are kept.
struct Step {
  std::vector<float> shares;  // of S and Y, then of push
  int64_t to[2];              // beside S and Y, or below 0
};

Step step_of(const Rows& rows, const Tensor& to, const Tensor& shares) {
  const int64_t pairs = rows.rows - 2;
  const double* given = numbers_of<const double>(shares, pairs + 1, "pairs: the shares");
  const int64_t* places = numbers_of<const int64_t>(to, 2, "pairs: the places of s and y");
  for (int i = 0; i < 2; ++i)
    if (places[i] < 0 || places[i] >= 2 + pairs) refuse("pairs: expects places among S and Y");
  return {std::vector<float>(given, given + pairs + 1), {places[0] - 2, places[1] - 2}};
}

// A piece of the step before it is shortened, and its absolute sum.
double make_step(const Rows& rows, const Step& step, const float* x, const float* g, PairsBox box,
                 int64_t index, float* made) {
  const PairsKernels& k = *kernels().pairs;
  const int64_t at = index * piece, whole = rows.whole_of(index), pairs = rows.rows - 2;
  for (int i = 0; i < 2; ++i) {
    if (step.to[i] < 0) continue;
    std::copy_n(rows.row(pairs + i) + at, whole, rows.row(step.to[i]) + at);
    rows.scale(step.to[i], index) = rows.scale(pairs + i, index);
  }
  std::fill_n(made, whole, 0.f);
  for (int64_t i = 0; i < pairs; ++i)
    if (step.shares[i] != 0) k.add(rows.piece_of(i, index, pairs), -step.shares[i], made);
  return k.push(x, g, -step.shares[pairs], box, rows.length_of(index), made);
}

void pairs_go(Tensor x, const Tensor& g, Tensor matrix, Tensor scales, Tensor step_, const Tensor& to,
              const Tensor& shares, double longest, double low, double high) {
  const int64_t count = x.numel();
  const Rows rows(matrix, scales, count);
  if (rows.rows < 4) refuse("pairs: expects S and Y, s and y");
  const Step step = step_of(rows, to, shares);
  float* place = numbers_of<float>(x, count, "pairs: x");
  const float* gradient = numbers_of<const float>(g, count, "pairs: g");
  float* made = numbers_of<float>(step_, rows.length, "pairs: the step");
  const PairsBox box = box_of(low, high);
  std::vector<double> lengths(rows.pieces());
  rows.for_pieces([&](int64_t index, int64_t) {
    const int64_t at = index * piece;
    lengths[index] = make_step(rows, step, place + at, gradient + at, box, index, made + at);
  });
  double length = 0;
  for (const double each : lengths) length += each;
  const double most = longest * static_cast<double>(count);
  const float factor = length > most ? static_cast<float>(most / length) : 1.f;
  rows.for_pieces([&](int64_t index, int64_t) {
    kernels().pairs->go(factor, box, rows.length_of(index), place + index * piece, made + index * piece);
  });
}

void pairs_pack(const Tensor& from, Tensor row, Tensor scales) {
  const Rows rows(row, scales, from.numel());
  const float* numbers = numbers_of<const float>(from, rows.count, "pairs: a row");
  if (rows.rows != 1) refuse("pairs: expects one row");
  rows.for_pieces([&](int64_t index, int64_t) {
    alignas(64) float own[piece];
    std::copy_n(numbers + index * piece, rows.length_of(index), own);
    rows.pack(0, index, own);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastconv, m) {
  m.def("pairs_look(Tensor x, Tensor g, bool is_placed, float low, float high, Tensor(a!) rows, "
        "Tensor(b!) scales, Tensor step, Tensor(c!) before, Tensor(d!) products) -> ()");
  m.def("pairs_shares(Tensor(a!) products, Tensor(b!) sy, Tensor(c!) yy, Tensor(d!) is_kept, "
        "Tensor(e!) oldest, Tensor(f!) scale, bool is_placed, float rate, float boldness, float least, "
        "int count, Tensor(g!) to, Tensor(h!) shares) -> ()");
  m.def("pairs_go(Tensor(a!) x, Tensor g, Tensor(b!) rows, Tensor(c!) scales, Tensor(d!) step, Tensor to, "
        "Tensor shares, float longest, float low, float high) -> ()");
  m.def("pairs_pack(Tensor from_, Tensor(a!) row, Tensor(b!) scales) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CPU, m) {
  m.impl("pairs_look", TORCH_BOX(&pairs_look));
  m.impl("pairs_shares", TORCH_BOX(&pairs_shares));
  m.impl("pairs_go", TORCH_BOX(&pairs_go));
  m.impl("pairs_pack", TORCH_BOX(&pairs_pack));
}

}  // namespace fastconv
