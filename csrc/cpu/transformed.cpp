#include "transformed.h"

#include <initializer_list>

#include "few_channels.h"

namespace fastconv {
namespace {

int tile_of(Transformed algorithm) { return static_cast<int>(algorithm); }

}  // namespace

bool is_transformed(int64_t number) {
  for (const Transformed known : {Transformed::few_channels, Transformed::winograd_f4, Transformed::winograd_f6})
    if (static_cast<int64_t>(known) == number) return true;
  return false;
}

int64_t transformed_floats(Transformed algorithm, int64_t c_out, int64_t c_in, bool rotated) {
  if (algorithm == Transformed::few_channels) return few_weights_floats(c_out, c_in);
  return winograd_weights_floats(tile_of(algorithm), c_out, c_in, rotated);
}

void transform_weights(Transformed algorithm, const float* weight, int64_t c_out, int64_t c_in, bool rotated,
                       float* u) {
  if (algorithm == Transformed::few_channels) return few_weights(weight, c_out, c_in, rotated, u);
  winograd_weights(tile_of(algorithm), weight, c_out, c_in, rotated, u);
}

int64_t transformed_workspace(Transformed algorithm, const WinogradJob& job) {
  return algorithm == Transformed::few_channels ? 0 : winograd_workspace(job);
}

void convolve_transformed(Transformed algorithm, const WinogradJob& job, float* workspace) {
  if (algorithm == Transformed::few_channels) return few_channels(job);
  winograd(job, workspace);
}

}  // namespace fastconv
