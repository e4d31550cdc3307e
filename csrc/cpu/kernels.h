// The kernels of one instruction set, as tables of function pointers.
//
// Each *_kernels.cpp is compiled once per instruction set and fills its part of the table;
// dispatch.cpp picks one table for the process.  Files that include this one hold no vector code.
#pragma once
#include <stdint.h>

#include "decisions.h"
#include "depthwise_kernels.h"
#include "gather_squares.h"
#include "picture.h"

namespace fastconv {

// Where one tap of the sum starts in the two operands, in elements.
struct TapOffset {
  int64_t a, b;
};

// One tile of the gather GEMM; gemm_kernels.cpp tells the equation.
template <class T>
struct TileArguments {
  const TapOffset* taps;
  int64_t tap_count;  // at least 1
  int64_t depth;      // products per tap, at least 1
  const T* a;
  int64_t a_row, a_step;
  const T* b;
  int64_t b_step;
  T* c;
  int64_t c_row;
  const T* row_start;     // added to each row of a fresh tile, or null
  const T* column_start;  // added to each column of a fresh tile, or null
  bool accumulate;        // add to c instead of starting afresh
  bool streamed;          // write around the caches: every row of c is aligned to the vector
};

// Lines of a picture, copied with zeros around them:
//   to[e * to_line + i] = from[(e - first) * from_line + (i - begin) * from_step]
// for lines first <= e < last and begin <= i < end; 0 for the other e < lines, i < length.
template <class T>
struct LinesArguments {
  T* to;
  int64_t to_line, lines, length;
  const T* from;
  int64_t from_line, from_step;
  int64_t first, last, begin, end;
};

// to[m * to_m + t * to_tap + k * to_k] = from[m * from_m + k * from_k + taps[t]]
template <class T>
struct WeightsArguments {
  T* to;
  int64_t to_m, to_tap, to_k;
  const T* from;
  int64_t from_m, from_k;
  const T* end;  // of the whole weight; nothing is read from there on
  const int64_t* taps;
  int64_t m_count, tap_count, k_count;
};

template <class T>
struct GemmKernelsOf {
  static constexpr int most_rows = 14, most_vectors = 8;
  int lanes;  // elements of one vector
  int rows;   // of the largest tile; every smaller count has its kernel too
  // widths[m]: log2 of the most vectors that a tile of m + 1 rows can have; at least 2 of them.
  int widths[most_rows];
  // tile[w][m]: m + 1 rows, 2^w vectors of columns, w <= widths[m].
  void (*tile[4][most_rows])(const TileArguments<T>&);
  void (*copy_lines)(const LinesArguments<T>&);
  // to[i * to_row + j] = from[i * from_row + j * from_column]
  void (*copy_matrix)(T* to, int64_t to_row, const T* from, int64_t from_row, int64_t from_column,
                      int64_t rows, int64_t columns);
  void (*pack_weights)(const WeightsArguments<T>&);
  // to[i * step] = from[i], or += with `add`.  With `owns_gaps` the elements between may be written as
  // they were read: only where no other thread writes them meanwhile.
  void (*spread)(T* to, int64_t step, const T* from, int64_t count, bool add, bool owns_gaps);
  void (*stream_end)();  // after it, other threads see what was streamed
};

struct GemmKernels {
  GemmKernelsOf<float> f32;
  GemmKernelsOf<double> f64;
};

// Sums over lines of pixels; dot_kernels.cpp tells the equation.
template <class T>
struct DotArguments {
  const T* dy;
  const int64_t* rows;  // where each output's plane begins
  int64_t dy_line;
  int64_t ahead;        // what comes next lies so far behind dy
  const T* dy_end;      // nothing is read from there on
  const T* x;
  const int64_t* taps;  // where each tap begins
  int64_t x_line;
  int64_t lines, columns;
  T* sums;  // [row][tap][lanes]
};

template <class T>
struct DotKernelsOf {
  int lanes, rows, taps;  // of a tile: always whole ones
  void (*add)(const DotArguments<T>&);
  // to[i] = the sum of lanes and slices of sums[slice * stride + i * lanes]
  void (*total)(const T* sums, int64_t stride, int64_t slices, int64_t count, T* to);
};

struct DotKernels {
  DotKernelsOf<float> f32;
  DotKernelsOf<double> f64;
};

// Where something is `streamed`, the caller ends with gemm's stream_end: once for many strips.
struct PictureKernels {
  void (*gather)(const Picture&, const Window&, float* strip);
  void (*scatter)(const Picture&, const Window&, const float* strip, bool streamed);
};

struct ChainKernels {
  void (*put)(const Picture& to, const Decisions&, const Window&, const float* strip,
              bool streamed);
  void (*expand)(const Picture& gradient, const Decisions&, const Window&, float* strip);
  void (*add)(const float* other, int64_t rows, int64_t columns, float* strip);
};

struct GramProduct {
  const float* u;
  const float* f;
  const float* constant;
  float* to;
  float* room;                     // as `room` below asks for
  int64_t depth, outputs, pixels;  // outputs: a multiple of 16
  int64_t f_block, to_block;       // strides, in floats
  bool accumulate;
};

// With d[i,p] = f[i,p] - shift[i] of some pixels p:
//
//   total[i] += sum_p d[i,p]
//   sums[i][j] (+)= sum_p d[i,p] d[j,p]      in the 16 x 16 squares on and above the diagonal,
//                                            or in all squares: the sum is then the mean of
//                                            [i][j] and [j][i]
struct GramSum {
  const float* f;
  int64_t f_block, blocks, pixels;  // blocks of 16 channels, and from one to the next
  const float* shift;
  float* total;
  bool fresh;                       // sums hold nothing yet
  float* sums;
  int64_t row;
  float* room;                      // as `room` below asks for
  int64_t soon;                     // so many pixels come next, and are fetched meanwhile
};

struct GramSums {
  int64_t pixels;                   // that it takes at most
  int64_t most_mirrored;            // up to so many blocks in all of them
  int64_t (*room)(int64_t blocks);  // floats
  void (*add)(const GramSum&);
};

struct GramKernels {
  void (*take)(const float* from, int64_t pixels, const float* shift, float* to, float* total);
};

struct GramProducts {
  int panel;                        // outputs in a panel of U
  int64_t pixels;                   // what it takes at once; chunks are multiples of it
  int64_t most_direct;              // blocks of 16 channels that it reads where they lie in memory
  int64_t (*room)(int64_t depth);   // floats
  void (*multiply)(const GramProduct&);
  // A panel as `multiply` wants it, in so many floats.  Null: [k][panel], as it is.
  int64_t (*cut_floats)(int64_t depth);
  void (*cut)(const float* panel, int64_t depth, float* to);
};

// Some blocks of channels on their way to few: rows y - 1 ... y + 1 of each, as strips.
struct Collected {
  static constexpr int most_blocks = 4;  // their rows fill the first-level cache
  int64_t blocks, channels, columns;     // channels: the few
  const float* weights;
  const float* rows[most_blocks][3];
  const float* soon[most_blocks];        // what is read next, to be fetched meanwhile
};

struct FewKernels {
  void (*spread)(const float* lines, int64_t channels, int64_t columns, const float* weights,
                 const float* bias, bool relu, float* strips);
  void (*collect)(const Collected&, float* sums);
  void (*add_lanes)(const float* sums, int64_t channels, int64_t columns, float* rows);
};

// One tile size: F(4x4,3x3) or F(6x6,3x3).
struct WinogradTransforms {
  // `element`: floats from one of a tile's elements to the next, in V, M and U.
  // [1] turns the tiles by 180 degrees (winograd_turn.h).
  void (*input[2])(float* strip, int64_t tiles, float* v, int64_t element);
  void (*output[2])(const float* m, int64_t element, int64_t tiles, const float* bias, bool relu,
                    float* strip);
  void (*weights)(const float* weight, int64_t out_stride, int64_t in_stride, bool flip,
                  int64_t count, int64_t depth, float* u, int64_t element);
};

inline constexpr int64_t cob_width = 64;  // output channels that are multiplied together

// U as the other direction has it (winograd_turn.h); depth and outputs are this direction's.
struct WinogradOther {
  const float* u;
  int64_t elements, depth, outputs;
  int64_t panel_floats;  // its own panels'
};

// The product of a chunk of tiles with some blocks of 64 output channels.
struct WinogradProduct {
  const float* u;
  const float* v;
  float* m;
  int64_t elements, depth, outputs, tiles;
  int64_t u_cob, m_cob;                            // from one block of outputs to the next
  int64_t v_element, v_block, m_element, m_block;  // strides, in floats
  // Or, without `u`: its panels are turned one element at a time, into room for panels x depth x panel
  // floats.
  const WinogradOther* other;
  int64_t first_output;
  float* turned;
  int64_t panel_floats;  // from panel to panel of what is multiplied
  float* room;           // as `room` below asks for
};

struct WinogradGemm {
  int panel;                        // output channels in a panel of U
  int64_t cobs;                     // blocks of outputs that are multiplied together
  int64_t own_tiles, shared_tiles;  // of a chunk, in the two schedules of winograd.cpp
  int64_t own_depth;                // input channels up to which `own` is the faster one
  int64_t (*room)(int64_t depth, int64_t tiles);  // floats
  void (*multiply)(const WinogradProduct&);
  // Panels of element e, `to`[panel][k][panel], from what the other direction has.
  void (*turn)(const WinogradOther&, int64_t e, int64_t first_output, int64_t panels, float* to,
               int64_t to_panel);
};

// sums[i][j] += sum_t a[i/16][t][i%16] b[j/16][t][j%16]
struct OuterProduct {
  const float* a;
  const float* b;
  float* sums;
  int64_t tiles, rows, columns;  // rows: a multiple of 16, columns: of the panel
  int64_t a_block, b_block, sums_row;
  bool fresh;   // sums hold nothing yet
  float* room;  // as `room` below asks for
  const float* ahead = nullptr;  // lines of 64 bytes that are wanted soon, and are fetched meanwhile
  int64_t lines = 0;
};

struct OuterProducts {
  int panel;      // columns that are computed together
  int64_t rows;   // that `add` takes at most
  int64_t tiles;  // of a chunk, at least, so that passing through the sums pays
  int64_t (*room)(int64_t rows, int64_t columns);  // floats
  void (*add)(const OuterProduct&);
};

struct WinogradGradWeight {
  void (*gradient)(float* strip, int64_t tiles, float* w, int64_t element);
  void (*weights)(const float* du, int64_t element, int64_t count, float* dw);
};

// A block of a row of 16-bit integers (ops_packed_rows.cpp), its scale, and one that is read next, to be fetched
// meanwhile.
struct PackedBlock {
  const int16_t* integers;
  float scale;
  const int16_t* soon;
  int64_t count;  // a multiple of `whole`
};

struct PackedRowsKernels {
  static constexpr int64_t whole = 32;
  static constexpr int together = 3;  // vectors that a row is multiplied with
  // The scale of a block, a power of two, with which `to` are integers; `count` a multiple of `whole`.
  float (*pack)(const float* from, int64_t count, int16_t* to);
  // multiply[n - 1]: sums[k] += block . with[k] for k < n
  void (*multiply[together])(const PackedBlock&, const float* const* with, double* sums);
  // to += factor block
  void (*add)(const PackedBlock&, float factor, float* to);
};

struct Kernels {
  const char* name;
  const GemmKernels* gemm;
  const DotKernels* dot;
  const DepthwiseKernels* depthwise;
  const PictureKernels* picture;
  const WinogradGemm* winograd;
  const WinogradTransforms* winograd_f4;
  const WinogradTransforms* winograd_f6;
  const ChainKernels* chain;
  const FewKernels* few;
  const OuterProducts* outer_products;
  const WinogradGradWeight* winograd_grad_weight_f4;
  const WinogradGradWeight* winograd_grad_weight_f6;
  const GramKernels* gram;
  const GramSums* gram_sums[2];  // [1]: of many channels
  const GramProducts* gram_products[2];
  const PackedRowsKernels* packed_rows;
  const SquareKernels* squares = nullptr;  // where there is a matrix unit
};

// The best set that this processor has, or the one that FASTCONV_ISA names.
const Kernels& kernels();
// All sets that this build holds and this processor has, best first; null at the end.
const Kernels* const* available_kernels();

}  // namespace fastconv
