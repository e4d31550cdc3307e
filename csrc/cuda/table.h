// The ordered table of CUDA implementations: the first row that accepts a problem runs it.  The last
// rows (simt.h) accept everything.  To add a faster way for some problems, write it in a file of
// its own, declare it in operations.h and put a row into table.cpp above the general ones.
#pragma once
#include "../geometry.h"

namespace fastconv::cuda {

enum class Operation : int32_t { forward, grad_input, grad_weight };
enum class Type : int32_t { f32, f64, f16, bf16 };
// In what the products of float32 tensors are computed.  fp32 means fp32-accurate.  Halves are
// multiplied as they are; sums of everything but float64 are float32.
enum class Precision : int32_t { fp32, tf32, bf16 };

struct Problem {
  Geometry g;
  Operation operation;
  Type type;  // of all tensors alike
  Precision precision;
  bool channels_last;  // of all pictures alike: x, y, dx, dy; weights are always OIHW
  int32_t capability;  // of the card: 75, 80, 90, ...
  int32_t processors;  // its multiprocessors
};

// What an operation reads and writes; all pictures dense, in the problem's layout.
//   forward:      a = x,  b = weight, out = y
//   grad_input:   a = dy, b = weight, out = dx
//   grad_weight:  a = dy, b = x,      out = dweight
// bias, added, mask and relu are the epilogue of the first two: see epilogue.h.
struct Operands {
  const void* a;
  const void* b;
  const void* bias;
  const void* added;
  const void* mask;
  void* out;
  void* space;           // space_bytes of scratch
  const void* prepared;  // what `prepare` made of the weights, where there is a `prepare`
  bool relu;
};

// What `prepare` makes depends on the weights' shape, the groups, the stride, the type and the
// precision, not on the pictures' sizes: a frozen stack keeps it from size to size.
//
// Functions that launch return 0 or a cudaError_t.  None allocates or waits for the device, so that
// all of them can be captured in a CUDA graph.
struct Implementation {
  const char* name;
  bool (*accepts)(const Problem&);
  int64_t (*prepared_bytes)(const Problem&);  // null: takes the weights as they are
  int (*prepare)(const Problem&, const void* weight, void* prepared, void* stream);
  int64_t (*space_bytes)(const Problem&);  // null: needs none
  int (*launch)(const Problem&, const Operands&, void* stream);
};

const Implementation& choose(const Problem&);

// Whether the problem, in plain layout, had better be computed channels_last between transpositions:
// where that gives it tensor cores, and there are products enough for each number that is moved.
bool worth_transposing(const Problem&);

const Implementation* row_named(const char* name);  // null if there is none

// From now on this row is chosen where it accepts; null: none is preferred.  For benchmarks.
void prefer_row(const Implementation*);

inline int64_t prepared_bytes(const Implementation& row, const Problem& p) {
  return row.prepared_bytes ? row.prepared_bytes(p) : 0;
}
inline int64_t space_bytes(const Implementation& row, const Problem& p) {
  return row.space_bytes ? row.space_bytes(p) : 0;
}

constexpr int64_t bytes_of(Type type) { return type == Type::f64 ? 8 : type == Type::f32 ? 4 : 2; }

}  // namespace fastconv::cuda
