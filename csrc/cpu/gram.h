// Moments of features in the blocked layout: what style losses know of a picture.
//
//   first[i]     = sum_p f[i,p] / m
//   second[i,j]  = sum_p f[i,p] f[j,p] / m        p: the m pixels, i, j: channels
//
// and the gradient to the features, with d1 and d2 the gradients to the two:
//
//   df[i,p] (+)= (d1[i] + sum_j (d2[i,j] + d2[j,i]) f[j,p]) / m
#pragma once
#include <stdint.h>

namespace fastconv {

struct Moments {
  int64_t channels, pixels;
  const float* features;  // [channels/16][pixels][16]
};

int64_t moments_workspace(int64_t channels);           // floats
int64_t moments_backward_workspace(int64_t channels);  // floats

// Either of the two results may be null.
void moments(const Moments&, float* first, float* second, float* workspace);
// Either gradient may be null, as nothing; `to` has the layout of the features.
void moments_backward(const Moments&, const float* first, const float* second, bool accumulate,
                      float* to, float* workspace);

}  // namespace fastconv
