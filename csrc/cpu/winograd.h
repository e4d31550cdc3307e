// Winograd convolution of float pictures: 3 x 3 kernels, stride 1, dilation 1, one group.
#pragma once
#include "decisions.h"
#include "implementations.h"
#include "picture.h"

namespace fastconv {

// Transformed weights U: [o/64][e][o/panel within 64][k][panel], with room after some panels.
//
// tile is 4 or 6.  `rotated` gives the weights of the gradient to the input: k = c_out, o = c_in,
// kernels turned by 180 degrees.  `weight` is (c_out, c_in, 3, 3).
void winograd_weights(int tile, const float* weight, int64_t c_out, int64_t c_in, bool rotated,
                      float* u);
int64_t winograd_weights_floats(int tile, int64_t c_out, int64_t c_in, bool rotated);

// to[n, o, i, j] = bias[o] + sum_kuv w[o,k,u,v] from[n, k, i + u - top, j + v - left], and ReLU.
//
// Inside a frozen stack, with all pictures in the blocked layout except tap and added:
//   expand   `from` is the gradient after a pool and a ReLU; these decisions lead it back
//   decide   `to` is what remains after a pool; the decisions are noted
//   tap      a second copy of `to`
//   added    the gradient that arrives at `to` from a tap
//   outside  by channel, what `from` is beyond its border instead of 0; for few channels alone
struct WinogradJob {
  int tile;  // 4 or 6; few_channels.h's algorithm has none
  int64_t n;
  Picture from, to;
  int64_t top, left;  // padding; negative crops
  const float* u;
  const float* bias;  // or null
  bool relu;
  bool turned = false;  // u is that of the other direction (winograd_turn.h)
  const Decisions* expand = nullptr;
  const Decisions* decide = nullptr;
  const Picture* tap = nullptr;
  const Picture* added = nullptr;
  const float* outside = nullptr;
  int64_t height() const { return decide ? decide->height : to.height; }  // before pooling
  int64_t width() const { return decide ? decide->width : to.width; }
};
// Writes a strip of results where they belong, with what a frozen stack does on the way.
// `arriving` is room for a second strip.
void finish_strip(const WinogradJob&, bool streamed, Window, float* strip, float* arriving);

int64_t winograd_workspace(const WinogradJob&);  // floats
void winograd(const WinogradJob&, float* workspace);

Picture picture_of(const Problem&, const void* data, int64_t c, int64_t h, int64_t w);

// The tile of the Winograd implementation that runs a problem, or 0 if another one does.
int winograd_tile(Operation, const Problem&);

// Rows of the tables in implementations.cpp.
bool winograd_f4_grad_weight_accepts(const Problem&);
bool winograd_f6_grad_weight_accepts(const Problem&);
void winograd_f4_grad_weight(const Problem&, const Operands&);
void winograd_f6_grad_weight(const Problem&, const Operands&);
bool winograd_f4_forward_accepts(const Problem&);
bool winograd_f6_forward_accepts(const Problem&);
bool winograd_f4_grad_input_accepts(const Problem&);
bool winograd_f6_grad_input_accepts(const Problem&);
void winograd_f4_forward(const Problem&, const Operands&);
void winograd_f6_forward(const Problem&, const Operands&);
void winograd_f4_grad_input(const Problem&, const Operands&);
void winograd_f6_grad_input(const Problem&, const Operands&);

}  // namespace fastconv
