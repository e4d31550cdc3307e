// Panels of U from the other direction's (winograd_turn.h), transposed in registers.
//
// A square of two by two vectors is four transpositions: with AVX-512 64 shuffles, 13 ns from the
// second-level cache, for 256 numbers.  Broadcasting quarters of lines into place before shuffling
// within them, half as many shuffles, took 13.4 ns.
#include "lanes.h"
#include "winograd_turn.h"

namespace fastconv::FASTCONV_ISA {
namespace {

template <bool Full>
inline void turn_square(const float* from, int64_t outputs, float* to) {
  for (int i = 0; i < panel; i += L)
    for (int k = 0; k < panel; k += L) {
      V rows[L];
#pragma GCC unroll 16
      for (int r = 0; r < L; ++r)
        rows[r] = Full || i + r < outputs ? load(from + (i + r) * panel + k) : V{};
      transpose(rows);
#pragma GCC unroll 16
      for (int r = 0; r < L; ++r) store(to + (k + r) * panel + i, rows[r]);
    }
}

}  // namespace

// Along k outside: the squares of neighbouring outputs are neighbours in memory.
void turn_panels(const WinogradOther& w, int64_t e, int64_t first, int64_t panels, float* to,
                 int64_t to_panel) {
  for (int64_t k = 0; k < w.depth; k += panel)
    for (int64_t j = 0; j < panels; ++j) {
      const int64_t o = first + j * panel;
      const float* from = square_at(w, panel, e, k, o);
      float* square = to + j * to_panel + k * panel;
      if (o + panel <= w.outputs && k + panel <= w.depth) {
        turn_square<true>(from, panel, square);
        continue;
      }
      alignas(64) float whole[panel * panel];
      turn_square<false>(from, w.outputs - o, whole);
      memcpy(square, whole, static_cast<size_t>(smaller(panel, w.depth - k) * panel) * sizeof(float));
    }
}

}  // namespace fastconv::FASTCONV_ISA
