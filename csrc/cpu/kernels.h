// The kernels of one instruction set, as a table of function pointers.
//
// Each *_kernels.cpp is compiled once per instruction set and fills its part of the table;
// dispatch.cpp picks one table for the process.  Files that include this one hold no vector code.
#pragma once
#include <stdint.h>

#include "picture.h"

namespace fastconv {

struct GemmKernels {
  int lanes_f32;  // placeholder for the general path's kernels
};

struct PictureKernels {
  void (*gather)(const Picture&, const Window&, float* strip);
  void (*scatter)(const Picture&, const Window&, const float* strip, bool streamed);
};

// One tile size: F(4x4,3x3) or F(6x6,3x3).
struct WinogradTransforms {
  // `element`: floats from one of a tile's elements to the next, in V, M and U.
  void (*input)(float* strip, int64_t tiles, float* v, int64_t element);
  void (*output)(const float* m, int64_t element, int64_t tiles, const float* bias, bool relu,
                 float* strip);
  void (*weights)(const float* weight, int64_t out_stride, int64_t in_stride, bool flip,
                  int64_t count, int64_t depth, float* u, int64_t element);
};

// The product of a chunk of tiles with up to 64 output channels.
struct WinogradProduct {
  const float* u;
  const float* v;
  float* m;
  int64_t elements, depth, panels, tiles;
  int64_t v_element, v_block, m_element, m_block;  // strides, in floats
};

struct WinogradGemm {
  int panel;  // output channels in a panel of U
  int rows;   // tiles that the micro-kernel takes at most
  void (*multiply)(const WinogradProduct&);
};

struct Kernels {
  const char* name;
  const GemmKernels* gemm;
  const PictureKernels* picture;
  const WinogradGemm* winograd;
  const WinogradTransforms* winograd_f4;
  const WinogradTransforms* winograd_f6;
};

// The best set that this processor has, or the one that FASTCONV_ISA names.
const Kernels& kernels();
// All sets that this build holds and this processor has, best first; null at the end.
const Kernels* const* available_kernels();

}  // namespace fastconv
