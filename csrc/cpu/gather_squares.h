// The kernels of gather_squares.cpp, for instruction sets that have a matrix unit.
//
//   B   a block's source pixels   [k / 32][piece][k % 16][pixel: k, k + 16]
//   A   weights                   [m / 16][tap][k / 32][piece][m % 16][k: k, k + 16]
//
// in pairs of pieces (amx.h).  Lines of B are as long as a block's copy, so that a tap is an offset.
#pragma once
#include <stdint.h>

namespace fastconv {

struct SquareTap {
  int64_t a, b;  // where it begins, in pairs
};

// c[m][q] (+)= sum over taps and k: A(m, tap, k) B(k, q + tap), in squares of 32 x 32.
struct SquareProduct {
  const uint32_t* a;
  int64_t a_rows;    // from 16 rows to the next
  const uint32_t* b;
  int64_t b_line;    // from one k to the next
  const SquareTap* taps;
  int64_t tap_count, steps;
  int64_t rows, pixels;  // rows: up to 32; both may be written up to the end of a square
  float* c;
  int64_t c_row;
  bool accumulate;
};

struct SquareKernels {
  static constexpr int64_t step = 32, step_lines = 48;  // of k; of B
  static constexpr int64_t square_pairs = 768;          // of A: 16 rows of a step
  // 32 planes, of which some may be missing: the lines of one step.
  void (*cut_planes)(const float* from, int64_t plane, int64_t planes, int64_t pixels, uint32_t* b,
                     int64_t b_line);
  // Up to 16 rows of `depth` numbers: their squares, step by step.
  void (*cut_rows)(const float* from, int64_t row, int64_t rows, int64_t depth, uint32_t* a);
  void (*multiply)(const SquareProduct&);
};

}  // namespace fastconv
