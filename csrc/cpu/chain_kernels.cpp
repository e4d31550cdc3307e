// Strips of a stack that stays in the blocked layout: ReLU and pooling, forward and back.
//
//   put      picture = pool(strip), with the decisions noted as bits (decisions.h)
//   expand   strip[i][j] = the gradient before pool and ReLU, from the one after them; no
//            unpooled gradient ever exists in memory
//   add      strip += what a rectangle of another picture holds
//
// The strip has been through bias and ReLU when it comes to `put`.
#include "kernels.h"
#include "lanes.h"

namespace fastconv::FASTCONV_ISA {
namespace {

#if defined(FASTCONV_VECTORS)
typedef int32_t I __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));

// Bit i of the result: lane i of v is -1, not 0.
inline unsigned bits_of(I v) {
#if defined(__AVX512DQ__)
  return _mm512_movepi32_mask((__m512i)v);
#elif defined(__AVX__)
  return _mm256_movemask_ps((__m256)v);
#elif defined(__SSE2__)
  return _mm_movemask_ps((__m128)v);
#else
  unsigned bits = 0;
  for (int i = 0; i < L; ++i) bits |= static_cast<unsigned>(v[i] & 1) << i;
  return bits;
#endif
}

template <int... Lane>
inline I lane_bits(Indices<Lane...>) {
  return I{(1 << Lane)...};
}

// v where the bit of its lane is set, else 0.
inline V where(unsigned bits, V v) {
#if defined(__AVX512F__)
  return (V)_mm512_maskz_mov_ps(static_cast<__mmask16>(bits), (__m512)v);
#else
  const I set = (static_cast<int32_t>(bits) - I{}) & lane_bits(typename CountTo<L>::type{});
  return set != 0 ? v : V{};
#endif
}
#else
typedef int32_t I;  // its lowest bit tells
inline unsigned bits_of(I v) { return static_cast<unsigned>(v) & 1; }
inline V where(unsigned bits, V v) { return bits & 1 ? v : V{}; }
#endif

void put_row(const float* from, int64_t columns, float* to, uint16_t* bits, bool streamed) {
  for (int64_t x = 0; x < columns; ++x) {
    unsigned word = 0;
    for (int64_t c = 0; c < block_width; c += L) {
      const V v = load(from + x * block_width + c);
      word |= bits_of(v > 0) << c;
      if (streamed)
        stream(to + x * block_width + c, v);
      else
        store(to + x * block_width + c, v);
    }
    if (bits) bits[x] = static_cast<uint16_t>(word);
  }
}

// The larger of two, with the rule of torch: the first of equals, and a NaN above all.
inline I takes_over(V next, V best) { return (next > best) | (next != next); }

void put_maxima(const float* from, int64_t columns, bool relu, float* to, uint16_t* bits) {
  for (int64_t x = 0; x < columns; ++x)
    for (int64_t c = 0; c < block_width; c += L) {
      const float* at = from + 2 * x * block_width + c;
      const V v0 = load(at), v1 = load(at + block_width);
      const V v2 = load(at + Strip::row), v3 = load(at + Strip::row + block_width);
      const I t1 = takes_over(v1, v0);
      const V m1 = t1 ? v1 : v0;
      const I t2 = takes_over(v2, m1);
      const V m2 = t2 ? v2 : m1;
      const I t3 = takes_over(v3, m2);
      const V m3 = t3 ? v3 : m2;
      const I on = relu ? m3 > 0 : I{} - 1;
      const I taken[4] = {~t3 & ~t2 & ~t1 & on, ~t3 & ~t2 & t1 & on, ~t3 & t2 & on, t3 & on};
      store(to + x * block_width + c, m3);
      for (int i = 0; i < 4; ++i) {
        uint16_t& word = bits[x * 4 + i];
        word = static_cast<uint16_t>((c ? word : 0) | bits_of(taken[i]) << c);
      }
    }
}

void put_averages(const float* from, int64_t columns, bool relu, float* to, uint16_t* bits) {
  for (int64_t x = 0; x < columns; ++x)
    for (int64_t c = 0; c < block_width; c += L) {
      const float* at = from + 2 * x * block_width + c;
      const V v[4] = {load(at), load(at + block_width), load(at + Strip::row),
                      load(at + Strip::row + block_width)};
      store(to + x * block_width + c, 0.25f * ((v[0] + v[1]) + (v[2] + v[3])));
      for (int i = 0; i < 4; ++i) {
        uint16_t& word = bits[x * 4 + i];
        const unsigned on = relu ? bits_of(v[i] > 0) : 0xffff;
        word = static_cast<uint16_t>((c ? word : 0) | on << c);
      }
    }
}

// `window` says where the strip stands before pooling; `to` has the sizes after it.
void put(const Picture& to, const Decisions& d, const Window& window, const float* strip,
         bool streamed) {
  const int64_t step = d.pool == Pool::none ? 1 : 2;
  const int64_t y0 = window.y / step, x0 = window.x / step;
  const int64_t rows = smaller(window.rows / step, to.height - y0);
  const int64_t columns = smaller(window.columns / step, to.width - x0);
  for (int64_t i = 0; i < rows; ++i) {
    const float* from = strip + step * i * Strip::row + Strip::slack * block_width;
    float* out = to.data + window.n * to.image + window.block * to.block + (y0 + i) * to.row +
                 x0 * to.pixel;
    uint16_t* bits = d.bits ? d.at(window.n, window.block, y0 + i, x0) : nullptr;
    if (d.pool == Pool::none)
      put_row(from, columns, out, bits, streamed && aligned(out));
    else if (d.pool == Pool::maximum)
      put_maxima(from, columns, d.relu, out, bits);
    else
      put_averages(from, columns, d.relu, out, bits);
  }
}

void zero(float* to, int64_t columns) {
  for (int64_t i = 0; i < columns * block_width; i += L) store(to + i, V{});
}

// `bits` and `from` stand at column 0 of the picture, `to` where that column would be.
template <bool Pooled>
void expand_row(const float* from, const uint16_t* bits, int64_t first, int64_t last, float scale,
                float* to) {
  for (int64_t x = first; x < last; ++x) {
    const unsigned word = Pooled ? bits[x / 2 * 4 + x % 2] : bits[x];
    const float* pixel = from + (Pooled ? x / 2 : x) * block_width;
    for (int64_t c = 0; c < block_width; c += L)
      store(to + x * block_width + c, scale * where(word >> c, load(pixel + c)));
  }
}

void expand(const Picture& gradient, const Decisions& d, const Window& window, float* strip) {
  const int64_t step = d.pool == Pool::none ? 1 : 2;
  const int64_t height = step * gradient.height, width = step * gradient.width;
  const int64_t first = larger(window.x, 0), last = smaller(window.x + window.columns, width);
  const float scale = d.pool == Pool::average ? 0.25f : 1.f;
  for (int64_t i = 0; i < window.rows; ++i) {
    const int64_t y = window.y + i;
    float* row = strip + i * Strip::row + Strip::slack * block_width;
    if (y < 0 || y >= height || first >= last) {
      zero(row, window.columns);
      continue;
    }
    const float* from = gradient.data + window.n * gradient.image +
                        window.block * gradient.block + y / step * gradient.row;
    const uint16_t* bits = d.at(window.n, window.block, y / step, 0);
    float* to = row - window.x * block_width;
    if (step == 1)
      expand_row<false>(from, bits, first, last, scale, to);
    else
      expand_row<true>(from, bits + y % 2 * 2, first, last, scale, to);
    zero(row, first - window.x);
    zero(to + last * block_width, window.x + window.columns - last);
  }
}

void add(const float* other, int64_t rows, int64_t columns, float* strip) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t at = 0; at < columns * block_width; at += L) {
      const int64_t place = i * Strip::row + Strip::slack * block_width + at;
      store(strip + place, load(strip + place) + load(other + place));
    }
}

}  // namespace

extern const ChainKernels chain_kernels;
const ChainKernels chain_kernels = {put, expand, add};

}  // namespace fastconv::FASTCONV_ISA
