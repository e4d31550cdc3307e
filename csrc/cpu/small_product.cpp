// Small 1x1 convolutions of planes, as the product of matrices that they are, without copies:
//
//   forward      y[o, p]  = bias[o] + sum over c: W[o, c] x[c, p]
//   grad_input   dx[c, p] = sum over o: W[o, c] dy[o, p]
//
// For 16 -> 16 channels of 4x4 pixels the general path took 1.05 us, most of it to look at taps and
// edges that are not there.  Pixels have to fill whole vectors.
#include <algorithm>

#include "blocking.h"
#include "operations.h"
#include "parallel.h"

namespace fastconv {
namespace {

// C[m, p] = start[m] + sum over k: A[m * a_row + k * a_step] B[k, p], images of `pixels` columns.
template <class T>
struct Product {
  int64_t images, rows, depth, pixels;
  const T* a;
  int64_t a_row, a_step;
  const T *b, *start;
  T* c;
};

template <class T>
void multiply(const Product<T>& p) {
  const FlushDenormals guard(sizeof(T) == sizeof(float));
  const GemmKernelsOf<T>& k = gemm<T>();
  const Split m(p.rows, k.rows);
  const int width = k.widths[m.part - 1];
  const TapOffset origin{0, 0};
  TileArguments<T> t{};
  t.taps = &origin, t.tap_count = 1, t.depth = p.depth;
  t.a_row = p.a_row, t.a_step = p.a_step, t.b_step = t.c_row = p.pixels;
  for (int64_t image = 0; image < p.images; ++image)
    for (int64_t part = 0; part < m.count; ++part) {
      t.a = p.a + m.begin(part) * p.a_row;
      t.row_start = p.start ? p.start + m.begin(part) : nullptr;
      int64_t vectors = 0;
      for (int64_t q = 0; q < p.pixels; q += vectors * k.lanes) {
        int w = width;
        while (q + (int64_t{k.lanes} << w) > p.pixels) --w;
        vectors = int64_t{1} << w;
        t.b = p.b + image * p.depth * p.pixels + q;
        t.c = p.c + (image * p.rows + m.begin(part)) * p.pixels + q;
        k.tile[w][m.length(part) - 1](t);
      }
    }
}

template <class T>
void forward(const Geometry& g, const Operands& o) {
  multiply<T>({g.n, g.c_out, g.c_in, g.h * g.w, static_cast<const T*>(o.b), g.c_in, 1,
               static_cast<const T*>(o.a), static_cast<const T*>(o.bias), static_cast<T*>(o.out)});
}

template <class T>
void grad_input(const Geometry& g, const Operands& o) {
  multiply<T>({g.n, g.c_in, g.c_out, g.h * g.w, static_cast<const T*>(o.b), 1, g.c_in,
               static_cast<const T*>(o.a), nullptr, static_cast<T*>(o.out)});
}

}  // namespace

bool is_small_product(const Problem& problem) {
  const Geometry& g = problem.g;
  const bool alone = g.kh == 1 && g.kw == 1 && g.stride_h == 1 && g.stride_w == 1 && g.groups == 1;
  const bool padded = g.pad_top || g.pad_bottom || g.pad_left || g.pad_right;
  if (!alone || padded || problem.channels_last)
    return false;
  const int lanes = problem.dtype == DType::f32 ? gemm<float>().lanes : gemm<double>().lanes;
  const double products = static_cast<double>(g.n * g.h * g.w) * static_cast<double>(g.c_in * g.c_out);
  return g.h * g.w % lanes == 0 && products < serial_products;
}

void forward_small_product(const Problem& problem, const Operands& operands) {
  problem.dtype == DType::f32 ? forward<float>(problem.g, operands)
                              : forward<double>(problem.g, operands);
}

void grad_input_small_product(const Problem& problem, const Operands& operands) {
  problem.dtype == DType::f32 ? grad_input<float>(problem.g, operands)
                              : grad_input<double>(problem.g, operands);
}

}  // namespace fastconv
