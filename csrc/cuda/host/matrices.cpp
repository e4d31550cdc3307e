// What the lanes of a warp do together with matrices: ldmatrix and mma, and how tensor cores round.
#include "../device.h"

namespace fastconv::emulator {

float truncated(double value) {
  const float nearest = static_cast<float>(value);
  const bool away = nearest > 0 ? nearest > value : nearest < value;
  return away ? float_of(bits_of(nearest) - 1) : nearest;
}

double number(int format, const uint32_t* cells, int k) {
  if (format == tf32) return float_of(cells[k] & 0xffffe000u);  // the unit does not see the rest
  const auto bits = static_cast<uint16_t>(cells[k / 2] >> (k % 2 * 16));
  return format == bf16_pairs ? to_float(bf16{bits}) : to_float(f16{bits});
}

void load_matrices(void* const* of_lanes, bool transposed) {
  uint16_t matrix[4][8][8];
  for (int lane = 0; lane < 32; ++lane) {
    const void* row = static_cast<Matrices*>(of_lanes[lane])->row;
    if (reinterpret_cast<uintptr_t>(row) % 16) fail("ldmatrix of a row at %p, which is not aligned", row);
    memcpy(matrix[lane / 8][lane % 8], row, 16);
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int m = 0; m < 4; ++m) {
      const int row = lane / 4, column = lane % 4 * 2;
      const uint32_t low = transposed ? matrix[m][column][row] : matrix[m][row][column];
      const uint32_t high = transposed ? matrix[m][column + 1][row] : matrix[m][row][column + 1];
      static_cast<Matrices*>(of_lanes[lane])->r[m] = low | high << 16;
    }
}

// Tensor cores add products of full width and then truncate; one rounding toward zero for all is
// the nearest simple model.
void multiply(void* const* of_lanes, int format) {
  const int depth = format == tf32 ? 8 : 16;
  uint32_t rows[16][8], columns[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& p = *static_cast<Product*>(of_lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) rows[g + i % 2 * 8][t + i / 2 * 4] = p.a[i];
    for (int i = 0; i < 2; ++i) columns[g][t + i * 4] = p.b[i];
  }
  double a[16][16], b[8][16];
  for (int k = 0; k < depth; ++k) {
    for (int row = 0; row < 16; ++row) a[row][k] = number(format, rows[row], k);
    for (int column = 0; column < 8; ++column) b[column][k] = number(format, columns[column], k);
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      float& c = static_cast<Product*>(of_lanes[lane])->c[i];
      double sum = c;
      for (int k = 0; k < depth; ++k) sum += a[lane / 4 + i / 2 * 8][k] * b[lane % 4 * 2 + i % 2][k];
      c = truncated(sum);
    }
}

}  // namespace fastconv::emulator
