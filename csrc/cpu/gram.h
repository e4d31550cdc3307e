// Moments of features in the blocked layout: what style losses know of a picture.
//
//   mean[i]         = sum_p f[i,p] / m
//   covariance[i,j] = sum_p (f[i,p] - mean[i]) (f[j,p] - mean[j]) / m    p: the m pixels
//
// and the gradient to the features, with dm and dc the gradients to the two:
//
//   df[i,p] (+)= (dm[i] + sum_j (dc[i,j] + dc[j,i]) (f[j,p] - mean[j])) / m
//
// A Gram matrix is covariance + mean mean^T; the other way round, a covariance that is what two
// Gram matrices leave, rounding could make it negative.
#pragma once
#include <stdint.h>

namespace fastconv {

struct Moments {
  int64_t channels, pixels;
  const float* features;  // [channels/16][pixels][16]
};

int64_t moments_workspace(int64_t channels);           // floats
int64_t moments_backward_workspace(int64_t channels);  // floats

void moments(const Moments&, float* mean, float* covariance, float* workspace);
// Either gradient may be null, as nothing; `to` has the layout of the features.
void moments_backward(const Moments&, const float* mean, const float* d_mean,
                      const float* d_covariance, bool accumulate, float* to, float* workspace);

}  // namespace fastconv
