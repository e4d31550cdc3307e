// A matrix of float32 rows that is kept as 16-bit integers, for whoever reads much of it and writes a row at a
// time: half of the memory, and half of the time where memory is what the processor waits for.
//
// A row is cut into blocks of 2048 numbers, each with a power of two in `scales` (rows, blocks) that its integers
// are multiples of.  What a number loses is 1/32767 of the largest one in its block at the most, where that is
// above 2e-34.  A block with an infinity or a NaN becomes NaN as a whole.
//
//   packed_rows_put(vector, row, integers, scales)             row `row`, one int64, = vector
//   packed_rows_products(integers, scales, vectors, to)        to[i, k] = row i . vectors[k], in float64
//   packed_rows_combine(integers, scales, factors, to)         to = sum_i factors[i] row i; rows with factor 0 are
//                                                              not read
//
// integers: (rows, length), length a multiple of 32 that is not below the vectors'; what is beyond them is 0.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "tensors.h"

namespace fastconv {
namespace {

constexpr int64_t block = 2048;  // numbers; with those of three vectors it is in the first-level cache
constexpr int64_t blocks_in_part = 8;
constexpr int together = PackedRowsKernels::together;

struct Matrix {
  int16_t* integers;
  float* scales;
  int64_t rows, length, columns;

  Matrix(const Tensor& integers_, const Tensor& scales_, int64_t columns) : columns(columns) {
    if (integers_.dim() != 2) refuse("packed_rows: expects a matrix of integers");
    rows = integers_.size(0), length = integers_.size(1);
    if (columns < 1 || rows < 1 || length < columns || length % PackedRowsKernels::whole != 0)
      refuse("packed_rows: expects rows of a multiple of 32 integers, not shorter than the vector");
    integers = numbers_of<int16_t>(integers_, rows * length, "packed_rows: the matrix");
    scales = numbers_of<float>(scales_, rows * blocks(), "packed_rows: the scales");
  }
  int64_t blocks() const { return ceil_div(columns, block); }
  int64_t parts() const { return ceil_div(blocks(), blocks_in_part); }
  int64_t length_of(int64_t index) const { return std::min(block, columns - index * block); }
  int64_t whole_of(int64_t index) const {
    return ceil_div(length_of(index), PackedRowsKernels::whole) * PackedRowsKernels::whole;
  }
  int16_t* at(int64_t row, int64_t index) const { return integers + row * length + index * block; }
  float& scale(int64_t row, int64_t index) const { return scales[row * blocks() + index]; }
  // Of a row, with what is wanted soon: the same block of the next row, or after the last row the next block of
  // the first.
  PackedBlock block_of(int64_t row, int64_t index) const {
    const bool is_last = row + 1 == rows;
    const int64_t next = is_last && index + 1 < blocks() ? index + 1 : index;
    return {at(row, index), scale(row, index), at(is_last ? 0 : row + 1, next), whole_of(index)};
  }
  // work(block, part) for all blocks; the parts, and what they hold, do not depend on the number of threads.
  template <class Work>
  void for_blocks(const Work& work) const {
    parallel_for(parts(), [&](int64_t part, int64_t) {
      const int64_t end = std::min(blocks(), (part + 1) * blocks_in_part);
      for (int64_t index = part * blocks_in_part; index < end; ++index) work(index, part);
    });
  }
};

// The numbers of a vector's block, followed by zeros where it does not end with a whole line.
const float* whole_block(const Matrix& matrix, const float* vector, int64_t index, float* buffer) {
  const float* const from = vector + index * block;
  const int64_t length = matrix.length_of(index), whole = matrix.whole_of(index);
  if (length == whole) return from;
  std::copy_n(from, length, buffer);
  std::fill_n(buffer + length, whole - length, 0.f);
  return buffer;
}

void put(const Tensor& vector, const Tensor& at, Tensor integers, Tensor scales) {
  const Matrix matrix(integers, scales, vector.numel());
  const float* numbers = numbers_of<const float>(vector, matrix.columns, "packed_rows: the vector");
  const int64_t row = *numbers_of<const int64_t>(at, 1, "packed_rows: the row's number");
  if (row < 0 || row >= matrix.rows)
    refuse("packed_rows: expects a row below " + std::to_string(matrix.rows) + ", got " + std::to_string(row));
  matrix.for_blocks([&](int64_t index, int64_t) {
    alignas(64) float buffer[block];
    const float* const from = whole_block(matrix, numbers, index, buffer);
    matrix.scale(row, index) = kernels().packed_rows->pack(from, matrix.whole_of(index), matrix.at(row, index));
  });
}

void products(const Tensor& integers, const Tensor& scales, const Tensor& vectors, Tensor to) {
  if (vectors.dim() != 2) refuse("packed_rows: expects a matrix of vectors");
  const int64_t count = vectors.size(0);
  const Matrix matrix(integers, scales, vectors.size(1));
  const float* numbers = numbers_of<const float>(vectors, count * matrix.columns, "packed_rows: the vectors");
  const int64_t all = matrix.rows * count;
  double* found = numbers_of<double>(to, all, "packed_rows: the products");
  std::vector<double> sums(matrix.parts() * all);
  matrix.for_blocks([&](int64_t index, int64_t part) {
    alignas(64) float buffers[together][block];
    for (int64_t first = 0; first < count; first += together) {
      const int several = static_cast<int>(std::min<int64_t>(together, count - first));
      const float* with[together] = {};
      for (int k = 0; k < several; ++k)
        with[k] = whole_block(matrix, numbers + (first + k) * matrix.columns, index, buffers[k]);
      double* const own = sums.data() + part * all + first;
      for (int64_t row = 0; row < matrix.rows; ++row)
        kernels().packed_rows->multiply[several - 1](matrix.block_of(row, index), with, own + row * count);
    }
  });
  std::fill_n(found, all, 0.0);
  for (int64_t part = 0; part < matrix.parts(); ++part)
    for (int64_t i = 0; i < all; ++i) found[i] += sums[part * all + i];
}

void combine(const Tensor& integers, const Tensor& scales, const Tensor& factors, Tensor to) {
  const Matrix matrix(integers, scales, to.numel());
  const double* times = numbers_of<const double>(factors, matrix.rows, "packed_rows: the factors");
  float* result = numbers_of<float>(to, matrix.columns, "packed_rows: the result");
  matrix.for_blocks([&](int64_t index, int64_t) {
    alignas(64) float buffer[block];
    const int64_t length = matrix.length_of(index), whole = matrix.whole_of(index);
    float* const sum = length == whole ? result + index * block : buffer;
    std::fill_n(sum, whole, 0.f);
    for (int64_t row = 0; row < matrix.rows; ++row)
      if (times[row] != 0)
        kernels().packed_rows->add(matrix.block_of(row, index), static_cast<float>(times[row]), sum);
    if (sum == buffer) std::copy_n(buffer, length, result + index * block);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastconv, m) {
  m.def("packed_rows_put(Tensor vector, Tensor row, Tensor(a!) integers, Tensor(b!) scales) -> ()");
  m.def("packed_rows_products(Tensor integers, Tensor scales, Tensor vectors, Tensor(a!) to) -> ()");
  m.def("packed_rows_combine(Tensor integers, Tensor scales, Tensor factors, Tensor(a!) to) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CPU, m) {
  m.impl("packed_rows_put", TORCH_BOX(&put));
  m.impl("packed_rows_products", TORCH_BOX(&products));
  m.impl("packed_rows_combine", TORCH_BOX(&combine));
}

}  // namespace fastconv
