// The kernels of one instruction set, as a table of function pointers.
//
// Each *_kernels.cpp is compiled once per instruction set and fills its part of the table;
// dispatch.cpp picks one table for the process.  Files that include this one hold no vector code.
#pragma once
#include <stdint.h>

namespace fastconv {

struct GemmKernels {
  int lanes_f32;  // placeholder for the general path's kernels
};

struct Kernels {
  const char* name;
  const GemmKernels* gemm;
};

// The best set that this processor has, or the one that FASTCONV_ISA names.
const Kernels& kernels();
// All sets that this build holds and this processor has, best first; null at the end.
const Kernels* const* available_kernels();

}  // namespace fastconv
