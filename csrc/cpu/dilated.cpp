// 3x3 convolutions with a dilation d, by Winograd's algorithm: every d-th row and column of a picture is a
// picture of its own, and all d x d of them are a batch without dilation.
//
//   y[n, o, d a + r, d b + s] = sum over c, u, v: W[o, c, u, v] x[n, c, d (a + u - P) + r, d (b + v - P') + s]
//
// for paddings d P and d P'.  Where d does not divide the sides, the last rows and columns of some are zeros,
// or results that nobody wants.
//
//   copy  [n][r][s][channel][a][b]
//
// 256 to 256 channels of 32 x 32, d = 4, on a Xeon with a matrix unit: 1.9 ms, where the general path takes
// 3.6 (torch 3.3).  With 64 channels to copy and 64 x 64, d = 2, it takes 1.0, the general path 0.7.
#include <algorithm>

#include "operations.h"
#include "parallel.h"
#include "winograd.h"
#include "workspace.h"

namespace fastconv {
namespace {

// The problem of the batch.
Problem undilated(const Problem& problem) {
  Problem p = problem;
  Geometry& g = p.g;
  const int64_t d_h = g.dil_h, d_w = g.dil_w;
  g.n *= d_h * d_w;
  g.h = ceil_div(g.h, d_h), g.w = ceil_div(g.w, d_w);
  g.out_h = ceil_div(g.out_h, d_h), g.out_w = ceil_div(g.out_w, d_w);
  g.pad_top /= d_h, g.pad_left /= d_w;
  g.pad_bottom = std::max<int64_t>(g.out_h + 2 - g.h - g.pad_top, 0);
  g.pad_right = std::max<int64_t>(g.out_w + 2 - g.w - g.pad_left, 0);
  g.dil_h = g.dil_w = 1;
  return p;
}

// Between a picture's planes and the batch's.
struct Phases {
  int64_t n, channels, h, w, d_h, d_w;

  int64_t rows() const { return ceil_div(h, d_h); }
  int64_t columns() const { return ceil_div(w, d_w); }
  int64_t floats() const { return n * d_h * d_w * channels * rows() * columns(); }

  // Calls line(first of the picture's row, first of the batch's, columns of the picture in it).
  template <class Line>
  void each_line(const Line& line) const {
    parallel_for(n * channels * d_h, [&](int64_t index, int64_t) {
      const int64_t r = index % d_h, c = index / d_h % channels, image = index / d_h / channels;
      for (int64_t s = 0; s < d_w; ++s)
        for (int64_t a = 0; a < rows(); ++a) {
          const int64_t y = a * d_h + r;
          const int64_t to = ((((image * d_h + r) * d_w + s) * channels + c) * rows() + a) * columns();
          line(((image * channels + c) * h + y) * w + s, to, y < h ? ceil_div(w - s, d_w) : 0);
        }
    });
  }
  void split(const float* from, float* to) const {
    each_line([&](int64_t at, int64_t line, int64_t count) {
      for (int64_t b = 0; b < count; ++b) to[line + b] = from[at + b * d_w];
      std::fill(to + line + count, to + line + columns(), 0.f);
    });
  }
  void join(const float* from, float* to) const {
    each_line([&](int64_t at, int64_t line, int64_t count) {
      for (int64_t b = 0; b < count; ++b) to[at + b * d_w] = from[line + b];
    });
  }
};

Phases phases_of(const Geometry& g, bool outputs) {
  return {g.n, outputs ? g.c_out : g.c_in, outputs ? g.out_h : g.h, outputs ? g.out_w : g.w, g.dil_h, g.dil_w};
}

bool accepts(const Problem& p, bool (*winograd)(const Problem&)) {
  constexpr int64_t least_side = 8;  // of the batch's pictures; smaller ones fill no tiles
  constexpr int64_t least_products = 64;  // for each number that is copied
  const Geometry& g = p.g;
  const bool dilated = g.kh == 3 && g.kw == 3 && g.dil_h * g.dil_w > 1 && g.stride_h == 1 && g.stride_w == 1;
  if (!dilated || g.groups != 1 || p.dtype != DType::f32 || p.channels_last) return false;
  if (g.c_in * g.c_out < least_products * (g.c_in + g.c_out)) return false;
  if (g.pad_top % g.dil_h || g.pad_left % g.dil_w) return false;
  const Problem batch = undilated(p);
  return std::min(batch.g.out_h, batch.g.out_w) >= least_side && winograd(batch);
}

// a and b as operands have them; the result as a picture's phases, or in place.
void run(Operation operation, const Problem& problem, const Operands& o) {
  const Phases x = phases_of(problem.g, false), y = phases_of(problem.g, true);
  const bool gives_y = operation == Operation::forward, gives_weights = operation == Operation::grad_weight;
  const auto both = RearrangedPicture::bytes_for<float>(static_cast<std::size_t>(x.floats())) +
                    RearrangedPicture::bytes_for<float>(static_cast<std::size_t>(y.floats()));
  RearrangedPicture space(both);
  float* const of_x = space.take<float>(static_cast<std::size_t>(x.floats()));
  float* const of_y = space.take<float>(static_cast<std::size_t>(y.floats()));
  Operands batch = o;
  if (gives_y) x.split(static_cast<const float*>(o.a), of_x), batch.a = of_x, batch.out = of_y;
  else y.split(static_cast<const float*>(o.a), of_y), batch.a = of_y;
  if (gives_weights) x.split(static_cast<const float*>(o.b), of_x), batch.b = of_x;
  if (operation == Operation::grad_input) batch.out = of_x;
  const Problem undone = undilated(problem);
  choose(operation, undone).run(undone, batch);
  if (gives_y) y.join(of_y, static_cast<float*>(o.out));
  if (operation == Operation::grad_input) x.join(of_x, static_cast<float*>(o.out));
}

}  // namespace

bool dilated_f4_forward_accepts(const Problem& p) { return accepts(p, winograd_f4_forward_accepts); }
bool dilated_f6_forward_accepts(const Problem& p) { return accepts(p, winograd_f6_forward_accepts); }
bool dilated_f4_grad_input_accepts(const Problem& p) { return accepts(p, winograd_f4_grad_input_accepts); }
bool dilated_f6_grad_input_accepts(const Problem& p) { return accepts(p, winograd_f6_grad_input_accepts); }
bool dilated_f4_grad_weight_accepts(const Problem& p) { return accepts(p, winograd_f4_grad_weight_accepts); }

void forward_dilated(const Problem& p, const Operands& o) { run(Operation::forward, p, o); }
void grad_input_dilated(const Problem& p, const Operands& o) { run(Operation::grad_input, p, o); }
void grad_weight_dilated(const Problem& p, const Operands& o) { run(Operation::grad_weight, p, o); }

}  // namespace fastconv
