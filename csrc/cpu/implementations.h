// The ordered tables of implementations: for each operation, the first row that accepts a
// problem runs it.  The last row of each table accepts everything.  To add a faster way for some
// shapes, write it in a file of its own and put a row above the general one.
#pragma once
#include "../geometry.h"

namespace fastconv {

enum class DType { f32, f64 };
enum class Algorithm { automatic, direct, f4, f6 };  // of 3x3 convolutions: see winograd.h

struct Problem {
  Geometry g;
  DType dtype;
  bool channels_last;  // of all pictures alike: x, y, dx, dy; weights are always OIHW
  Algorithm algorithm = Algorithm::automatic;
};

// What an operation reads and writes; all pictures dense, in the problem's layout.
//   forward:      a = x,  b = weight, bias = bias or null, out = y
//   grad_input:   a = dy, b = weight, bias = null,         out = dx
//   grad_weight:  a = dy, b = x,      bias = null,         out = dweight
struct Operands {
  const void* a;
  const void* b;
  const void* bias;
  void* out;
  const void* prepared = nullptr;  // b as the implementation would transform it, or null
};

struct Implementation {
  const char* name;
  bool (*accepts)(const Problem&);
  void (*run)(const Problem&, const Operands&);
};

enum class Operation { forward, grad_input, grad_weight };

// The operation's table; its last row is called "general".
const Implementation* implementations_of(Operation operation);
const Implementation& choose(Operation operation, const Problem& problem);

}  // namespace fastconv
