// Forward and grad_input at stride 1 on Hopper: the product of implicit_gemm.h, its operands fetched
// by the tensor copy engine and multiplied by whole warpgroups.  See hopper_plan.h for the addresses.
#pragma once
#include "hopper_plan.h"

namespace fastconv::cuda {

struct HopperGemm {
  TensorMap src, weight;
  const void* bias;  // and the rest of the epilogue
  const void* added;
  const void* mask;
  void* dst;
  bool relu, pairs;  // two neighbouring channels of dst may be stored at once
  HopperTiles tiles;
  HopperSteps steps;
  int dst_h, dst_w, dst_channels;
};

// `columns`: channels of a tile, 64, 128 or 256.
int hopper_gemm(const HopperGemm&, Type, int columns, unsigned blocks, void* stream);

}  // namespace fastconv::cuda
