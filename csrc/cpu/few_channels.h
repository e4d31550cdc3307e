// 3 x 3 convolutions of pictures with up to 3 channels, and their gradients, by the definition.
//
// For frozen stacks: into the blocked layout it writes 64 channels of a pixel with four stores.
// Between plain pictures the general path is faster (3 -> 64 at 512 x 512: 8.7 against 14.5 ms).
#pragma once
#include <stdint.h>

namespace fastconv {

struct WinogradJob;

struct Few {
  static constexpr int64_t most_channels = 3;
  static constexpr int64_t columns = 48;  // at a time
  static constexpr int64_t line = 64;     // floats from one line of pixels to the next
  static constexpr int64_t outputs = 64;  // channels at a time
};

// Weights as the kernels read them.  Forward [o/64][c][u][v][64]; rotated, for the gradient to
// the few channels: [o/16][2-u][2-v][c][16].  Missing channels are 0.
int64_t few_weights_floats(int64_t many, int64_t few);
void few_weights(const float* weight, int64_t many, int64_t few, bool rotated, float* to);

// A WinogradJob from few channels to many, or from many to few; its tile is not read.
void few_channels(const WinogradJob&);

}  // namespace fastconv
