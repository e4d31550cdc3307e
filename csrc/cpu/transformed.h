// The 3 x 3 convolutions whose weights are transformed once and used many times, by name.
#pragma once
#include "winograd.h"

namespace fastconv {

// The numbers are those that Python gives (frozen/cpu_run.py): a Winograd algorithm's is its tile.
enum class Transformed : int64_t { few_channels = 1, winograd_f4 = 4, winograd_f6 = 6 };

// False if there is no such algorithm.
bool is_transformed(int64_t number);

// Floats of the transformed weights of `weight` (c_out, c_in, 3, 3); `rotated` for the gradient to
// the input.
int64_t transformed_floats(Transformed, int64_t c_out, int64_t c_in, bool rotated);
void transform_weights(Transformed, const float* weight, int64_t c_out, int64_t c_in, bool rotated, float* u);

// A job with u transformed for this algorithm; the job's tile is read by Winograd's alone.
int64_t transformed_workspace(Transformed, const WinogradJob&);  // floats
void convolve_transformed(Transformed, const WinogradJob&, float* workspace);

}  // namespace fastconv
