// The kernels of moments (gram.h).
//
//   take       to[p][c] = from[p][c] - shift[c],  total[c] += sum_p to[p][c]     16 channels c
//   add        sums[i][j] (+)= sum_p d[i,p] d[j,p],  d = f - shift                  i <= j
//   multiply   to[o][p] (+)= constant[o] + sum_k U[k][o] f[k][p]       p: pixels, o and k: channels
//
//   f, to [channel/16][p][16]      U [o/panel][k][panel]
//
// The sums are outer products as in Winograd's gradient to the weights.  multiply's micro-kernel is
// Winograd's (winograd_gemm_kernels.cpp), but writes where the gradient is.
#include "kernels.h"
#include "lanes.h"

namespace fastconv::FASTCONV_ISA {

extern const OuterProducts outer_products;

namespace {

// Four sums, or each addition would wait for the one before it.
void take(const float* from, int64_t pixels, const float* shift, float* to, float* total) {
  for (int64_t c = 0; c < block_width; c += L) {
    const V less = load(shift + c);
    V sum[4] = {};
    int64_t p = 0;
    for (; p + 4 <= pixels; p += 4)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const V v = load(from + (p + i) * block_width + c) - less;
        store(to + (p + i) * block_width + c, v);
        sum[i] += v;
      }
    for (; p < pixels; ++p) {
      const V v = load(from + p * block_width + c) - less;
      store(to + p * block_width + c, v);
      sum[0] += v;
    }
    store(total + c, load(total + c) + ((sum[0] + sum[1]) + (sum[2] + sum[3])));
  }
}

// Where half of a panel would lie below the diagonal, or beyond the channels.
void square(const float* a, const float* b, int64_t pixels, bool fresh, float* sums, int64_t row) {
  constexpr int rows = L == 16 ? 16 : 8;
  for (int64_t i = 0; i < block_width; i += rows)
    for (int64_t j = 0; j < block_width; j += L) {
      V sum[rows] = {};
      for (int64_t p = 0; p < pixels; ++p) {
        const V column = load(b + p * block_width + j);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) sum[r] += broadcast(a[p * block_width + i + r]) * column;
      }
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        float* to = sums + (i + r) * row + j;
        store(to, fresh ? sum[r] : load(to) + sum[r]);
      }
    }
}

// The features of the next pixels, on their way to the second-level cache line by line while others
// are multiplied: fetched when they are taken, memory would rest during the products, and the products
// during the fetching; fetched many lines at once, both would, as a core waits for a dozen of them
// at most (64 channels at 512 x 512, in a step of style transfer on a Xeon: 7.2 ms, 8.4 at once).
class Soon {
 public:
  Soon(const GramSum& s, int64_t pieces)
      : s_(s), at_(s.f + s.pixels * block_width), piece_(ceil_div(s.soon * s.blocks, pieces)) {}

  struct Lines {  // side by side
    const float* at;
    int64_t count;
  };
  Lines next() {
    if (pixel_ == s_.soon) pixel_ = 0, ++block_, at_ += s_.f_block;
    if (block_ >= s_.blocks) return {nullptr, 0};
    const Lines lines{at_ + pixel_ * block_width, smaller(piece_, s_.soon - pixel_)};
    pixel_ += lines.count;
    return lines;
  }

 private:
  const GramSum& s_;
  const float* at_;  // of the block in work
  int64_t piece_, block_ = 0, pixel_ = 0;
};

constexpr int64_t pixels_summed = 128;                     // at once
constexpr int64_t d_block = (pixels_summed | 1) * block_width;  // odd: see TileStrides

int64_t room_for_sums(int64_t blocks) { return blocks * d_block; }

// The rows of one block of channels after the other, columns from there on.
void add(const GramSum& s) {
  const int64_t wide = panel > block_width ? 2 : 1;  // blocks in a panel
  float* const d = s.room;
  for (int64_t b = 0; b < s.blocks; ++b)
    take(s.f + b * s.f_block, s.pixels, s.shift + b * block_width, d + b * d_block,
         s.total + b * block_width);
  Soon soon(s, s.blocks * s.blocks > 4 ? s.blocks * s.blocks / 4 : 1);
  for (int64_t b = 0; b < s.blocks; ++b) {
    const float* const rows = d + b * d_block;
    float* const sums = s.sums + b * block_width * s.row;
    const auto one = [&](int64_t o) {
      square(rows, d + o * d_block, s.pixels, s.fresh, sums + o * block_width, s.row);
    };
    int64_t o = b;
    if (wide == 2 && b % 2 == 1) one(o++);
    for (; o + wide <= s.blocks; o += wide) {
      const Soon::Lines lines = soon.next();
      outer_products.add({rows, d + o * d_block, sums + o * block_width, s.pixels, block_width,
                          wide * block_width, d_block, d_block, s.row, s.fresh, nullptr, lines.at,
                          lines.count});
    }
    if (o < s.blocks) one(o);
  }
}

template <int Rows>
void ukr_rows_x_panel(const GramProduct& g, const float* u, const float* f, const float* constant,
                      float* low, float* high) {
  V sum[Rows][2] = {};
  // What is read at the end comes while the sums are made; few channels are done before it comes, so
  // that theirs are fetched for the next pixels (64 channels at 512 x 512: 4.75 ms instead of 6.35).
  const int64_t ahead = g.depth > 128 ? 0 : Rows * block_width;
  const int64_t every = g.depth / (2 * Rows) > 1 ? g.depth / (2 * Rows) : 1;
  int64_t due = 0, line = 0;
  for (int64_t k0 = 0; k0 < g.depth; k0 += block_width, f += g.f_block) {
    const int64_t n = smaller(block_width, g.depth - k0);
    for (int64_t k = 0; k < n; ++k, u += panel) {
      prefetch_near(f + (2 * Rows + k) * block_width);  // for the pixels after the next ones
      if (k0 + k == due && line < 2 * Rows) {
        prefetch_to_write((line & 1 ? high : low) + ahead + line / 2 * block_width);
        due += every;
        ++line;
      }
      const V u0 = load(u), u1 = load(u + L);
#pragma GCC unroll 16
      for (int p = 0; p < Rows; ++p) {
        const V x = broadcast(f[p * block_width + k]);
        sum[p][0] += x * u0;
        sum[p][1] += x * u1;
      }
    }
  }
  const V c0 = load(constant), c1 = load(constant + L);
#pragma GCC unroll 16
  for (int p = 0; p < Rows; ++p) {
    float* to[2] = {low + p * block_width, high + p * block_width};
    store(to[0], (g.accumulate ? load(to[0]) + c0 : c0) + sum[p][0]);
    store(to[1], (g.accumulate ? load(to[1]) + c1 : c1) + sum[p][1]);
  }
}

using Ukr = void (*)(const GramProduct&, const float*, const float*, const float*, float*, float*);

struct Ukrs {
  Ukr of_rows[max_rows + 1];
};

template <int... I>
constexpr Ukrs make_ukrs(Indices<I...>) {
  return {{nullptr, ukr_rows_x_panel<I + 1>...}};
}

constexpr Ukrs ukrs = make_ukrs(CountTo<max_rows>::type{});

void multiply(const GramProduct& g) {
  const int64_t groups = ceil_div(g.pixels, max_rows);
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t first = group * g.pixels / groups;
    const int64_t rows = (group + 1) * g.pixels / groups - first;
    for (int64_t o = 0; o < g.outputs; o += panel) {
      const int64_t next = o + L;
      float* to = g.to + first * block_width;
      float* high = next < g.outputs ? to + next / block_width * g.to_block + next % block_width
                                     : g.room;
      ukrs.of_rows[rows](g, g.u + o * g.depth, g.f + first * block_width, g.constant + o,
                         to + o / block_width * g.to_block + o % block_width, high);
    }
  }
}

}  // namespace

constexpr int64_t pixels_at_once = 8 * max_rows;
constexpr int64_t most_direct = 8;  // the caches' sets have 12 ways

// For what a last panel has beyond the outputs.
int64_t room(int64_t) { return max_rows * block_width; }

extern const GramKernels gram_kernels;
const GramKernels gram_kernels = {take};

extern const GramSums gram_sums;
const GramSums gram_sums = {pixels_summed, 0, room_for_sums, add};

extern const GramProducts gram_products;
const GramProducts gram_products = {panel,    pixels_at_once, most_direct, room,
                                    multiply, nullptr,        nullptr};

}  // namespace fastconv::FASTCONV_ISA
