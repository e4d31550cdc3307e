// What ReLU and 2x2 pooling decided, one bit per element: all that the way back needs of them.
//
// A word holds 16 bits, one per channel of a block.
//
//   without pool   bits[n][block][y][x]                  whether y > 0 here
//   with 2x2 pool  bits[n][block][y/2][x/2][2(y%2)+x%2]  whether the pooled gradient goes here:
//                  maximum: this one was taken (the first of equals), and it is > 0 under ReLU;
//                  average: it is > 0 under ReLU, or always
#pragma once
#include <stdint.h>

namespace fastconv {

enum class Pool { none, maximum, average };

struct Decisions {
  uint16_t* bits;  // null: nothing to decide
  bool relu;
  Pool pool;
  int64_t blocks, height, width;  // before pooling

  int64_t pooled_height() const { return pool == Pool::none ? height : height / 2; }
  int64_t pooled_width() const { return pool == Pool::none ? width : width / 2; }
  int64_t words(int64_t n) const {
    const int64_t each = pool == Pool::none ? 1 : 4;
    return n * blocks * pooled_height() * pooled_width() * each;
  }
  uint16_t* at(int64_t n, int64_t block, int64_t y, int64_t x) const {
    const int64_t each = pool == Pool::none ? 1 : 4;
    return bits + (((n * blocks + block) * pooled_height() + y) * pooled_width() + x) * each;
  }
};

}  // namespace fastconv
