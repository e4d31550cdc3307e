// What a frozen stack does between its convolutions; see simt_pools.cu.
#pragma once
#include "table.h"

namespace fastconv::cuda {

// A 2 x 2 pool, side by side, of a channels_last picture; rows and columns left over are not pooled.
//   forward,  gradient null: to = the pooled picture
//   backward                 to = the gradient of `from`; 0 where from <= 0 if `relu`
struct PoolJob {
  Type type;
  int64_t n, channels, height, width;  // of `from`
  const void* from;
  const void* gradient;
  void* to;
  bool average, relu;
};
int pool_launch(const PoolJob&, void* stream);

// to = gradient where from > 0, else 0.
int mask_launch(Type, const void* from, const void* gradient, void* to, int64_t numbers, void* stream);

}  // namespace fastconv::cuda
