// One set of transformed weights for both directions.
//
// The gradient to the input is a convolution with the kernels turned by 180 degrees.  Such a kernel
// on a tile gives what the kernel as it is gives on the tile turned by 180 degrees, turned back:
//
//   y = J A^T [ U . (B^T J d J) ] A J          J reverses the order of rows or columns
//
// The transforms read and write in reverse, which costs nothing and rounds alike, and U remains that
// of the forward direction, with inputs and outputs exchanged:
//
//   own     U[o/64][e][o/panel within 64][k][panel o]     k: inputs, o: outputs of this direction
//   other   U[k/64][e][k/panel within 64][o][panel k]     as it was made for the other one
//
// Squares of panel x panel are transposed on the way to the multiplication.
#pragma once
#include "kernels.h"

namespace fastconv::FASTCONV_ISA {

// Where the square of the outputs o ... and inputs k ... begins; k a multiple of the panel.
inline const float* square_at(const WinogradOther& w, int64_t panel, int64_t e, int64_t k, int64_t o) {
  const int64_t block = k / cob_width * cob_width;
  const int64_t rest = w.depth - block;
  const int64_t panels = ceil_div(rest < cob_width ? rest : cob_width, panel);
  const int64_t before = block / panel * w.elements + e * panels + (k - block) / panel;
  return w.u + before * w.panel_floats + o * panel;
}

// to[j][k][i] = U[k][first + j panel + i] of one element e; zero beyond the last output.
void turn_panels(const WinogradOther&, int64_t e, int64_t first, int64_t panels, float* to,
                 int64_t to_panel);

}  // namespace fastconv::FASTCONV_ISA
