// The rows of implementations.cpp for 3 x 3 convolutions: which problems they take, and the way
// from operands to a WinogradJob.
#include <string_view>

#include "parallel.h"
#include "winograd.h"
#include "workspace.h"

namespace fastconv {

Picture picture_of(const Problem& problem, const void* data, int64_t c, int64_t h, int64_t w) {
  float* floats = static_cast<float*>(const_cast<void*>(data));
  return problem.channels_last ? last_picture(floats, c, h, w) : planar_picture(floats, c, h, w);
}

namespace {

void run_with_weights(const Problem& problem, const Operands& o, WinogradJob job, bool rotated) {
  const Geometry& g = problem.g;
  const int64_t weights =
      o.prepared ? 0 : winograd_weights_floats(job.tile, g.c_out, g.c_in, rotated);
  const int64_t floats = winograd_workspace(job);
  Workspace space((weights + floats) * sizeof(float) + 128);
  float* u = space.take<float>(weights);
  if (!o.prepared)
    winograd_weights(job.tile, static_cast<const float*>(o.b), g.c_out, g.c_in, rotated, u);
  job.u = o.prepared ? static_cast<const float*>(o.prepared) : u;
  winograd(job, space.take<float>(floats));
}

void forward(int tile, const Problem& problem, const Operands& o) {
  const Geometry& g = problem.g;
  run_with_weights(problem, o,
                   {tile, g.n, picture_of(problem, o.a, g.c_in, g.h, g.w),
                    picture_of(problem, o.out, g.c_out, g.out_h, g.out_w), g.pad_top, g.pad_left,
                    nullptr, static_cast<const float*>(o.bias), false},
                   false);
}

// dx[n,c,k,l] = sum w[o,c,2-u,2-v] dy[n, o, k + u - (2 - top), l + v - (2 - left)]
void grad_input(int tile, const Problem& problem, const Operands& o) {
  const Geometry& g = problem.g;
  run_with_weights(problem, o,
                   {tile, g.n, picture_of(problem, o.a, g.c_out, g.out_h, g.out_w),
                    picture_of(problem, o.out, g.c_in, g.h, g.w), 2 - g.pad_top, 2 - g.pad_left,
                    nullptr, nullptr, false},
                   true);
}

bool possible(const Problem& p) {
  const Geometry& g = p.g;
  return p.dtype == DType::f32 && g.kh == 3 && g.kw == 3 && g.stride_h == 1 && g.stride_w == 1 &&
         g.dil_h == 1 && g.dil_w == 1 && g.groups == 1;
}

// What `auto` means.  The first row that a problem reaches decides; other problems are computed
// directly.  Measured on the development machine, one thread, weights prepared, in microseconds:
//
//   channels    pixels    direct    F(4x4)    F(6x6)
//       8->8     56^2         27        41        44      empty lanes
//     16->16     14^2         12        10        10
//     64->64     14^2         86        37        38
//   512->512      7^2       1806       833      1590      6.5 ms where weights are new each time
//   512->512     28^2      18466      4308      3934
//     64->64    112^2       4049      1358      1144
//   256->256    112^2      66385     18453     14994
//
// F(6x6) rounds three to four times as coarsely as F(4x4): it is taken only from where it gains
// a sixth, and where its error stays below 5e-6 (relative L2 of a layer on what a ReLU lets
// through: F(6x6) 2.7e-6 with 64 channels, 3.7e-6 with 128, 5.1e-6 with 256; F(4x4) 0.6e-6,
// 0.9e-6, 1.2e-6, and 1.6e-6 with 512).
struct AutoRow {
  int64_t least_depth, most_depth, least_outputs, least_pixels;
  Algorithm algorithm;
};
constexpr AutoRow auto_table[] = {
    {32, 128, 32, 96 * 96, Algorithm::f6},
    {16, INT64_MAX, 16, 12 * 12, Algorithm::f4},
};

// Whether tiles of 6 x 6 multiply a tenth less than tiles of 4 x 4: not where they reach far beyond the picture
// (64 to 64 channels of 8 x 2048: 3.1 ms, and 1.5 with F(4x4)).
bool larger_tiles_pay(int64_t height, int64_t width) {
  const auto tiles = [&](int64_t side) { return ceil_div(height, side) * ceil_div(width, side); };
  return 10 * tiles(6) * 64 <= 9 * tiles(4) * 36;
}

Algorithm algorithm_for(const Problem& p, bool backward) {
  if (!possible(p)) return Algorithm::direct;
  if (p.algorithm != Algorithm::automatic) return p.algorithm;
  const Geometry& g = p.g;
  const int64_t depth = backward ? g.c_out : g.c_in, outputs = backward ? g.c_in : g.c_out;
  const int64_t height = backward ? g.h : g.out_h, width = backward ? g.w : g.out_w;
  const int64_t pixels = g.n * height * width;
  for (const AutoRow& row : auto_table)
    if (depth >= row.least_depth && depth <= row.most_depth && outputs >= row.least_outputs &&
        pixels >= row.least_pixels && (row.algorithm == Algorithm::f4 || larger_tiles_pay(height, width)))
      return row.algorithm;
  return Algorithm::direct;
}

// F(6x6) gains nothing for the gradient of the weights.  All of dU is passed through whatever the
// picture's size, so that many channels want many pixels: 512 -> 512 takes 12.3 ms instead of 4.9
// at 14 x 14, but 14.9 instead of 17.3 at 28 x 28; 64 -> 64 0.055 instead of 0.083 at 14 x 14.
Algorithm algorithm_for_weights(const Problem& p) {
  if (!possible(p)) return Algorithm::direct;
  if (p.algorithm != Algorithm::automatic) return p.algorithm;
  const Geometry& g = p.g;
  const int64_t pixels = g.n * g.out_h * g.out_w;
  const bool pays = g.c_in >= 16 && g.c_out >= 16 && pixels >= 12 * 12 &&
                    pixels >= g.c_in && pixels >= g.c_out;
  return pays ? Algorithm::f4 : Algorithm::direct;
}

}  // namespace

int winograd_tile(Operation operation, const Problem& problem) {
  const std::string_view name = choose(operation, problem).name;
  return name.ends_with("_f4") ? 4 : name.ends_with("_f6") ? 6 : 0;
}

bool winograd_f4_grad_weight_accepts(const Problem& p) {
  return algorithm_for_weights(p) == Algorithm::f4;
}
bool winograd_f6_grad_weight_accepts(const Problem& p) {
  return algorithm_for_weights(p) == Algorithm::f6;
}
bool winograd_f4_forward_accepts(const Problem& p) {
  return algorithm_for(p, false) == Algorithm::f4;
}
bool winograd_f6_forward_accepts(const Problem& p) {
  return algorithm_for(p, false) == Algorithm::f6;
}
bool winograd_f4_grad_input_accepts(const Problem& p) {
  return algorithm_for(p, true) == Algorithm::f4;
}
bool winograd_f6_grad_input_accepts(const Problem& p) {
  return algorithm_for(p, true) == Algorithm::f6;
}
void winograd_f4_forward(const Problem& p, const Operands& o) { forward(4, p, o); }
void winograd_f6_forward(const Problem& p, const Operands& o) { forward(6, p, o); }
void winograd_f4_grad_input(const Problem& p, const Operands& o) { grad_input(4, p, o); }
void winograd_f6_grad_input(const Problem& p, const Operands& o) { grad_input(6, p, o); }

}  // namespace fastconv
